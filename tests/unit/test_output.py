"""Standard output that cannot be written: one line on stderr, or nothing where the reader has gone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from tests.services import Cli

#: Commands that need no service, with little and with much to say, of click's own text and of ours.
COMMANDS = ("--help", "search --help", "config", "version --json", "status", "runs")

FULL = Path("/dev/full")


def said(data_dir: Path, command: str, out: IO[bytes]) -> tuple[int, str]:
    """Status and stderr of a command that writes to `out`."""
    cli = Cli(data_dir)
    answer = subprocess.run(
        [*cli.PROGRAM, *command.split()],
        env=cli.environment,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    return answer.returncode, answer.stderr


@pytest.fixture
def gone() -> Callable[[], IO[bytes]]:
    """Gives a pipe that nobody reads."""

    def make() -> IO[bytes]:
        read, write = os.pipe()
        os.close(read)
        return os.fdopen(write, "wb")

    return make


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_no_fault_of_ours(data_dir: Path, command: str) -> None:
    with FULL.open("wb") as out:
        assert said(data_dir, command, out) == (1, "error: cannot write to standard output: No space left on device\n")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
def test_a_full_disk_is_one_line_of_json_where_lines_are_json(data_dir: Path) -> None:
    with FULL.open("wb") as out:
        status, err = said(data_dir, "--log-format json status", out)
    assert (status, err.count("\n")) == (1, 1)
    assert '"message": "error: cannot write to standard output: No space left on device"' in err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_has_gone_hears_no_complaint(data_dir: Path, gone: Callable[[], IO[bytes]], command: str) -> None:
    with gone() as out:
        assert said(data_dir, command, out) == (1, "")


@pytest.mark.parametrize("command", ["--help", "status"])
def test_a_closed_output_is_written_to_nowhere(data_dir: Path, command: str) -> None:
    cli = Cli(data_dir)
    answer = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *cli.PROGRAM, *command.split()],
        env=cli.environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
