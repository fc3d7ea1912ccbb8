"""The turn: a lock for the whole store, which a process takes to open shards, or to keep others from having them open.

Whoever has it says in its file which collections that is about, so that a process that has others open need not close them.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from pipeline.files.lock import FileLock

#: Names of collections are far shorter, and seldom more than one.
_READ_BYTES = 1 << 16


class Turn:
    """The turn at the store in `folder`; see FileLock for the errors."""

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder / "turn.lock")
        self._names: list[str] = []

    @property
    def held(self) -> bool:
        """Whether this object has the turn."""
        return self._lock.held

    def take(self, deadline: float = 0.0) -> bool:
        """Try until `deadline` (of time.monotonic), but at least once; return whether this object now has the turn."""
        if self._lock.held:
            return True
        if taken := self._lock.take(deadline):
            self._say()
        return taken

    def want(self, name: str) -> None:
        """Say that the turn is about this collection too; until then it is about none."""
        self._names.append(name)
        self._say()

    def wanted(self, names: Collection[str]) -> bool:
        """Whether another process has the turn and it is about one of these collections."""
        if not self._lock.wanted():
            return False
        *said, rest = os.pread(self._lock.fileno(), _READ_BYTES, 0).decode("utf-8", "replace").split("\n")
        return bool(rest) or not said or not set(names).isdisjoint(said)

    def release(self) -> None:
        """Give the turn back; do nothing where this object does not have it."""
        self._names.clear()
        if self._lock.held:
            self._say()  # before the next one has said anything
        self._lock.release()

    def _say(self) -> None:
        said = "".join(f"{name}\n" for name in self._names).encode() or b"\n"
        try:
            os.pwrite(self._lock.fileno(), said, 0)
            os.ftruncate(self._lock.fileno(), len(said))
        except OSError:  # a full disk, say
            os.ftruncate(self._lock.fileno(), 0)  # all collections
