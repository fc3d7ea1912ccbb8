"""The open shards of this process: opened when needed, used for other processes too, closed when idle.

One process at a time may open a shard. An owner, such as an embed worker or the service, keeps what it has opened and answers
the others at a socket (`doors`), so that only a shard that nobody has open is opened, which takes seconds for a large one. What
a process writes to another one's shard is repeated if that one dies: every call can be.

To open a shard, a process first takes the turn (`turn`), then the shard's own lock. An owner gives the turn back at once. It
closes its shards when it sees that another process took the turn for one of them, which it looks for before every call and while
it is idle, or after being idle for minutes. So a collection can be dropped or copied, and processes that cannot ask each other
use it one after the other. A reader keeps the turn while its shards are open, which is brief, and answers nobody.

Calls of several threads run together, as the engine computes without the interpreter lock.

The engine has a lock too, but takes it late: by the time it refuses to load a shard, it has opened the owner's files for
writing and set the length of some. So the shard's own lock is taken before the engine is called at all.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from qdrant_edge import EdgeShard

from pipeline.errors import CollectionMissing, StoreLocked, StoreUnavailable
from pipeline.files.errors import translated
from pipeline.files.lock import POLL_S, FileLock
from pipeline.store.base import Role
from pipeline.store.doors import OPEN_LOCK, Askers, Door, NobodyAnswers, NotAnswered
from pipeline.store.edge_engine import FLUSH, A, Call, R, check_room, engine_errors, enter_engine, load, refuse_after_fork
from pipeline.store.turn import Turn
from pipeline.store.wire import read, written

_log = logging.getLogger(__name__)

#: In a shard's folder while a copy of it gets a graph, and nothing has been written since.
BUILDING = "building"
#: Seconds after which a reader gives other processes a chance, even in the middle of a long scan.
_READER_HOLD_S = 2.0
#: Seconds between two looks of an idle owner whether another process waits.
_LOOK_S = 0.1
#: An answer may take this many times as long as the wait for a lock: a flush may wait for a slow disk.
_ANSWER_TIMES = 4


class OpenElsewhere(Exception):
    """Another process has the shard open, and answers."""


@dataclass(slots=True)
class _Open:
    """A shard that is open in this process."""

    shard: EdgeShard
    lock: FileLock
    door: Door | None  #: where others ask
    changed: bool  #: has changes that have not been flushed


class Shards:
    """Shards by folder. Calls may run together, but not during a close, which waits until those that run have ended."""

    def __init__(
        self, folder: Path, role: Role, lock_timeout_s: float, idle_s: float, calls: Iterable[Call[Any, Any]] = ()
    ) -> None:
        """`calls`: what an owner does for other processes."""
        self._folder = folder
        self._role = role
        self._lock_timeout_s = lock_timeout_s
        self._idle_s = idle_s
        self._calls = {call.name: call for call in (*calls, FLUSH)}
        self._turn = Turn(folder)
        self._askers = Askers(_ANSWER_TIMES * lock_timeout_s)
        self._unflushed: set[Path] = set()  #: shards to which other processes have written for this one
        self._lock = threading.RLock()
        self._running = 0  #: calls in progress
        self._ended = threading.Condition(self._lock)  #: when the last of them has ended
        self._is_closing = False
        self._open: dict[Path, _Open] = {}
        self._pid = os.getpid()
        self._opened_at = self._used_at = 0.0
        self._watch: threading.Thread | None = None
        self._is_watched = False  #: whether that thread will look again
        self._closing = threading.Event()

    def call(self, path: Path, call: Call[A, R], asked: A) -> R:
        """Run `call` in the process that has the shard in `path` open; in this one, which opens it, if none has.

        Raises StoreLocked if another process keeps it for the whole timeout; engine errors become StoreUnavailable.
        """
        refuse_after_fork()
        deadline, alone = time.monotonic() + self._lock_timeout_s, False
        while True:
            if not alone and path not in self._open:
                try:
                    return self._ask(path, call, asked)
                except NobodyAnswers:
                    pass
                except NotAnswered as error:
                    _log.debug("the process that has %s open is of no help: %s", path, error)
                    alone = True
            try:
                with self.use(path, changes=call.changes, alone=alone) as shard:
                    return call.run(shard, asked)
            except OpenElsewhere as error:
                if time.monotonic() >= deadline:
                    raise self._locked() from error

    @contextmanager
    def use(self, path: Path, *, changes: bool = False, alone: bool = True) -> Iterator[EdgeShard]:
        """The shard in `path`, open in this process until the block ends; `changes`: the block may write.

        Without `alone`, another process that has it open and answers need not close it: OpenElsewhere is raised then.
        Other errors as of `call`.
        """
        with self._using(path, changes, lambda: self._open.get(path) or self._load(path, alone)) as shard:
            yield shard

    @contextmanager
    def _using(self, path: Path, changes: bool, find: Callable[[], _Open]) -> Iterator[EdgeShard]:
        refuse_after_fork()
        with self._lock:
            while self._is_closing:
                self._ended.wait()
            self._step_aside()
            opened = find()
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

    def _ask(self, path: Path, call: Call[A, R], asked: A) -> R:
        if call.changes:
            self._unflushed.add(path)  # first: the other process may die with the changes made
        try:
            return cast("R", read(self._askers.ask(path, written((call.name, asked)))))
        except TimeoutError as error:
            raise StoreLocked(
                f"the process that has {path} open has not answered for {self._askers.timeout_s:g} s; "
                "end it, or use a Qdrant server (KB_QDRANT_URL)"
            ) from error

    def _answer(self, path: Path, request: bytes, is_there: Callable[[], bool]) -> bytes:
        """Do what another process asks for; never open the shard for it."""
        name, asked = read(request)
        call = self._calls[name]
        with self._using(path, call.changes, lambda: self._lent(path, is_there)) as shard:
            return written(call.run(shard, asked))

    def _lent(self, path: Path, is_there: Callable[[], bool]) -> _Open:
        """The shard for a process that asks, and still waits: somebody else may have done the work of one that is gone."""
        if path not in self._open or not is_there():
            raise NobodyAnswers(f"{path} or the asker was closed a moment ago")
        return self._open[path]

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
            is_lent = opened is None and path in self._unflushed
        if is_lent:  # by the process that has it open now: the one that wrote may have died
            self._unflushed.discard(path)
            try:
                self.call(path, FLUSH, None)
            except BaseException:
                self._unflushed.add(path)
                raise

    def remove(self, path: Path, remove: Callable[[], None]) -> None:
        """Call `remove` while no process has the shard in `path` open or can open it."""
        refuse_after_fork()
        with self._lock:
            self._close_all()
            deadline = time.monotonic() + self._lock_timeout_s
            lock = FileLock(path / OPEN_LOCK)
            try:
                if not self._turn.take(deadline):
                    raise self._locked()
                self._turn.want(path.name)
                if not lock.take(deadline):
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
            for path in found:
                self._turn.want(path.name)
            for lock in [FileLock(path / OPEN_LOCK) for path in found]:
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
        """Flush and close all shards and release every lock; have others flush what they wrote for this process."""
        with self._lock:
            if self._pid == os.getpid():
                self._close_all()
            self._closing.set()
            watch = self._watch
        for path in list(self._unflushed):
            with suppress(NobodyAnswers, NotAnswered, StoreLocked):  # what is not flushed outlives all but a power failure
                self._ask(path, FLUSH, None)
        self._unflushed.clear()
        self._askers.close()
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
        elif self._is_wanted():
            self._close_all()

    def _is_wanted(self) -> bool:
        return self._turn.wanted([path.name for path in self._open])

    def _take_turn(self, path: Path, deadline: float, alone: bool) -> None:
        """Take the turn for a shard; also return once another thread has opened it.

        Raises StoreLocked, and OpenElsewhere as soon as another process answers for it.
        """
        while not self._turn.take():
            if not alone and self._askers.find(path):
                raise OpenElsewhere
            # The process that has the turn may wait for a shard that is open here, or for an answer.
            self._step_aside()
            if time.monotonic() >= deadline:
                raise self._locked()
            self._ended.wait(POLL_S)
            while self._is_closing:
                self._ended.wait()
            if path in self._open:
                return
        if not alone and self._askers.find(path):  # it has opened the shard while this process waited
            raise OpenElsewhere
        self._turn.want(path.name)  # last: whoever has it open closes it now

    def _load(self, path: Path, alone: bool) -> _Open:
        self._pid = os.getpid()
        deadline = time.monotonic() + self._lock_timeout_s
        lock = FileLock(path / OPEN_LOCK)
        try:
            self._take_turn(path, deadline, alone)
            if path in self._open:
                return self._open[path]
            check_room(path)
            if not lock.take(deadline):
                raise self._locked()
            opened = _Open(load(path), lock, self._open_door(path), path in self._unflushed)
            if not self._open:
                self._opened_at = time.monotonic()
            self._open[path] = opened
        except BaseException as error:
            lock.release()
            if isinstance(error, FileNotFoundError):
                raise CollectionMissing(f"collection {path.name!r} was dropped a moment ago") from error
            if isinstance(error, OSError):
                raise translated(error, path, StoreUnavailable) from error
            raise
        finally:
            if self._role == "owner" or not self._open:  # a reader keeps the turn until it closes what it has opened
                self._turn.release()
        self._used_at = time.monotonic()
        self._unflushed.discard(path)
        self._closing.clear()
        if not (self._is_watched and self._watch and self._watch.is_alive()):  # threads do not survive a fork
            self._is_watched = True
            self._watch = threading.Thread(target=self._close_idle, name="kb-edge-idle", daemon=True)
            self._watch.start()
        return opened

    def _open_door(self, path: Path) -> Door | None:
        """Where others ask for the shard, before they can have the turn."""
        if self._role == "reader":
            return None
        try:
            return Door(path, partial(self._answer, path))
        except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
            _log.info("other processes take turns at %s, as they cannot ask this one: %s", path, error)
            return None

    def _close_all(self) -> None:
        """Close every shard once no call runs; the caller must not be in one."""
        while self._is_closing:  # in another thread
            self._ended.wait()
        self._is_closing = True
        try:
            while self._running:
                self._ended.wait()
            for path in list(self._open):
                opened = self._open.pop(path)
                try:
                    if opened.door:
                        opened.door.close()
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
                is_wanted = self._role == "owner" and not self._running and self._is_wanted()
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


def forget_build(path: Path) -> None:
    """Tell whoever builds a graph for a copy of this shard that the copy is out of date; see `pipeline.store.graph`."""
    (path / BUILDING).unlink(missing_ok=True)
