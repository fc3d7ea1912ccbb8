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

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.slow]


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
    kills = max(3, RUNS * 10 // 3)
    deployment.load(34 * RUNS)
    deployment.up()
    deployment.working()
    more = killed = 0
    ahead = ("pending", "parsing") if kind == "parser" else ("pending", "parsing", "parsed", "embedding")
    for _ in range(kills):
        states = deployment.states()
        if sum(states.get(state, 0) for state in ahead) < 20:
            more += 1
            deployment.load(40, prefix=f"more{more}-")
        wait_until(lambda: bool(deployment.processes(kind)), f"a {kind} to kill", 60, 0.05)
        time.sleep(deployment.chance.uniform(0.05, 1.0))
        if targets := deployment.processes(kind):
            began, ended = time.monotonic(), deployment.ended()
            kill(deployment.chance.choice(targets), group=kind == "master")
            killed += 1
            deployment.recover(began, ended)
    worst_s = deployment.worst_s
    assert killed > kills // 2
    deployment.settle(120 + kills)
    deployment.worst_s = worst_s
    if deployment.states().get("quarantined"):
        # Three kills in a row on the same document: it says so, and a person may try again.
        assert {failure.reason for failure in deployment.ledger.report.failures()} <= {"worker_lost", "crashed"}
        deployment.cli.run("retry")
        deployment.settle()
    deployment.check(f"kill -9 of {kind}", runs=killed)


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
        if deployment.ledger.report.progress().open < 60:
            deployment.load(60, prefix=f"more{turn}-")
    deployment.up()
    deployment.settle()
    deployment.check("SIGTERM", runs=turns)


@pytest.mark.only_all
def test_two_supervisors_share_the_work(deployment: Deployment) -> None:
    deployment.write(60)
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    deployment.up("--until-empty")
    deployment.up("--until-empty")
    deployment.settle()
    deployment.check("two supervisors and dispatchers", 60)
