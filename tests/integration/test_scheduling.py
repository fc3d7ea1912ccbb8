"""Schedules: what is due is done once, however many schedulers there are, and whatever ends in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import update

from pipeline.ledger import Ledger
from pipeline.ledger.schema import schedules, writing
from pipeline.types import SCHEDULE
from tests.embed_server import MODEL
from tests.services import Cli, Server, embed_server, wait_until
from workers.broker.app import TICK_S
from workers.health import stale

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: Due in the first minute of a year, and whenever a test says so.
YEARLY = "0 0 1 1 *"

#: Long enough for ticks to do what they should not.
SOME_TICKS_S = 2.5 * TICK_S


@pytest.fixture
def model(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings of a model that starts fast."""
    server = embed_server(tmp_path / "embed")
    server.start()
    yield {"KB_EMBED_URL": f"http://127.0.0.1:{server.port}", "KB_EMBED_MODEL": MODEL, "KB_LEASE_S": "15", "KB_REQUEUE_S": "3"}
    server.stop()


@pytest.fixture
def served(redis: Server, qdrant: Server) -> dict[str, str]:
    return {"KB_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0", "KB_QDRANT_URL": f"http://127.0.0.1:{qdrant.port}"}


@contextmanager
def running(cli: Cli, *commands: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Long-running commands, ended in order; what they said is printed."""
    processes: list[subprocess.Popen[bytes]] = []
    for command in commands:
        with (cli.data_dir.parent / f"{command}-{len(processes)}.log").open("w") as log:
            processes.append(
                subprocess.Popen([*cli.PROGRAM, command], env=cli.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )
    try:
        yield processes
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for number, process in enumerate(processes):
            process.wait(60)
            print((cli.data_dir.parent / f"{commands[number]}-{number}.log").read_text())


def answer(cli: Cli, *arguments: str, status: int = 0) -> Any:
    return json.loads(cli.run(*arguments, "--json", status=status).stdout)


def open_ledger(cli: Cli) -> Ledger:
    return Ledger.open(f"sqlite:///{cli.data_dir / 'kb.db'}")


def make_due(ledger: Ledger, name: str) -> None:
    """Let some slots have been missed."""
    with writing(ledger.engine) as connection:
        connection.execute(update(schedules).where(schedules.c.name == name).values(last_slot=0))


def outcomes(ledger: Ledger, name: str) -> list[str]:
    """Of a schedule's runs, the oldest first."""
    return [past.outcome for past in ledger.runs.history(100, schedule=name)][::-1]


def schedule(cli: Cli, documents: Path, *names: str) -> Ledger:
    cli.run("source", "add", "papers", str(documents))
    for name in names:
        cli.run("schedule", "add", name, "--cron", YEARLY, "--source", "papers", "--action", name.partition("-")[0])
    return open_ledger(cli)


def run_processes() -> list[psutil.Process]:
    """Processes of scheduled runs that descend from this test."""
    found = psutil.Process().children(recursive=True)
    return [process for process in found if "workers.schedules.run" in " ".join(process.cmdline())]


def kill(command: subprocess.Popen[bytes]) -> None:
    """Kill a command, and return when its processes have ended of themselves."""
    children = psutil.Process(command.pid).children(recursive=True)
    command.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(child.is_running() for child in children), "its processes have ended")


