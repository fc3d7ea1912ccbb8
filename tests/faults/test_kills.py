"""kill -9 of every kind of process, at random moments, and orderly ends."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil
import pytest

from tests.faults.conftest import ALL, RUNS, Deployment
from tests.services import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.integration]


def kill(process: psutil.Process, *, group: bool = False) -> None:
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("kind", ["master", "pool", "parser"] if ALL else ["pool"])
def test_kill_9_at_random_moments(deployment: Deployment, kind: str) -> None:
    """With 20 runs, the three together are 200 kills over 2,000 documents."""
    count, kills = 34 * RUNS, 4 * RUNS
    deployment.write(count)
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    deployment.up()
    deployment.working()
    killed = 0
    for _ in range(kills):
        time.sleep(deployment.chance.uniform(0.05, 1.0))
        targets = deployment.processes(kind)
        if targets and deployment.ledger.report.progress().open:
            kill(deployment.chance.choice(targets), group=kind == "master")
            killed += 1
    assert killed, "the work was over before the first kill"
    deployment.settle(60 + kills)
    if deployment.states().get("quarantined"):
        # Three kills in a row on the same document: it says so, and a person may try again.
        assert {failure.reason for failure in deployment.ledger.report.failures()} <= {"worker_lost", "crashed"}
        deployment.cli.run("retry")
        deployment.settle()
    deployment.check(f"kill -9 of {kind}", count, runs=killed)


def test_kill_9_of_the_supervisor_ends_its_workers_and_another_goes_on(deployment: Deployment) -> None:
    deployment.write(40)
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    first = deployment.up()
    deployment.working()
    orphans = [process for kind in ("master", "pool", "parser") for process in deployment.processes(kind)]
    first.kill()
    first.wait()
    deployment.up()
    deployment.settle()
    wait_until(lambda: not any(map(alive, orphans)), "orphans gone", 60, 0.5)
    deployment.check("kill -9 of the supervisor", 40)


def test_sigterm_gives_work_back_at_once(deployment: Deployment) -> None:
    deployment.write(80)
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    turns = max(1, RUNS * 5 // 2)
    for turn in range(turns):
        process = deployment.up()
        deployment.working()
        time.sleep(deployment.chance.uniform(0.0, 1.0))
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        process.wait(45)
        assert time.monotonic() - began < 40
        assert deployment.ledger.flow.leases() == []
        deployment.write(20, prefix=f"more{turn}-")
        deployment.cli.run("load", str(deployment.documents), "--no-wait")
    deployment.up()
    deployment.settle()
    deployment.check("SIGTERM", 80 + 20 * turns, runs=turns)


@pytest.mark.only_all
def test_two_supervisors_share_the_work(deployment: Deployment) -> None:
    deployment.write(60)
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    deployment.up("--until-empty")
    deployment.up("--until-empty")
    deployment.settle()
    deployment.check("two supervisors and dispatchers", 60)
