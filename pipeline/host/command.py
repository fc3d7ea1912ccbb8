"""Programs of the platform, asked with a deadline; one that is missing or fails has no answer."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

#: Seconds until a program that says nothing is given up; the macOS profiler takes its time.
ANSWER_S = 20.0


def ask(command: Sequence[str], timeout_s: float = ANSWER_S) -> str | None:
    """What a program prints on stdout; None where it is missing, fails or takes too long."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=timeout_s, check=False,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