def test_two_schedulers_have_the_effect_of_one(
    model: dict[str, str], served: dict[str, str], redis: Server, documents: Path, tmp_path: Path
) -> None:
    cli = Cli(tmp_path / "data", **served, **model)
    ledger = schedule(cli, documents, "sync-nightly", "verify-nightly")

    def asked(*words: str) -> list[str]:
        command = ["redis-cli", "-p", str(redis.port), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    with running(cli, "up", "scheduler") as (up, second):
        for turn in (1, 2):
            make_due(ledger, "sync-nightly")
            wait_until(lambda turn=turn: outcomes(ledger, "sync-nightly") == ["done"] * turn, "it was carried out")  # type: ignore[misc]
        make_due(ledger, "verify-nightly")
        wait_until(lambda: outcomes(ledger, "verify-nightly") == ["done"], "it was checked")
        assert asked("exists", "kb-ingest:lock") == ["1"]
        lock = asked("get", "kb-ingest:lock")
        time.sleep(SOME_TICKS_S)
        assert asked("get", "kb-ingest:lock") == lock  # one beat has it all the time
        assert int(asked("llen", "tick")[0]) <= 1
        assert (outcomes(ledger, "sync-nightly"), outcomes(ledger, "verify-nightly")) == (["done"] * 2, ["done"])

        # One of them is killed, and its processes notice: the other one goes on. What is due before they have noticed
        # may be begun by them, and is interrupted: that is the test of a killed scheduler, below.
        kill(up)
        (documents / "new.md").write_text("# New\n\nWritten while there was one scheduler.\n")
        second_workers = cli.start("worker")
        try:
            make_due(ledger, "sync-nightly")
            wait_until(lambda: outcomes(ledger, "sync-nightly") == ["done"] * 3, "it was carried out again", 150)
        finally:
            second_workers.send_signal(signal.SIGTERM)
            second_workers.communicate(timeout=60)
        assert second.poll() is None
    newest, *_, oldest = answer(cli, "runs", "--schedule", "sync-nightly")
    assert (newest["figures"]["documents"], newest["difference"]["documents"], newest["difference"]["failures"]) == (5, 1, 0)
    assert newest["difference"]["chunks"] == 1
    assert oldest["difference"] is None
    listed = {one["name"]: one for one in answer(cli, "schedule", "list")}
    assert listed["sync-nightly"]["last_run"]["run"] == newest["run"]
    assert listed["sync-nightly"]["next_run"].startswith(f"{time.gmtime().tm_year + 1}-01-01 00:00:00")


def test_a_run_that_is_still_going_is_not_started_twice(
    model: dict[str, str], served: dict[str, str], documents: Path, tmp_path: Path
) -> None:
    cli = Cli(tmp_path / "data", **served, **model)
    ledger = schedule(cli, documents, "sync-often", "verify-other")
    with running(cli, "scheduler", "scheduler"):
        make_due(ledger, "sync-often")
        wait_until(lambda: ledger.report.progress().open == 4, "it has begun, and waits for workers")
        make_due(ledger, "sync-often")
        time.sleep(SOME_TICKS_S)
        assert outcomes(ledger, "sync-often") == ["going on"]
        assert "already in progress" in cli.run("schedule", "run-now", "sync-often", status=1).stderr
        assert answer(cli, "schedule", "list")[0]["going_on"]
        with running(cli, "worker"):
            # What was due meanwhile is caught up once.
            wait_until(lambda: outcomes(ledger, "sync-often") == ["done", "done"], "both are done")
            time.sleep(SOME_TICKS_S)
            assert outcomes(ledger, "sync-often") == ["done", "done"]


def test_a_killed_scheduler_frees_its_run_and_another_one_does_it(
    model: dict[str, str], served: dict[str, str], documents: Path, tmp_path: Path
) -> None:
    cli = Cli(tmp_path / "data", **served, **model)
    ledger = schedule(cli, documents, "sync-nightly")
    with running(cli, "scheduler") as (scheduler,):  # nothing works on what it stages
        make_due(ledger, "sync-nightly")
        wait_until(lambda: ledger.report.progress().open == 4, "it has begun")
        kill(scheduler)
        assert outcomes(ledger, "sync-nightly") == ["interrupted"]
        assert not any(lease.stage == SCHEDULE for lease in ledger.flow.leases())
    with running(cli, "up"):
        wait_until(lambda: outcomes(ledger, "sync-nightly") == ["interrupted", "done"], "it was caught up")
        time.sleep(SOME_TICKS_S)
    assert outcomes(ledger, "sync-nightly") == ["interrupted", "done"]


def test_without_redis_schedules_are_carried_out_by_the_service_itself(
    model: dict[str, str], documents: Path, tmp_path: Path
) -> None:
    cli = Cli(tmp_path / "data", **model)
    ledger = schedule(cli, documents, "sync-nightly", "verify-nightly")
    make_due(ledger, "sync-nightly")  # while nothing ran
    with running(cli, "up"):
        wait_until(lambda: outcomes(ledger, "sync-nightly") == ["done"], "it was caught up")
        make_due(ledger, "verify-nightly")
        wait_until(lambda: outcomes(ledger, "verify-nightly") == ["done"], "it was checked")
        assert outcomes(ledger, "sync-nightly") == ["done"]
        assert answer(cli, "schedule", "run-now", "verify-nightly")["figures"]["failures"] == 0
        cli.run("schedule", "pause", "sync-nightly")
        make_due(ledger, "sync-nightly")
        time.sleep(SOME_TICKS_S)
        assert outcomes(ledger, "sync-nightly") == ["done"]
        # Due again, but not for what passed during the pause.
        cli.run("schedule", "resume", "sync-nightly")
        for path in documents.rglob("*.*"):
            path.unlink()
        make_due(ledger, "sync-nightly")
        wait_until(lambda: outcomes(ledger, "sync-nightly") == ["done", "refused"], "its deletions were refused")
    assert answer(cli, "schedule", "run-now", "sync-nightly", status=1)["outcome"] == "refused"  # with workers of its own


def test_by_hand_and_by_the_clock_one_run_at_a_time_loads_a_source(
    model: dict[str, str], served: dict[str, str], documents: Path, tmp_path: Path
) -> None:
    cli = Cli(tmp_path / "data", **served, **model)
    ledger = schedule(cli, documents, "sync-nightly")

    def by_hand(*arguments: str) -> subprocess.Popen[str]:
        process = cli.start(*arguments)
        wait_until(lambda: bool(ledger.flow.leases()), "it holds the source")
        return process

    with running(cli, "scheduler"):
        first = by_hand("sync", "papers")  # without workers it waits
        make_due(ledger, "sync-nightly")
        words = f"error: source 'papers' is being synced by run 1 (pid {first.pid} on "
        for line in (("sync", "papers"), ("load", str(documents)), ("schedule", "run-now", "sync-nightly")):
            assert words in cli.run(*line, status=1).stderr
        time.sleep(SOME_TICKS_S)
        assert outcomes(ledger, "sync-nightly") == []
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=60)
        assert first.returncode == 130
        wait_until(lambda: outcomes(ledger, "sync-nightly") == ["going on"], "the schedule has its turn")
        assert "by run 2 (pid " in cli.run("load", str(documents), status=1).stderr
    # It was told to stop, and left nothing behind. Nor does a process that is killed, for whoever comes next.
    assert ledger.flow.leases() == []
    killed = by_hand("load", str(documents))
    killed.kill()
    killed.communicate(timeout=60)
    assert ledger.flow.leases() != []
    began = time.monotonic()
    assert cli.run("load", str(documents), "--no-wait").returncode == 0
    assert time.monotonic() - began < 30
    assert ledger.flow.leases() == []


