"""A file lock between processes. It is released when its process ends, however that happens."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.files.errors import translated

#: Seconds between two attempts to take a lock that another process holds.
POLL_S = 0.02


class FileLock:
    """An exclusive lock on `path`, whose folder must exist; as a context manager it waits without a limit.

    It does not lock out other threads: the caller has a lock for that. A child forked without exec keeps the lock of a parent
    that died; nothing here forks in this way while it holds one.

    Taking it raises FileNotFoundError where the folder does not exist, and ConfigError or NoSpace where the file cannot be
    opened or locked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._pid = os.getpid()
        self.held = False

    def __enter__(self) -> FileLock:
        self._lock(fcntl.LOCK_EX)
        self.held = True
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def take(self, deadline: float = 0.0) -> bool:
        """Try until `deadline` (of time.monotonic), but at least once; return whether this object now holds the lock."""
        while not self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(POLL_S, left_s))
        self.held = True
        return True

    def wanted(self) -> bool:
        """Whether another process holds the lock."""
        if self.held:
            return False
        if not self._lock(fcntl.LOCK_SH | fcntl.LOCK_NB):
            return True
        self._lock(fcntl.LOCK_UN)
        return False

    def release(self) -> None:
        """Release the lock and close its file; do nothing where this object does not hold it."""
        if self._file is not None and self._pid == os.getpid():
            fcntl.flock(self._file, fcntl.LOCK_UN)  # a forked child may have the file open, so closing is not enough
        self.leave()

    def fileno(self) -> int:
        """The descriptor to pass to processes that should also keep the lock until they end."""
        return self._descriptor()

    def leave(self) -> None:
        """Close the file; processes that inherited the descriptor keep the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self.held = False

    def _lock(self, mode: int) -> bool:
        """Change the lock; return whether that succeeded where `mode` does not wait."""
        try:
            fcntl.flock(self._descriptor(), mode)
        except BlockingIOError:
            return False
        except FileNotFoundError:
            raise
        except OSError as error:
            raise translated(error, self._path) from error
        return True

    def _descriptor(self) -> int:
        if self._pid != os.getpid():
            self.release()  # a forked child shares the parent's lock through the open file, so it needs a file of its own
        if self._file is None:
            self._pid = os.getpid()
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        return self._file


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Share the lock on `path` with others that do, for a moment; a FileLock waits until all have left. For any thread.

    Raises ConfigError or NoSpace where the file cannot be opened or locked.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # one of its own: a lock belongs to the open file
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except BaseException:
            os.close(descriptor)
            raise
    except FileNotFoundError:
        raise
    except OSError as error:
        raise translated(error, path) from error
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child that was forked meanwhile has the file open too
        os.close(descriptor)
