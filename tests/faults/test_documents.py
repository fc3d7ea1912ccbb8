"""Poison among good documents, a model that gives no numbers, full disks, files that move under us."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from tests.embed_server import DEADLY, NO_NUMBER
from tests.faults.conftest import ALL, RUNS, Deployment, fill
from tests.services import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.slow]


def test_poison_among_good_documents(deployment: Deployment) -> None:
    """Documents that take all memory of their parser, real ones: a JSON of very many small values."""
    deployment.cli.environment.update(KB_PARSE_MEMORY_BYTES=str(160 << 20), KB_MAX_FAILURE_RATIO="1")
    good, bad = (min(1000, 200 * RUNS), 10) if ALL else (40, 3)
    deployment.write(good)
    poison = json.dumps([{"k": index} for index in range(1_500_000)])
    for number in range(bad):
        (deployment.documents / f"poison{number}.json").write_text(poison[: -1 - number] + " " * number + "]")
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    deployment.up()
    states = deployment.settle(240 + good)
    assert states == {"indexed": good, "quarantined": bad}
    failures = deployment.ledger.report.failures()
    assert {failure.reason for failure in failures} <= {"out_of_memory", "crashed"}
    assert sum(failure.starts for failure in failures) <= 3 * bad
    deployment.check("poison: parsers out of memory", good + bad, quarantined=bad)


def test_poison_that_kills_the_embed_worker(deployment: Deployment) -> None:
    """The parser's child cannot help here: the process with the model dies, and takes its whole batch along."""
    deployment.cli.environment["KB_MAX_FAILURE_RATIO"] = "1"
    deployment.write(20)
    for number in range(2):
        (deployment.documents / f"poison{number}.txt").write_text(f"Number {number} is {DEADLY}.")
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    deployment.up()
    states = deployment.settle(300)
    assert states == {"indexed": 20, "quarantined": 2}
    failures = deployment.ledger.report.failures()
    assert {(failure.reason, failure.starts) for failure in failures} == {("worker_lost", 3)}
    deployment.check("poison: kills the embed worker", 22, quarantined=2)


def test_files_that_change_and_vanish_while_they_are_read(deployment: Deployment) -> None:
    """Each document is one whole version of its file, or quarantined with the reason."""
    deployment.write(100, paragraphs=1)
    for number in range(4):
        (deployment.documents / f"restless{number}.txt").write_text("Version 0.\n" * 20_000)
    stop = threading.Event()

    def disturb() -> None:
        version = 0
        while not stop.is_set():
            version += 1
            for number in range(4):
                with (deployment.documents / f"restless{number}.txt").open("r+") as file:
                    file.write(f"Version {version % 10}.\n" * 20_000)
            (deployment.documents / f"d{100 - version}.txt").unlink(missing_ok=True)
            time.sleep(deployment.chance.uniform(0.0, 0.05))

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        deployment.cli.run("load", str(deployment.documents), "--no-wait", status=None)
    finally:
        stop.set()
        thread.join()
    deployment.up()
    deployment.settle(120)
    states = deployment.states()
    assert {failure.reason for failure in deployment.ledger.report.failures()} <= {"changed", "unreadable"}
    for blob in (deployment.cli.data_dir / "staging" / "blobs").glob("*/*"):
        if blob.stat().st_size > 100_000:
            assert len(set(blob.read_text().splitlines())) == 1, "a mixture of versions was staged"
    deployment.check("files change and vanish", sum(states.values()), quarantined=states.get("quarantined", 0))


def test_a_model_that_gives_no_numbers(deployment: Deployment) -> None:
    deployment.write(20)
    (deployment.documents / "bad.txt").write_text(f"This text is {NO_NUMBER} for the model.")
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    deployment.up()
    deployment.settle()
    (failure,) = deployment.ledger.report.failures()
    assert failure.reason == "bad_vector"
    deployment.check("a model that gives NaN", 21, quarantined=1)


def test_the_same_bytes_at_two_places_and_a_file_that_vanishes(deployment: Deployment) -> None:
    deployment.write(10)
    shutil.copytree(deployment.documents, deployment.documents / "copy")
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    for path in deployment.documents.glob("*.txt"):
        path.unlink()  # staged is staged
    deployment.up()
    deployment.settle()
    deployment.check("same bytes twice, sources gone", 20)


def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(deployment: Deployment, small_disk: Path) -> None:
    deployment.cli.environment["KB_STAGING_URL"] = str(small_disk / "staging")
    deployment.write(30)
    (deployment.documents / "large.txt").write_text("A line of a large file.\n" * 200_000)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (9 << 20))
    answer = deployment.cli.run("load", str(deployment.documents), "--no-wait", status=1)
    assert "free some disk space" in answer.stderr
    assert not list((small_disk / "staging" / "tmp").iterdir())
    ballast.unlink()
    (deployment.documents / "large.txt").unlink()
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    # Now the chunk files find no room.
    left = os.statvfs(small_disk)
    ballast.write_bytes(b"x" * (left.f_bavail * left.f_frsize))
    deployment.up()
    wait_until(
        lambda: any("free some disk space" in row.note for row in deployment.ledger.registry.workers()), "a word about it", 60
    )
    assert "quarantined" not in deployment.states()
    ballast.unlink()
    deployment.settle(120)
    deployment.check("disk full: staging, chunk files", 30)


@pytest.mark.only_all
def test_a_full_disk_of_the_ledger_charges_nobody(deployment: Deployment, small_disk: Path) -> None:
    folder = deployment.cli.data_dir
    shutil.move(folder / "kb.db", small_disk / "kb.db")
    (folder / "kb.db").symlink_to(small_disk / "kb.db")
    deployment.cli.environment["KB_DATABASE_URL"] = f"sqlite:///{small_disk / 'kb.db'}"
    deployment.load(60)
    deployment.up()
    deployment.working()
    ballast = fill(small_disk)
    (deployment.documents / "more.txt").write_text("One more.")
    answer = deployment.cli.run("load", str(deployment.documents), "--no-wait", status=1)
    assert "ledger" in answer.stderr
    assert "Traceback" not in answer.stderr
    time.sleep(10)  # longer than a lease
    ballast.unlink()
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    deployment.settle(120)
    assert deployment.charged() == 0
    deployment.check("disk full: ledger", 61)