def test_a_run_whose_process_is_killed_gives_way_to_the_next(
    model: dict[str, str], served: dict[str, str], documents: Path, tmp_path: Path
) -> None:
    cli = Cli(tmp_path / "data", **served, **model)
    ledger = schedule(cli, documents, "sync-nightly")
    with running(cli, "scheduler"):
        make_due(ledger, "sync-nightly")
        wait_until(lambda: ledger.report.progress().open == 4, "it has begun, and waits for workers")
        (process,) = run_processes()
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: outcomes(ledger, "sync-nightly") == ["interrupted"], "its end is noticed")
        time.sleep(SOME_TICKS_S)
        assert outcomes(ledger, "sync-nightly") == ["interrupted"]  # what killed it may do so again: it waits for its time
        with running(cli, "worker"):
            make_due(ledger, "sync-nightly")
            wait_until(lambda: outcomes(ledger, "sync-nightly") == ["interrupted", "done"], "the next one is done")


def test_a_redis_that_forgets_everything_or_is_away_delays_and_no_more(
    model: dict[str, str], served: dict[str, str], redis: Server, documents: Path, tmp_path: Path
) -> None:
    health = tmp_path / "health"
    cli = Cli(tmp_path / "data", KB_HEALTH_DIR=str(health), **served, **model)
    ledger = schedule(cli, documents, "verify-nightly")
    done = ["failed"]  # there is no collection yet, which is enough of a result here
    with running(cli, "scheduler"):
        make_due(ledger, "verify-nightly")
        wait_until(lambda: outcomes(ledger, "verify-nightly") == done, "it was carried out")
        assert sorted(path.name for path in health.iterdir()) == ["beat", "dispatcher", "tick"]
        assert stale(health) == []
        # Lock and entries of the beat are gone, and it begins anew.
        subprocess.run(["redis-cli", "-p", str(redis.port), "flushall"], check=True, capture_output=True)
        make_due(ledger, "verify-nightly")
        wait_until(lambda: outcomes(ledger, "verify-nightly") == done * 2, "it was carried out again")
        redis.stop(signal.SIGKILL)
        make_due(ledger, "verify-nightly")
        time.sleep(TICK_S)
        assert outcomes(ledger, "verify-nightly") == done * 2
        redis.start()
        wait_until(lambda: outcomes(ledger, "verify-nightly") == done * 3, "it was caught up")
        time.sleep(1.5 * TICK_S)
        assert outcomes(ledger, "verify-nightly") == done * 3
        wait_until(lambda: stale(health) == [], "heartbeats continue")
