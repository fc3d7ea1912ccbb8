"""The engine of the embedded store: calls of a shard, opening one, its errors, and forks."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from qdrant_edge import EdgeShard

from pipeline.errors import NoSpace, StoreLocked, StoreUnavailable
from pipeline.files.errors import translated
from pipeline.model.device import usable_cores
from pipeline.store.catalogue import shard_folder
from pipeline.store.segments import load_shard

A = TypeVar("A")
R = TypeVar("R")

#: Disk space needed to open a shard: the engine maps its last chunks of 32 MB whole (26 MB were measured, 16 MB free were
#: not enough). If the disk cannot hold the mapped files, the process dies of SIGBUS.
OPEN_BYTES = 48 << 20

_engine_pid: int | None = None  # the process that called the engine first


@dataclass(frozen=True, slots=True)
class Call(Generic[A, R]):
    """Something that the process that has a shard open does with it, also for others; doing it again changes nothing."""

    name: str  #: by which others ask for it
    run: Callable[[EdgeShard, A], R]  #: values that `wire` can write
    changes: bool = False  #: whether it writes


#: Writes all changes to disk.
FLUSH: Call[None, None] = Call("flush", lambda shard, _: shard.flush())


def check_room(path: Path) -> None:
    """Raise NoSpace where the disk has no room for opening the shard of the collection in `path`."""
    if shutil.disk_usage(path).free < OPEN_BYTES:
        raise NoSpace(f"opening {path} needs {OPEN_BYTES >> 20} MB of free disk space; free some space and try again")


def load(path: Path) -> EdgeShard:
    """Open the shard of the collection in `path`. Raises StoreLocked, StoreUnavailable, ConfigError."""
    enter_engine()
    try:
        return load_shard(shard_folder(path), max(1, usable_cores() // 2))
    except Exception as error:
        if "WouldBlock" in str(error):
            raise StoreLocked(f"{path} is open in a program other than kb-ingest; close it there") from error
        if any(words in str(error) for words in ("Permission denied", "PermissionDenied")):  # as the engine has it or its log
            raise translated(PermissionError(errno.EACCES, str(error)), path) from error
        raise StoreUnavailable(f"cannot open {path}: {error}; restore it from a backup, or drop it and load again") from error


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
