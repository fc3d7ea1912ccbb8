"""The open shards of this process: opened when needed, shared with other processes in turns, closed when idle.

One process at a time may open a shard. To open one, a process first takes the turn, a lock for the whole store, then the
shard's own lock. An owner gives the turn back at once and keeps its shards open. It closes them when it sees that another
process took the turn, which it looks for before every call and while it is idle, or after being idle for minutes: to open a
large shard takes seconds. For the same reason it keeps them for a few times as long as that took, whoever waits. A reader keeps
the turn while its shards are open, which is brief.

Calls of several threads run together, as the engine computes without the interpreter lock.

The engine has a lock too, but takes it late: by the time it refuses to load a shard, it has opened the owner's files for
writing and set the length of some. So the shard's own lock is taken before the engine is called at all.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from qdrant_edge import EdgeShard

from pipeline.errors import CollectionMissing, NoSpace, StoreLocked, StoreUnavailable
from pipeline.files.errors import translated
from pipeline.files.lock import POLL_S, FileLock
from pipeline.store.base import Role
from pipeline.store.catalogue import shard_folder

_log = logging.getLogger(__name__)

_engine_pid: int | None = None  # the process that called the engine first

#: In a shard's folder while a copy of it gets a graph, and nothing has been written since.
BUILDING = "building"
#: Seconds after which a reader gives other processes a chance, even in the middle of a long scan.
_READER_HOLD_S = 2.0
#: Seconds between two looks of an idle owner whether another process waits.
_LOOK_S = 0.1
#: An owner that has just opened shards keeps them for this many times as long as that took, up to so many seconds: two owners that
#: both have work would otherwise do little but open large shards.
_HOLD_TIMES, _HOLD_MAX_S = 3.0, 5.0
#: Disk space needed to open a shard: the engine maps its last chunks of 32 MB whole (26 MB were measured, 16 MB free were
#: not enough). If the disk cannot hold the mapped files, the process dies of SIGBUS.
_OPEN_BYTES = 48 << 20


@dataclass(slots=True)
class _Open:
    """A shard that is open in this process."""

    shard: EdgeShard
    lock: FileLock
    changed: bool = False  #: has changes that have not been flushed


class Shards:
    """Shards by folder. Calls may run together, but not during a close, which waits until those that run have ended."""

    def __init__(self, folder: Path, role: Role, lock_timeout_s: float, idle_s: float) -> None:
        self._folder = folder
        self._role = role
        self._lock_timeout_s = lock_timeout_s
        self._idle_s = idle_s
        self._turn = FileLock(folder / "turn.lock")
        self._lock = threading.RLock()
        self._running = 0  #: calls in progress
        self._ended = threading.Condition(self._lock)  #: when the last of them has ended
        self._is_closing = False
        self._open: dict[Path, _Open] = {}
        self._pid = os.getpid()
        self._opened_at = self._used_at = 0.0
        self._held_until = 0.0  #: monotonic; an owner does not step aside before
        self._watch: threading.Thread | None = None
        self._is_watched = False  #: whether that thread will look again
        self._closing = threading.Event()

    @contextmanager
    def use(self, path: Path, *, changes: bool = False) -> Iterator[EdgeShard]:
        """The shard in `path`, open until the block ends; `changes`: the block may write.

        Raises StoreLocked if another process keeps it for the whole timeout; engine errors become StoreUnavailable.
        """
        refuse_after_fork()
        with self._lock:
            while self._is_closing:
                self._ended.wait()
            self._step_aside()
            opened = self._open.get(path) or self._load(path)
            if changes:
                opened.changed = True
                forget_build(path)
            self._running += 1
        try:
            with engine_errors(path):
                yield opened.shard
        finally:
            with self._lock:
                self._running -= 1
                self._used_at = time.monotonic()
                self._ended.notify_all()

    def flush(self, path: Path) -> None:
        """Write changes to disk; a shard that is not open was flushed when it was closed."""
        refuse_after_fork()
        with self._lock:
            opened = self._open.get(path)
            if opened is not None and opened.changed:
                opened.changed = False  # first: another thread may write meanwhile
                try:
                    with engine_errors(path):
                        opened.shard.flush()
                except BaseException:
                    opened.changed = True
                    raise

    def remove(self, path: Path, remove: Callable[[], None]) -> None:
        """Call `remove` while no process has the shard in `path` open or can open it."""
        refuse_after_fork()
        with self._lock:
            self._close_all()
            deadline = time.monotonic() + self._lock_timeout_s
            lock = FileLock(path / "open.lock")
            try:
                if not (self._turn.take(deadline) and lock.take(deadline)):
                    raise self._locked()
                remove()
            except FileNotFoundError:
                return  # another process removed it first
            finally:
                lock.release()
                self._turn.release()

    @contextmanager
    def closed(self, paths: Callable[[], Sequence[Path]]) -> Iterator[Sequence[Path]]:
        """Keep every process, this one too, from opening shards until the block ends; each was flushed when it was closed.

        `paths` lists them, once none can be removed any more. Raises StoreLocked if another process keeps one of them for the
        whole timeout.
        """
        refuse_after_fork()
        with self._lock, ExitStack() as held:
            self._close_all()
            deadline = time.monotonic() + self._lock_timeout_s
            if not self._turn.take(deadline):
                raise self._locked()
            held.callback(self._turn.release)
            found = paths()
            for lock in [FileLock(path / "open.lock") for path in found]:
                if not lock.take(deadline):
                    raise self._locked()
                held.callback(lock.release)
            yield found

    def yield_turn(self) -> None:
        """Close all shards if another process waits for one; the next call waits until that process is done."""
        refuse_after_fork()
        with self._lock:
            self._step_aside()

    def close(self) -> None:
        """Flush and close all shards and release every lock."""
        with self._lock:
            if self._pid == os.getpid():
                self._close_all()
            self._closing.set()
            watch = self._watch
        if watch is not None:
            watch.join()

    def _step_aside(self) -> None:
        if not self._open:
            return
        enter_engine()
        if self._role == "reader":
            if time.monotonic() - self._opened_at > _READER_HOLD_S:
                self._close_all()
                time.sleep(3 * POLL_S)  # longer than the pause of other processes between two attempts, or we would always win
        elif self._is_due() and self._turn.wanted():
            self._close_all()

    def _is_due(self) -> bool:
        """Whether an owner has kept its shards long enough for what opening them has cost."""
        return time.monotonic() >= self._held_until

    def _load(self, path: Path) -> _Open:
        self._pid = os.getpid()
        deadline = time.monotonic() + self._lock_timeout_s
        if not self._turn.held and not self._turn.take(0):
            # Waiting with shards open could deadlock: the other process may be waiting for us.
            self._close_all()
            if not self._turn.take(deadline):
                raise self._locked()
        lock = FileLock(path / "open.lock")
        try:
            if shutil.disk_usage(path).free < _OPEN_BYTES:
                raise NoSpace(f"opening {path} needs {_OPEN_BYTES >> 20} MB of free disk space; free some space and try again")
            if not lock.take(deadline):
                raise self._locked()
            began = time.monotonic()
            opened = _Open(self._load_shard(path), lock)
            took = time.monotonic() - began
        except BaseException as error:
            lock.release()
            if not self._open:
                self._turn.release()
            if isinstance(error, FileNotFoundError):
                raise CollectionMissing(f"collection {path.name!r} was dropped a moment ago") from error
            if isinstance(error, OSError):
                raise translated(error, path, StoreUnavailable) from error
            raise
        finally:
            if self._role == "owner":
                self._turn.release()
        if not self._open:
            self._opened_at = time.monotonic()
        self._open[path] = opened
        self._used_at = time.monotonic()
        self._held_until = self._used_at + min(_HOLD_MAX_S, _HOLD_TIMES * took)
        self._closing.clear()
        if not (self._is_watched and self._watch and self._watch.is_alive()):  # threads do not survive a fork
            self._is_watched = True
            self._watch = threading.Thread(target=self._close_idle, name="kb-edge-idle", daemon=True)
            self._watch.start()
        return opened

    def _load_shard(self, path: Path) -> EdgeShard:
        enter_engine()
        try:
            return EdgeShard.load(str(shard_folder(path)))
        except Exception as error:
            if "WouldBlock" in str(error):
                raise StoreLocked(f"{path} is open in a program other than kb-ingest; close it there") from error
            if any(words in str(error) for words in ("Permission denied", "PermissionDenied")):  # as the engine has it or its log
                raise translated(PermissionError(errno.EACCES, str(error)), path) from error
            raise StoreUnavailable(f"cannot open {path}: {error}; restore it from a backup, or drop it and load again") from error

    def _close_all(self) -> None:
        """Close every shard once no call runs; the caller must not be in one."""
        self._is_closing = True
        try:
            while self._running:
                self._ended.wait()
            for path in list(self._open):
                opened = self._open.pop(path)
                try:
                    with engine_errors(path):
                        if opened.changed:
                            opened.shard.flush()
                        opened.shard.close()
                finally:
                    opened.lock.release()
        finally:
            self._is_closing = False
            self._turn.release()
            self._ended.notify_all()

    def _close_idle(self) -> None:
        """Run in its own thread from the opening of the first shard until the last one is closed."""
        while True:
            with self._lock:
                left_s = self._used_at + self._idle_s - time.monotonic()
                is_wanted = self._role == "owner" and not self._running and self._is_due() and self._turn.wanted()
                if self._open and not self._running and (left_s <= 0 or is_wanted):
                    try:
                        self._close_all()
                    except StoreUnavailable as error:  # no caller to raise it to; unflushed changes are in the engine's log
                        _log.warning("%s", error)
                if not self._open:
                    self._is_watched = False
                    return
            self._closing.wait(min(max(left_s, POLL_S), _LOOK_S))

    def _locked(self) -> StoreLocked:
        return StoreLocked(
            f"the embedded store {self._folder} has been in use by another process for {self._lock_timeout_s:g} s; "
            "wait until that process is done, or use a Qdrant server (KB_QDRANT_URL)"
        )


def enter_engine() -> None:
    """Call before the engine: its threads do not survive a fork, and a child that calls it would wait for them forever."""
    global _engine_pid
    refuse_after_fork()
    if _engine_pid is None:
        _engine_pid = os.getpid()


def refuse_after_fork() -> None:
    """Call before taking our own locks too: another thread may have held them when this process was forked."""
    if _engine_pid is not None and _engine_pid != os.getpid():
        raise RuntimeError("the embedded store was used before this process was forked; use it in the parent or the child only")


@contextmanager
def engine_errors(path: Path) -> Iterator[None]:
    """Convert the engine's errors, which are all plain Exception, to StoreUnavailable."""
    try:
        yield
    except BaseException as error:
        # A panic of the engine is a BaseException; subclasses of Exception are ours, or complain about arguments we passed.
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise StoreUnavailable(f"the embedded store {path} failed: {error}") from error


def forget_build(path: Path) -> None:
    """Tell whoever builds a graph for a copy of this shard that the copy is out of date; see `pipeline.store.graph`."""
    (path / BUILDING).unlink(missing_ok=True)
