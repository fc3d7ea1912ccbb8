"""Locks on resources that only one supervisor may use, such as a GPU; they last until its last worker has ended."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.files.errors import translating
from pipeline.files.lock import FileLock
from workers.process.alive import is_alive

log = logging.getLogger(__name__)

#: Max seconds to wait for workers whose supervisor was killed; they end by themselves before that.
ENDING_S = 10.0

#: Seconds between two attempts to take a lock.
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Holder:
    """The last holder of a lock, according to its file; it may have ended since."""

    supervisor: int  #: process id
    worker: str = ""  #: name of the worker last started under this lock
    pid: int = 0  #: process id of that worker


class WorkersLock:
    """A file lock that a supervisor takes and its workers inherit, including the children of their pools.

    It is free only when all of them have ended, even if the supervisor was killed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path)
        self.before: Holder | None = None  #: the previous holder, once we hold the lock

    def acquire(self, wait_s: float = 0.0) -> bool:
        """Take the lock; retry for `wait_s` if its supervisor is dead and some of its workers are still ending.

        Raises NoSpace, and ConfigError if the file cannot be used.
        """
        with translating(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + wait_s
        told = False
        while not self._lock.take():
            holder = self.holder()
            if time.monotonic() >= deadline or (holder and is_alive(holder.supervisor)):
                return False
            if not told:
                log.info("waiting until the workers of a killed `kb-ingest` have ended")
            told = True
            time.sleep(POLL_S)
        self.before = self.holder()
        self._write(Holder(os.getpid()))
        return True

    def holder(self) -> Holder | None:
        """The last holder; None if there is none, or if it is just being written."""
        try:
            return Holder(**json.loads(self._path.read_text("ascii")))
        except (OSError, ValueError, TypeError):  # its holder may be writing
            return None

    def taken_by(self) -> str:
        """A human-readable name of the process that holds the lock."""
        holder = self.holder()
        if holder is None:
            return "another `kb-ingest`"
        if is_alive(holder.supervisor):
            return f"another `kb-ingest` (process {holder.supervisor})"
        return f"a killed `kb-ingest` (process {holder.supervisor}) whose workers still run"

    def started(self, worker: str, pid: int) -> None:
        """Record the worker that was started under this lock, which we hold."""
        self._write(replace(Holder(os.getpid()), worker=worker, pid=pid))

    def fileno(self) -> int:
        """The descriptor to pass on to workers, of a lock that we hold."""
        return self._lock.fileno()

    def release(self) -> None:
        """Release the lock; a worker that is still alive keeps it until its end."""
        self._lock.leave()

    def _write(self, holder: Holder) -> None:
        content = json.dumps(asdict(holder)).encode("ascii")
        with translating(self._path):
            os.pwrite(self.fileno(), content, 0)
            os.ftruncate(self.fileno(), len(content))
