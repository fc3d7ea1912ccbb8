"""Schedules in the ledger: what is due is claimed once, and runs are compared with the ones before."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from pipeline.errors import LeaseLost
from pipeline.ledger import Ledger
from pipeline.ledger.schedules import Schedule
from pipeline.ledger.schema import documents, runs, writing
from pipeline.settings import Settings
from pipeline.steps.plan import measured_rate
from pipeline.types import SCHEDULE
from workers.broker.dispatch import Dispatcher
from workers.cli import run
from workers.jobs.hold import Beating
from workers.schedules.due import next_slot
from workers.schedules.run import carry_out

#: 2026-05-04 12:00 UTC, and the slot of "0 2 * * *" before and after it.
NOON = 1777896000


NIGHT, NEXT_NIGHT = NOON - 10 * 3600, NOON + 14 * 3600


def add(ledger: Ledger, name: str = "nightly", cron: str = "0 2 * * *", action: str = "sync", now: float = NOON) -> Schedule:
    assert ledger.schedules.add(name, cron, "UTC", "papers", action, now)
    return get(ledger, name)


def get(ledger: Ledger, name: str = "nightly") -> Schedule:
    found = ledger.schedules.get(name)
    assert found is not None
    return found


def outcomes(ledger: Ledger) -> list[str]:
    return [past.outcome for past in ledger.runs.history()]


def test_a_new_schedule_waits_for_its_first_time(ledger: Ledger) -> None:
    new = add(ledger)
    assert next_slot(new, NOON) == NEXT_NIGHT
    assert next_slot(new, NEXT_NIGHT - 1) == NEXT_NIGHT
    assert not ledger.schedules.add("nightly", "0 3 * * *", "UTC", "papers", "sync", NOON)
    assert get(ledger).cron == "0 2 * * *"


def test_missed_slots_are_one(ledger: Ledger) -> None:
    add(ledger)
    week = NEXT_NIGHT + 7 * 86400 + 600
    seen = get(ledger)
    assert next_slot(seen, week) == NEXT_NIGHT + 7 * 86400
    lease = ledger.schedules.claim_slot(seen, NEXT_NIGHT + 7 * 86400, "one")
    assert lease is not None
    ledger.schedules.release(lease)
    assert next_slot(get(ledger), week) == NEXT_NIGHT + 8 * 86400


def test_of_many_claimants_one_has_the_slot(ledger: Ledger, url: str) -> None:
    add(ledger)
    seen = get(ledger)
    together = threading.Barrier(8)

    def claim(number: int) -> str | None:
        mine = Ledger.open(url)
        try:
            together.wait(30)
            if number % 4:
                return mine.schedules.claim_slot(seen, NEXT_NIGHT, f"claimant/{number}")
            return mine.schedules.claim_now("nightly", f"claimant/{number}")
        finally:
            mine.close()

    with ThreadPoolExecutor(8) as pool:
        leases = [lease for lease in pool.map(claim, range(8)) if lease]
    assert leases == [get(ledger).lease]
    assert [lease.stage for lease in ledger.flow.leases()] == [SCHEDULE]


def test_a_slot_during_a_run_is_caught_up_after_it(ledger: Ledger) -> None:
    seen = add(ledger)
    lease = ledger.schedules.claim_slot(seen, NEXT_NIGHT, "one")
    assert lease is not None
    later = NEXT_NIGHT + 3 * 86400
    assert ledger.schedules.claim_slot(get(ledger), later, "two") is None
    assert ledger.schedules.claim_now("nightly", "three") is None
    ledger.schedules.release(lease)
    assert next_slot(get(ledger), later) == later
    assert ledger.schedules.claim_slot(get(ledger), later, "two")


def test_what_is_told_to_stop_is_due_again_and_what_dies_is_not(ledger: Ledger) -> None:
    lease = ledger.schedules.claim_slot(add(ledger), NEXT_NIGHT, "one")
    assert lease is not None
    ledger.runs.start("documents", "sync", "papers", "nightly")
    assert outcomes(ledger) == ["going on"]
    ledger.schedules.release(lease, missed=True)
    assert outcomes(ledger) == ["interrupted"]
    assert next_slot(get(ledger), NEXT_NIGHT + 60) == NEXT_NIGHT
    again = ledger.schedules.claim_slot(get(ledger), NEXT_NIGHT, "one")
    assert again is not None
    ledger.schedules.release(again)
    ledger.schedules.release(again, missed=True)  # it was released before: nothing happens
    assert next_slot(get(ledger), NEXT_NIGHT + 60) == NEXT_NIGHT + 86400


def test_a_pause_lets_slots_pass(ledger: Ledger) -> None:
    seen = add(ledger)
    assert ledger.schedules.pause("nightly")
    assert next_slot(get(ledger), NEXT_NIGHT + 60) is None
    assert ledger.schedules.claim_slot(seen, NEXT_NIGHT, "one") is None
    assert ledger.schedules.resume("nightly", NEXT_NIGHT + 120)
    assert next_slot(get(ledger), NEXT_NIGHT + 180) == NEXT_NIGHT + 86400
    assert not ledger.schedules.pause("other")
    assert not ledger.schedules.resume("other", NOON)


def test_a_schedule_that_is_removed_ends_its_run(ledger: Ledger) -> None:
    lease = ledger.schedules.claim_slot(add(ledger), NEXT_NIGHT, "one")
    assert lease is not None
    ledger.schedules.beat(lease)
    assert ledger.schedules.of_lease(lease) == get(ledger)
    assert ledger.schedules.remove("nightly")
    assert not ledger.schedules.remove("nightly")
    with pytest.raises(LeaseLost):
        ledger.schedules.beat(lease)
    assert ledger.flow.leases() == []


def test_a_dead_process_loses_its_lease_to_the_dispatcher(ledger: Ledger, tmp_path: Path) -> None:
    lease = ledger.schedules.claim_slot(add(ledger), NEXT_NIGHT, "one/1")
    assert lease is not None
    ledger.runs.start("documents", "sync", "papers", "nightly")

    class Queues:
        def send(self, batch: object) -> None: ...
        def depth(self, stage: object) -> int:
            return 0

    dispatcher = Dispatcher(ledger, Queues(), Settings(data_dir=tmp_path, lease_s=0.2))
    dispatcher.sweep()
    with Beating(partial(ledger.schedules.beat, lease), 0.2) as beating:
        for _ in range(5):
            time.sleep(0.1)
            dispatcher.sweep()
        beating.still_ours()
    assert get(ledger).lease == lease
    time.sleep(0.3)
    dispatcher.sweep()
    time.sleep(0.3)
    dispatcher.sweep()
    assert get(ledger).lease is None
    assert outcomes(ledger) == ["interrupted"]
    assert ledger.schedules.claim_now("nightly", "two") is not None
    with Beating(partial(ledger.schedules.beat, lease), 0.2) as beating:
        time.sleep(0.2)
        with pytest.raises(LeaseLost):
            beating.still_ours()


def put(ledger: Ledger, number: int, state: str, chunks: int, run_number: int) -> None:
    row = {
        "id": f"document-{number}", "collection": "documents", "uri": f"file:///{number}", "size": 1, "mtime_ns": 1,
        "content_hash": str(number), "state": state, "run": run_number, "chunks": chunks, "embedded": chunks, "updated_at": 1.0,
    }  # fmt: skip
    with writing(ledger.engine) as connection:
        connection.execute(insert(documents).values(row))


def took(ledger: Ledger, number: int, seconds: float) -> None:
    with writing(ledger.engine) as connection:
        connection.execute(update(runs).where(runs.c.id == number).values(started_at=runs.c.finished_at - seconds))


def test_a_run_is_compared_with_the_one_before_of_its_kind(ledger: Ledger) -> None:
    first = ledger.runs.start("documents", "sync", "papers", "nightly")
    put(ledger, 1, "indexed", 10, first)
    put(ledger, 2, "indexed", 30, first)
    ledger.runs.end(first, "done")
    took(ledger, first, 4.0)
    other = ledger.runs.start("documents", "sync", "letters")  # another source
    ledger.runs.end(other, "done")
    half = ledger.runs.start("documents", "sync", "papers")
    ledger.runs.end(half, "interrupted")
    lost = ledger.runs.start("documents", "sync", "papers", "nightly")  # nobody knows what it came to
    second = ledger.runs.start("documents", "sync", "papers")  # by hand
    put(ledger, 3, "indexed", 5, second)
    put(ledger, 4, "quarantined", 0, second)
    put(ledger, 5, "deleted", 7, first)
    ledger.runs.end(second, "partly")
    took(ledger, second, 2.0)
    checked = ledger.runs.start("documents", "verify", "papers")
    ledger.runs.end(checked, "failed", "2 points missing", (3, 43, 2))
    took(ledger, checked, 1.0)
    past = {one.run.id: one for one in ledger.runs.history()}
    assert list(past) == [checked, second, lost, half, other, first]
    assert past[first].difference is None
    assert (past[first].figures, past[second].before) != (None, None)
    figures, difference = past[second].figures, past[second].difference
    assert past[second].before == first
    assert figures is not None
    assert difference is not None
    assert (figures.documents, figures.chunks, figures.failures, figures.chunks_per_s) == (4, 45, 1, 2.5)
    assert (difference.documents, difference.chunks, difference.failures, difference.chunks_per_s) == (2, 5, 1, -7.5)
    assert (past[lost].outcome, past[lost].figures, past[lost].seconds) == ("interrupted", None, None)
    assert getattr(past[checked].figures, "chunks_per_s", None) == 43.0
    assert [one.run.id for one in ledger.runs.history(source="letters")] == [other]
    assert [one.run.id for one in ledger.runs.history(limit=1, schedule="nightly")] == [lost]


def test_a_load_that_nobody_waits_for_is_not_called_interrupted(ledger: Ledger) -> None:
    ledger.runs.start("documents")
    assert outcomes(ledger) == ["not finished"]


@pytest.mark.parametrize("action", ["sync", "verify", "reindex"])
def test_what_fails_before_it_begins_is_a_run_too(ledger: Ledger, tmp_path: Path, action: str) -> None:
    lease = ledger.schedules.claim_slot(add(ledger, action=action), NEXT_NIGHT, "one")
    assert lease is not None
    with Beating(partial(ledger.schedules.beat, lease), 60.0) as beating:
        past = carry_out(Settings(data_dir=tmp_path), ledger, get(ledger), beating, lambda _: None)
    assert (past.outcome, past.run.schedule, past.run.action) == ("failed", "nightly", action)
    assert past.run.detail == "there is no source 'papers' (known: none yet); `kb-ingest source add` makes one"


@pytest.fixture
def command(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs a command in this process; gives its status and what it said."""
    (tmp_path / "papers").mkdir()

    def ask(*arguments: str) -> tuple[int, str]:
        status = run(arguments)
        said = capsys.readouterr()
        return status, said.out + said.err

    assert ask("source", "add", "papers", str(tmp_path / "papers"))[0] == 0
    return ask


