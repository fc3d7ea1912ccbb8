"""Processes that carry out due schedules: started once, a few at a time, and what ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from pipeline.errors import LedgerUnavailable
from pipeline.ledger import Ledger
from pipeline.ledger.runs import NewRun
from pipeline.ledger.schema import leases, schedules, writing
from pipeline.settings import Settings
from tests.unit.test_schedules import NEXT_NIGHT, NOON, add, get
from workers.jobs.hold import holding
from workers.process.lifeline import Lifeline
from workers.schedules import due
from workers.schedules.due import Starter, next_slot


@pytest.fixture
def starter(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starter:
    """Whose runs are processes that wait."""
    popen = subprocess.Popen

    def start(command: list[str], **named: object) -> object:
        return popen([sys.executable, "-c", "import time; time.sleep(60)"])

    monkeypatch.setattr(subprocess, "Popen", start)
    return Starter(Settings(data_dir=tmp_path), ledger, "starter")


def test_due_schedules_are_started_once_and_a_few_at_a_time(ledger: Ledger, starter: Starter) -> None:
    for number in range(due.RUNS_MAX + 2):
        add(ledger, f"nightly-{number}")
    add(ledger, "monthly", "0 0 1 * *")
    assert starter.start_due(NEXT_NIGHT - 1) == 0
    assert starter.start_due(NEXT_NIGHT + 1) == due.RUNS_MAX
    assert starter.start_due(NEXT_NIGHT + 90000) == 0  # all of them go on
    going = [one.name for one in ledger.schedules.all() if one.lease]
    assert len(going) == due.RUNS_MAX
    starter.stop(10)
    # Told to stop, they are due again.
    assert [one.name for one in ledger.schedules.all() if one.lease] == []
    assert starter.start_due(NEXT_NIGHT + 2) == due.RUNS_MAX
    starter.stop(10)


def test_a_schedule_stays_due_while_its_source_is_loaded_by_hand(ledger: Ledger, starter: Starter, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    assert ledger.sources.add("papers", "documents", str(tmp_path / "papers"), (), ())
    add(ledger)
    add(ledger, "check", action="verify")
    root = (tmp_path / "papers").resolve().as_uri()
    with holding(ledger, NewRun("documents"), [root], 60.0):
        assert starter.start_due(NEXT_NIGHT + 1) == 1
        assert starter.start_due(NEXT_NIGHT + 2) == 0
        assert (get(ledger).lease, get(ledger, "check").lease is None) == (None, False)
    assert starter.start_due(NEXT_NIGHT + 3) == 1
    starter.stop(10)


def test_a_run_that_meets_another_one_is_due_again_and_is_no_run(
    ledger: Ledger, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "papers").mkdir()
    assert ledger.sources.add("papers", "documents", str(tmp_path / "papers"), (), ())
    lease = ledger.schedules.claim_slot(add(ledger), NEXT_NIGHT, "one")
    assert lease is not None
    monkeypatch.setenv("KB_DATABASE_URL", url)
    monkeypatch.setenv("KB_DATA_DIR", str(tmp_path / "data"))
    line = Lifeline()
    command = [sys.executable, "-m", "workers.schedules.run", lease]
    command += ["--parent", str(os.getpid()), "--lifeline", str(line.reading)]
    with holding(ledger, NewRun("documents"), [(tmp_path / "papers").resolve().as_uri()], 60.0):
        assert subprocess.run(command, pass_fds=[line.reading], check=False).returncode == 1
    line.close()
    assert [past.run.schedule for past in ledger.runs.history()] == [""]
    assert next_slot(get(ledger), NEXT_NIGHT + 60) == NEXT_NIGHT
    assert get(ledger).lease is None


def test_a_run_that_is_killed_waits_for_its_next_time(ledger: Ledger, starter: Starter) -> None:
    add(ledger)
    assert starter.start_due(NEXT_NIGHT + 1) == 1
    (process,) = starter._running.values()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert starter.start_due(NEXT_NIGHT + 2) == 0
    assert get(ledger).lease is None
    assert starter.start_due(NEXT_NIGHT + 86400) == 1
    starter.stop(10)


def test_a_run_that_starts_after_its_lease_has_run_out_is_due_again(ledger: Ledger, url: str, tmp_path: Path) -> None:
    add(ledger)
    starter = Starter(Settings(data_dir=tmp_path, database_url=url), ledger, "starter")
    assert starter.start_due(NEXT_NIGHT + 1) == 1
    with writing(ledger.engine) as connection:  # as a dispatcher does that has seen no beat for as long as a lease lasts
        connection.execute(delete(leases))
    (process,) = starter._running.values()
    assert process.wait(60) == due.TOO_LATE
    starter.reap()
    assert get(ledger).lease is None
    assert next_slot(get(ledger), NEXT_NIGHT + 2) == NEXT_NIGHT
    assert ledger.runs.history() == []


def test_a_schedule_that_makes_no_sense_any_more_stops_no_other(ledger: Ledger, starter: Starter) -> None:
    add(ledger, "a")
    add(ledger, "b")
    with writing(ledger.engine) as connection:
        connection.execute(update(schedules).where(schedules.c.name == "a").values(timezone="Europe/Nowhere"))
    assert starter.start_due(NEXT_NIGHT + 1) == 1
    assert get(ledger, "b").lease
    starter.stop(10)


def test_a_look_when_nothing_is_due_is_cheap(ledger: Ledger, starter: Starter) -> None:
    for number in range(50):
        add(ledger, f"nightly-{number}")
    starter.start_due(NOON)
    began = time.perf_counter()
    starter.start_due(NOON)
    assert time.perf_counter() - began < 0.5


def test_a_program_that_cannot_be_started_leaves_it_due(ledger: Ledger, starter: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("too many processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    add(ledger)
    starter.start_due(NEXT_NIGHT + 1)
    assert next_slot(get(ledger), NEXT_NIGHT + 2) == NEXT_NIGHT


def test_the_timer_goes_on_when_the_ledger_does_not_answer(ledger: Ledger, tmp_path: Path) -> None:
    class Away(Starter):
        looks = 0

        def start_due(self, now: float) -> int:
            self.looks += 1
            raise LedgerUnavailable("away")

    away = Away(Settings(data_dir=tmp_path), ledger)
    with due.TimerThread(away, 0.01, 1.0):
        deadline = time.monotonic() + 10
        while away.looks < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert away.looks >= 3
