"""Events of the guard's server and its child: JSON, one a line, on a pipe that both of them write to."""

from __future__ import annotations

import json
import os
import select
from typing import Any

#: Maximum bytes of an atomic write to a pipe.
ATOMIC_BYTES = select.PIPE_BUF


class Events:
    """Writes events; each write wakes the guard, so an event that is not urgent waits for the next one."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._held = b""

    def tell(self, event: dict[str, Any]) -> None:
        """Write an event, after what was held back."""
        self._write(_line(event))

    def hold(self, event: dict[str, Any]) -> None:
        """Hold an event back; it is written with the next one, or by `flush`."""
        self.flush()
        self._held = _line(event)

    def flush(self) -> None:
        """Write what was held back."""
        self._write(b"")

    def new_line(self) -> None:
        """Begin a new line: whoever wrote before may have been killed in the middle of one."""
        self._write(b"\n")

    def _write(self, line: bytes) -> None:
        if len(self._held) + len(line) > ATOMIC_BYTES:
            os.write(self._out, self._held)
            self._held = b""
        if self._held or line:
            os.write(self._out, self._held + line)
            self._held = b""


def _line(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode("ascii", "replace") + b"\n"
