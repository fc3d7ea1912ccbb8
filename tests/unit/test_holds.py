"""One run at a time loads a source: the second is told who does, and what a dead process held is taken over."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pipeline.errors import LeaseLost, SourceBusy
from pipeline.ledger import Ledger
from pipeline.ledger.holds import Hold
from pipeline.ledger.runs import NewRun
from pipeline.settings import Settings
from pipeline.types import RUN
from tests.services import wait_until
from workers.broker.dispatch import Dispatcher
from workers.cli import run
from workers.jobs import hold as holds
from workers.jobs.hold import Beating, holder, holding, told

DOCS, LETTERS = "file:///srv/docs", "file:///srv/letters"
SYNC = NewRun("documents", "sync", "handbook")
LOAD = NewRun("documents")

#: A process that nobody here can see, of another host.
ELSEWHERE = "sync-00000000@elsewhere/4711"

#: A process in a container that has the name of this host, but for its id.
CONTAINER = f"sync-00000000@{socket.gethostname()}/"


def outcomes(ledger: Ledger) -> list[str]:
    return [past.outcome for past in ledger.runs.history()]


@contextmanager
def beaten(ledger: Ledger, ours: Hold) -> Iterator[None]:
    """While the process of a run lives."""
    with Beating(partial(ledger.holds.beat, ours), 0.4):
        yield


@pytest.fixture
def dead() -> int:
    """The id of a process that has been killed and not waited for, as by a shell that is busy."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        return process.pid
    finally:
        threading.Timer(20, process.communicate).start()


def test_a_root_is_of_one_run_at_a_time(ledger: Ledger) -> None:
    first, ours = ledger.holds.begin(SYNC, [DOCS], "sync-x@host/1")
    assert ours
    assert ledger.holds.begin(LOAD, [LETTERS, DOCS], "load-x@host/2") == (first, False)
    assert ledger.holds.begin(LOAD, [f"{DOCS}/below"], "load-x@host/3")[1]
    assert ledger.holds.begin(NewRun("others"), [DOCS], "load-x@host/4")[1]
    assert (first.run, first.action, first.source, first.roots) == (1, "sync", "handbook", (DOCS,))
    assert outcomes(ledger) == ["going on"] * 3  # one that is refused is no run
    assert {(lease.stage, lease.of_documents) for lease in ledger.flow.leases()} == {(RUN, False)}
    ledger.holds.end(first.lease)
    assert ledger.holds.holder("documents", [DOCS]) is None
    assert ledger.holds.begin(LOAD, [LETTERS, DOCS], "load-x@host/2")[1]


def test_of_many_that_begin_at_once_one_has_the_root(ledger: Ledger, url: str) -> None:
    together = threading.Barrier(8)

    def begin(number: int) -> tuple[Hold, bool]:
        with Ledger.open(url) as mine:
            together.wait(30)
            return mine.holds.begin(SYNC, [DOCS], f"sync-x@host/{number}")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(begin, range(8)))
    assert [ours for _, ours in found].count(True) == 1
    assert len({one.lease for one, _ in found}) == 1
    assert len(ledger.runs.history()) == 1


def test_a_lease_that_was_only_taken_back_is_taken_anew(ledger: Ledger) -> None:
    first, _ = ledger.holds.begin(SYNC, [DOCS], "sync-x@host/1")
    ledger.holds.take_back(replace(first, beat=7))  # it has sent a heartbeat since
    assert ledger.holds.holder("documents", [DOCS]) == first
    ledger.holds.take_back(first)
    ledger.holds.beat(first)
    assert ledger.holds.holder("documents", [DOCS]) == first
    ledger.holds.take_back(first)
    second, ours = ledger.holds.begin(LOAD, [DOCS], "load-x@host/2")
    assert ours
    with pytest.raises(LeaseLost, match=f"run {second.run} has taken its place"):
        ledger.holds.beat(first)


def test_a_dispatcher_takes_back_what_nobody_beats(ledger: Ledger, tmp_path: Path) -> None:
    class Queues:
        def send(self, batch: object) -> None: ...
        def depth(self, stage: object) -> int:
            return 0

    first, _ = ledger.holds.begin(SYNC, [DOCS], ELSEWHERE)
    dispatcher = Dispatcher(ledger, Queues(), Settings(data_dir=tmp_path, lease_s=0.4))
    with beaten(ledger, first):
        for _ in range(6):
            time.sleep(0.1)
            dispatcher.sweep()
    assert ledger.holds.holder("documents", [DOCS]) is not None
    for _ in range(6):
        time.sleep(0.1)
        dispatcher.sweep()
    assert ledger.holds.holder("documents", [DOCS]) is None
    assert outcomes(ledger) == ["not finished"]


