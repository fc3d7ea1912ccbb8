"""Runs programs of the platform with a deadline; a program that is missing or fails has no output."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

#: Timeout of a program in seconds; the macOS profiler is slow.
ANSWER_S = 20.0


def output_of(command: Sequence[str], timeout_s: float = ANSWER_S) -> str | None:
    """Output of a program on stdout; None if it is missing, fails or takes too long."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=timeout_s, check=False,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