def test_schedules_are_managed_by_commands(command: Callable[..., tuple[int, str]]) -> None:
    new = ("--cron", "0 2 * * *", "--source", "papers")
    assert "no schedules yet" in command("schedule", "list")[1]
    status, text = command("schedule", "add", "nightly", *new, "--timezone", "Europe/Berlin")
    assert (status, "sync of papers, next 20" in text, "02:00:00+0" in text) == (0, True, True)
    assert command("schedule", "add", "nightly", *new)[0] == 1
    assert "five fields" in command("schedule", "add", "x", "--cron", "daily", "--source", "papers")[1]
    assert "no source 'letters'" in command("schedule", "add", "x", "--cron", "0 2 * * *", "--source", "letters")[1]
    assert command("schedule", "add", "x", *new, "--action", "dance")[0] == 2
    assert "1 to 100 characters" in command("schedule", "add", " ", *new)[1]
    assert command("schedule", "add", "check", "--cron", "0 3 * * 0", "--source", "papers", "--action", "verify")[0] == 0
    listed = {one["name"]: one for one in json.loads(command("schedule", "list", "--json")[1])}
    assert listed["nightly"]["next_run"].partition(" ")[2].startswith("02:00:00+0")
    assert (listed["check"]["action"], listed["check"]["paused"], listed["check"]["last_run"]) == ("verify", False, None)
    assert command("schedule", "pause", "check")[0] == 0
    assert "check: verify of papers at 0 3 * * 0" in command("schedule", "list")[1]
    assert json.loads(command("schedule", "list", "--json")[1])[0]["next_run"] is None
    assert "next 20" in command("schedule", "resume", "check")[1]
    assert "source 'papers' is used by schedules: check, nightly" in command("source", "remove", "papers")[1]
    for name in ("check", "nightly"):
        assert command("schedule", "remove", name)[0] == 0
    for verb in ("remove", "pause", "resume", "run-now"):
        assert command("schedule", verb, "nightly") == (
            1, "error: schedule 'nightly' does not exist (known: none yet); `kb-ingest schedule add` creates one\n"
        )  # fmt: skip
    assert command("source", "remove", "papers")[0] == 0