def test_the_second_is_told_who_holds_the_source(ledger: Ledger) -> None:
    with holding(ledger, SYNC, [DOCS], 60.0) as (first, still_ours):
        began = time.monotonic()
        with pytest.raises(SourceBusy) as caught, holding(ledger, LOAD, [LETTERS, DOCS], 60.0):
            pass
        assert time.monotonic() - began < 2 * holds.BEAT_EVERY_S + 2
        still_ours()
    words = rf"source 'handbook' is being synced by run {first} \(pid {os.getpid()} on {re.escape(socket.gethostname())}, since "
    assert re.fullmatch(words + r"\d\d:\d\d\); wait for it to finish, or stop it", str(caught.value))
    with holding(ledger, LOAD, [LETTERS, DOCS], 60.0) as (second, _):
        assert second == first + 1
    assert ledger.flow.leases() == []


def test_a_hold_by_path_names_the_path_and_an_old_one_its_day(ledger: Ledger) -> None:
    hold, _ = ledger.holds.begin(LOAD, ["file:///srv/a%20b", DOCS], ELSEWHERE)
    text = told(replace(hold, since=0.0), [LETTERS, "file:///srv/a%20b"])
    words = r"/srv/a b is being loaded by run 1 \(pid 4711 on elsewhere, since (1970-01-01|1969-12-31) \d\d:\d\d\)"
    assert re.fullmatch(words, text)


def test_what_a_dead_process_of_this_host_held_is_taken_over_at_once(ledger: Ledger, dead: int) -> None:
    owner = holds._owner("sync").rpartition("/")[0]
    ledger.holds.begin(SYNC, [DOCS], f"{owner}/{dead}")
    assert holder(ledger, "documents", [DOCS]) is None
    began = time.monotonic()
    with holding(ledger, LOAD, [DOCS], 600.0) as (run_number, _):
        assert time.monotonic() - began < 10
        assert run_number == 2


@pytest.mark.parametrize("owner", [ELSEWHERE, f"{CONTAINER}1", CONTAINER])
def test_what_another_host_or_container_held_is_taken_over_when_it_is_silent(
    ledger: Ledger, owner: str, dead: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "TELL_S", 0.3)
    silent, _ = ledger.holds.begin(SYNC, [DOCS], f"{owner}{dead}" if owner == CONTAINER else owner)
    assert holder(ledger, "documents", [DOCS]) == silent  # nobody here knows that it is dead
    began = time.monotonic()
    with holding(ledger, LOAD, [DOCS], 1.0):
        assert 1.0 <= time.monotonic() - began < 15
    assert [record.getMessage().partition("(")[0] for record in caplog.records] == ["source 'handbook' is being synced by run 1 "]


def test_what_another_host_holds_and_beats_is_not_taken_over(ledger: Ledger) -> None:
    lives, _ = ledger.holds.begin(SYNC, [DOCS], ELSEWHERE)
    with beaten(ledger, lives), pytest.raises(SourceBusy, match="pid 4711 on elsewhere"), holding(ledger, LOAD, [DOCS], 30.0):
        pass


def test_a_run_whose_place_is_taken_learns_of_it(ledger: Ledger) -> None:
    with holding(ledger, SYNC, [DOCS], 0.4) as (_, still_ours):
        (lease,) = ledger.flow.leases()

        def taken() -> bool:
            ledger.holds.end(lease.id)
            return ledger.holds.begin(LOAD, [DOCS], ELSEWHERE)[1]

        def lost() -> bool:
            try:
                still_ours()
            except LeaseLost as error:
                return "has taken its place" in str(error)
            return False

        wait_until(taken, "somebody else was first", 30, every_s=0.0)
        wait_until(lost, "it has learnt of it", 30)


@pytest.fixture
def command(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs a command in this process; gives its status and what it said on stderr."""

    def ask(*arguments: str) -> tuple[int, str]:
        status = run(arguments)
        return status, capsys.readouterr().err

    return ask


def test_commands_that_load_one_source_exclude_each_other(
    command: Callable[..., tuple[int, str]], data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "BEAT_EVERY_S", 0.2)
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.md").write_text("# A\n\nWords.\n")
    (tmp_path / "link").symlink_to(folder)
    assert command("source", "add", "texts", str(folder))[0] == 0
    assert command("schedule", "add", "nightly", "--cron", "0 2 * * *", "--source", "texts")[0] == 0
    lines = [
        ("load", str(folder), "--no-wait"),
        ("load", str(tmp_path / "link"), "--no-wait"),
        ("load", str(folder), "--sync"),
        ("sync", "texts", "--no-wait"),
        ("schedule", "run-now", "nightly"),
    ]
    with Ledger.open(f"sqlite:///{data_dir / 'kb.db'}") as ledger:
        with holding(ledger, NewRun("documents", "sync", "texts"), [folder.resolve().as_uri()], 60.0):
            for line in lines:
                status, err = command(*line)
                assert status == 1, line
                assert err.startswith("error: source 'texts' is being synced by run 1 (pid "), line
                assert err.count("\n") == 1, line
            assert command("load", str(folder / "a.md"), "--no-wait")[0] == 0  # another path
            assert command("load", str(folder), "--no-wait", "--collection", "others")[0] == 0
        assert outcomes(ledger) == ["not finished"] * 3
        assert command("load", str(folder), "--no-wait")[0] == 0
        assert command("sync", "texts", "--no-wait")[0] == 0
        assert ledger.flow.leases() == []
