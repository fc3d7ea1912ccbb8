"""Runs a command in a terminal, for tests and for the pictures of docs/terminal_pictures.py."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def in_terminal(
    command: Sequence[str], *, environment: Mapping[str, str], columns: int, folder: Path | None = None, timeout_s: float = 60
) -> tuple[str, int]:
    """Everything that the command writes, with the codes for colours and the cursor, and its exit status."""
    ours, theirs = pty.openpty()
    environment = {**environment, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "40"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # the end of a terminal is an error
        while data := os.read(ours, 65536):
            written += data
    os.close(ours)
    return written.decode("utf-8", "replace"), process.wait(timeout_s)
