"""The wall clock of the workers is stepped by an hour while documents are worked on."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from tests.faults.conftest import RUNS, Deployment

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.slow]

STEPS = ("+3600", "-3600", "+0")  # seconds from the true time


@pytest.fixture
def clock(deployment: Deployment, tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Callable[[str], None]:
    """Sets the clock of all workers that are started from now on, in all of their code, to seconds from the true time."""
    libraries = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), *Path("/usr/lib").glob("faketime/libfaketimeMT.so.1")]
    if not libraries:
        unavailable("no libfaketime on this machine")
    file = tmp_path / "clock"

    def step(seconds: str) -> None:
        file.with_suffix(".new").write_text(seconds)
        file.with_suffix(".new").replace(file)

    step("+0")
    deployment.inject(
        LD_PRELOAD=str(libraries[0]), FAKETIME_TIMESTAMP_FILE=str(file), FAKETIME_NO_CACHE="1", FAKETIME_DONT_FAKE_MONOTONIC="1"
    )
    return step


def test_a_step_of_the_clock_ends_no_lease(deployment: Deployment, clock: Callable[[str], None], tmp_path: Path) -> None:
    deployment.up()
    for turn in range(RUNS):
        deployment.load(60, prefix=f"t{turn}-")
        deployment.working()
        for step in STEPS:
            clock(step)
            time.sleep(1.0)
        deployment.settle()
    with closing(sqlite3.connect(deployment.cli.data_dir / "kb.db")) as connection:
        (seen_s,) = connection.execute("SELECT max(updated_at) - min(updated_at) FROM documents").fetchone()
    assert seen_s > 3000, "no worker saw the other time"
    assert deployment.charged() == 0
    assert "took back" not in (tmp_path / "up.log").read_text()
    deployment.check("clock stepped by an hour, both ways", runs=RUNS * len(STEPS))
