"""Locks on what only one supervisor may run workers for, such as a GPU; they last until its last worker has ended."""

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

#: Seconds that workers whose supervisor was killed are waited for; they end by themselves before that.
ENDING_S = 10.0

#: Seconds between two tries for a lock.
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Holder:
    """Who took a lock last, as its file says; it may have ended since."""

    supervisor: int  #: process id
    worker: str = ""  #: name of the worker that it started last under this lock
    pid: int = 0  #: process id of that worker


class WorkersLock:
    """A lock on a file that a supervisor takes and that its workers inherit, the children of their pools included.

    Thus it is free only when all of them have ended, also where the supervisor was killed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path)
        self.before: Holder | None = None  #: who held it before us, once it is ours

    def acquire(self, wait_s: float = 0.0) -> bool:
        """Take the lock; for `wait_s` try again where its supervisor is dead and some of its workers are still ending.

        Raises ConfigError where the file cannot be used, NoSpace.
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
                log.info("waiting for the workers of a `kb-ingest` that was killed to end")
            told = True
            time.sleep(POLL_S)
        self.before = self.holder()
        self._write(Holder(os.getpid()))
        return True

    def holder(self) -> Holder | None:
        """Who took the lock last; None where nobody has, or just now."""
        try:
            return Holder(**json.loads(self._path.read_text("ascii")))
        except (OSError, ValueError, TypeError):  # its holder may be writing
            return None

    def taken_by(self) -> str:
        """Who has the lock that could not be taken, for people."""
        holder = self.holder()
        if holder is None:
            return "another `kb-ingest`"
        if is_alive(holder.supervisor):
            return f"another `kb-ingest` (process {holder.supervisor})"
        return f"what is left of a `kb-ingest` (process {holder.supervisor}) that was killed"

    def started(self, worker: str, pid: int) -> None:
        """Write down the worker that was started under this lock, which is ours."""
        self._write(replace(Holder(os.getpid()), worker=worker, pid=pid))

    def fileno(self) -> int:
        """The descriptor to pass on to workers, of a lock that is ours."""
        return self._lock.fileno()

    def release(self) -> None:
        """Let it go; a worker that still lives keeps it until its end."""
        self._lock.leave()

    def _write(self, holder: Holder) -> None:
        content = json.dumps(asdict(holder)).encode("ascii")
        with translating(self._path):
            os.pwrite(self.fileno(), content, 0)
            os.ftruncate(self.fileno(), len(content))
