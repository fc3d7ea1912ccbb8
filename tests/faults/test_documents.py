"""Poison among good documents, a model that gives no numbers, full disks, files that move under us."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.embed_server import NO_NUMBER
from tests.faults.conftest import Deployment
from tests.services import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.integration]


def test_poison_among_good_documents(deployment: Deployment) -> None:
    """Documents that take all memory of their parser, real ones: a JSON of very many small values."""
    deployment.cli.environment.update(KB_PARSE_MEMORY_BYTES=str(160 << 20), KB_MAX_FAILURE_RATIO="1")
    deployment.write(100)
    poison = json.dumps([{"k": index} for index in range(1_500_000)])
    for number in range(10):
        (deployment.documents / f"poison{number}.json").write_text(poison[: -1 - number] + " " * number + "]")
    deployment.cli.run("load", str(deployment.documents), "--no-wait")
    deployment.up()
    states = deployment.settle(240)
    assert states == {"indexed": 100, "quarantined": 10}
    failures = deployment.ledger.report.failures()
    assert {failure.reason for failure in failures} <= {"out_of_memory", "crashed"}
    assert sum(failure.starts for failure in failures) <= 30
    deployment.check("poison: parsers out of memory", 110, quarantined=10)


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


@pytest.fixture
def small_disk(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


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
    wait_until(lambda: any("free some disk space" in row.note for row in deployment.ledger.report.workers()), "a word about it", 60)
    assert "quarantined" not in deployment.states()
    ballast.unlink()
    deployment.settle(120)
    deployment.check("disk full: staging, chunk files", 30)
