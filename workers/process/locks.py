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

#: Max size of a lock's file.
HOLDER_BYTES = 1 << 12

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
        with translating(self._path):
            _write(self.fileno(), Holder(os.getpid()))
        return True

    def holder(self) -> Holder | None:
        """The last holder; None if there is none, or if it is just being written."""
        try:
            return _read(self._path.read_bytes())
        except OSError:
            return None

    def taken_by(self) -> str:
        """A human-readable name of the process that holds the lock."""
        holder = self.holder()
        if holder is None:
            return "another `kb-ingest`"
        if is_alive(holder.supervisor):
            return f"another `kb-ingest` (process {holder.supervisor})"
        return f"a killed `kb-ingest` (process {holder.supervisor}) whose workers still run"

    def fileno(self) -> int:
        """The descriptor to pass on to workers, of a lock that we hold."""
        return self._lock.fileno()

    def release(self) -> None:
        """Release the lock; a worker that is still alive keeps it until its end."""
        self._lock.leave()


def announce(lock: int, worker: str) -> None:
    """Record this process as the worker `worker` in the file of the lock that it inherited as a descriptor.

    The worker does this itself, before it takes documents. Its supervisor may be killed before it knows the process id, and
    then nobody could tell that the documents are free.
    """
    if holder := _read(os.pread(lock, HOLDER_BYTES, 0)):
        try:
            _write(lock, replace(holder, worker=worker, pid=os.getpid()))
        except OSError as error:  # if it is killed, its leases expire, later
            log.warning("cannot write %s to its lock: %s", worker, error.strerror)


def _read(content: bytes) -> Holder | None:
    try:
        return Holder(**json.loads(content))
    except (ValueError, TypeError):  # just being written
        return None


def _write(lock: int, holder: Holder) -> None:
    content = json.dumps(asdict(holder)).encode("ascii")
    os.pwrite(lock, content, 0)
    os.ftruncate(lock, len(content))