def test_runs_are_listed(command: Callable[..., tuple[int, str]], data_dir: Path) -> None:
    assert command("runs") == (0, "no runs yet; `kb-ingest load PATH` starts one\n")
    command("schedule", "add", "check", "--cron", "0 3 * * 0", "--source", "papers", "--action", "verify")
    status, text = command("schedule", "run-now", "check")  # there is no collection yet
    assert (status, "run 1: verify of papers by schedule check" in text, ": failed after" in text) == (1, True, True)
    listed = json.loads(command("runs", "--schedule", "check", "--json")[1])
    assert [(one["run"], one["outcome"], one["figures"]["documents"]) for one in listed] == [(1, "failed", 0)]
    assert command("runs", "--source", "letters")[1] == "no runs yet; `kb-ingest load PATH` starts one\n"
    command("schedule", "run-now", "check")
    assert "0 documents (+0), 0 chunks (+0), 0 failures (+0), 0.0 chunks/s (+0) since run 1" in command("runs", "--limit", "1")[1]
    ledger = Ledger.open(f"sqlite:///{data_dir / 'kb.db'}")
    assert ledger.flow.leases() == []
    ledger.close()


def test_the_rate_is_that_of_whole_runs(ledger: Ledger) -> None:
    for outcome, embedded in (("done", 9000), ("partly", 7000), ("interrupted", 300)):
        number = ledger.runs.start("documents")
        ledger.runs.end(number, outcome)
        took(ledger, number, 100.0)
        with writing(ledger.engine) as connection:
            connection.execute(update(runs).where(runs.c.id == number).values(embedded=embedded))
    assert measured_rate(ledger) == pytest.approx(80, rel=0.01)
