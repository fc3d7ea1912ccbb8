"""The embedded mode under kill -9: a folder as broker, and an engine that writes through memory maps."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.conftest import ALL, RUNS, Deployment, fill
from tests.faults.test_boundaries import KILLS, arm
from tests.faults.test_kills import kill
from tests.services import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.slow]

#: As in inject/sitecustomize.py.
BOUNDARIES = ["Edge: in upsert, before the flush", "Edge: between flush and ledger", "Edge: after delete of old points"]


@pytest.mark.parametrize("boundary", BOUNDARIES if ALL else BOUNDARIES[1:2])
def test_kill_9_at_a_boundary(embedded: Deployment, tmp_path: Path, boundary: str) -> None:
    embedded.load(16)
    embedded.up("--until-empty").wait(90)
    tokens = arm(embedded, tmp_path, boundary)
    turns = -(-RUNS // KILLS)
    for turn in range(turns):
        for number in range(KILLS):
            (tokens / str(number)).touch()
        embedded.load(16, paragraphs=11 + turn % 2)
        process = embedded.up("--until-empty")
        embedded.settle(120)
        assert not list(tokens.iterdir()), "nobody died"
        process.wait(60)
    embedded.check(f"kill -9 {boundary}", runs=KILLS * turns)


@pytest.mark.only_all
def test_kill_9_of_everything_at_random_moments(embedded: Deployment) -> None:
    """The command and all its workers at once, as a machine that hangs and is reset would."""
    embedded.load(60)
    for turn in range(RUNS):
        process = embedded.up()
        embedded.working()
        time.sleep(embedded.chance.uniform(0.0, 0.6))
        masters = embedded.processes("master")
        process.kill()
        for master in masters:
            kill(master, group=True)
        process.wait()
        embedded.load(20, prefix=f"more{turn}-")
    embedded.up()
    embedded.settle()
    embedded.check("Edge: kill -9 of everything", runs=RUNS)


@pytest.mark.only_all
@pytest.mark.parametrize("small_disk", [600], indirect=True)
def test_a_full_disk_costs_at_most_a_worker(embedded: Deployment, small_disk: Path) -> None:
    """What the engine writes through memory maps dies of SIGBUS on a full disk; what comes next is refused and waits."""
    (embedded.cli.data_dir / "qdrant").symlink_to(small_disk)
    for turn in range(RUNS):
        embedded.load(40, prefix=f"t{turn}-")
        process = embedded.up()
        embedded.working()
        time.sleep(embedded.chance.uniform(0.0, 0.5))
        ballast = fill(small_disk)
        wait_until(lambda: any("make room" in row.note for row in embedded.ledger.registry.workers()), "a word about the disk", 60)
        time.sleep(8)  # longer than a lease
        assert "quarantined" not in embedded.states()
        ballast.unlink()
        embedded.settle(120)
        process.terminate()
        process.wait(60)
    embedded.check("Edge: disk full", runs=RUNS)


def test_a_log_that_is_cut_short_is_found_and_mended(embedded: Deployment) -> None:
    """Nothing is flushed after the last points, and then their log is damaged: only a comparison can tell."""
    embedded.load(20)
    embedded.up("--until-empty").wait(90)
    logs = [path for path in embedded.cli.data_dir.rglob("wal/open-*") if path.is_file()]
    assert logs
    for path in logs:
        content = path.read_bytes()
        half = len(content.rstrip(b"\0")) // 2
        path.write_bytes(content[:half] + bytes(len(content) - half))
    found = embedded.cli.run("verify", status=None)
    assert found.returncode in (0, 1)
    assert "Traceback" not in found.stderr
    embedded.json("verify", "--repair")
    embedded.check("Edge: a damaged log")
