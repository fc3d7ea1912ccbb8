"""A lock on a file between processes, which ends with its process however that dies."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

#: Seconds between two tries for a lock that somebody holds.
POLL_S = 0.02


class FileLock:
    """An exclusive lock on `path`, whose folder must exist. Not a lock between threads: the caller has one.

    A child that was forked without exec keeps the lock of a parent that died; nothing here forks so while it holds one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._pid = os.getpid()
        self.held = False

    def take(self, deadline: float) -> bool:
        """Try until `deadline` (of time.monotonic), at least once; tell whether the lock is ours now."""
        while not self._try(fcntl.LOCK_EX):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(POLL_S, left_s))
        self.held = True
        return True

    def wanted(self) -> bool:
        """Whether somebody else holds the lock."""
        if self.held:
            return False
        if not self._try(fcntl.LOCK_SH):
            return True
        fcntl.flock(self._descriptor(), fcntl.LOCK_UN)
        return False

    def release(self) -> None:
        """Give the lock back and close its file; nothing where it is not ours."""
        if self._file is not None:
            if self._pid == os.getpid():
                fcntl.flock(self._file, fcntl.LOCK_UN)  # a forked child may have the file open, so closing is not enough
            os.close(self._file)
            self._file = None
        self.held = False

    def _try(self, mode: int) -> bool:
        try:
            fcntl.flock(self._descriptor(), mode | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _descriptor(self) -> int:
        if self._pid != os.getpid():
            self.release()  # a forked child shares the parent's lock through the open file, so it needs a file of its own
        if self._file is None:
            self._pid = os.getpid()
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        return self._file
