"""Connections to the ledger on SQLite: explicit transactions and write-ahead logging."""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DisconnectionError

from pipeline.errors import LedgerUnavailable

#: Seconds that SQLite waits for another process's write before it reports that the database is locked.
BUSY_TIMEOUT_S = 60.0

#: The file is made smaller when at least this share of it is free, in pieces of so many pages: a lock of some milliseconds each.
FREE_SHARE, FREE_PAGES = 0.1, 2000

#: Seconds that the shrinking of the file waits for those who read an earlier state of it; others cannot write meanwhile.
READERS_S = 1.0

#: A file of an earlier version, which cannot be made smaller in pieces, is written anew at once if it has at most so many bytes:
#: nobody can write meanwhile.
MAX_ANEW_BYTES = 256 << 20

#: Bytes that the log keeps once it is written back; a long transaction had made it larger.
LOG_BYTES = 64 << 20

#: Value of `PRAGMA auto_vacuum`.
_INCREMENTAL = 2

#: Engines of this process that may have idle connections.
_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Closes(Protocol):
    """Has a connection of its own."""

    def close(self) -> None:
        """Close it until it is needed again."""


_others: weakref.WeakSet[Closes] = weakref.WeakSet()


def before_fork(one: Closes) -> None:
    """Have a connection that no engine knows closed before a fork."""
    _others.add(one)


def configure(engine: Engine) -> None:
    """Configure every connection of `engine`, a database in SQLite."""
    _engines.add(engine)

    file = engine.url.database or ""

    @event.listens_for(engine, "checkout")
    def on_checkout(_connection: Any, record: Any, _proxy: Any) -> None:
        if record.info["file"] != identity(file):  # the data folder was replaced, as by a backup
            raise DisconnectionError

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        # The driver's own BEGIN is deferred and fails late with SQLITE_BUSY, so transactions begin explicitly.
        connection.isolation_level = None
        # WAL with NORMAL: a killed process loses nothing; a power failure may lose the last commits, whose work is then repeated.
        # busy_timeout is set with the connection; journal_mode is stored in the file, so setting it again is nearly free.
        # Of a new file, see `give_back`: on another one, it changes nothing and waits for the write lock.
        if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        _write_ahead(connection)
        for pragma in ("synchronous=NORMAL", "foreign_keys=ON", f"journal_size_limit={LOG_BYTES}"):
            connection.execute(f"PRAGMA {pragma}")
        record.info["file"] = identity(file)

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("kb_reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def copy_database(engine: Engine, target: Path) -> None:
    """Copy a database, as it is at one moment, to a new file; others read and write meanwhile. Raises LedgerUnavailable."""
    source = engine.raw_connection()
    try:
        with closing(sqlite3.connect(target)) as copy:
            # All pages in one step: readers do not keep writers waiting, and a write between two steps would start it again.
            source.driver_connection.backup(copy)  # type: ignore[union-attr]
    except sqlite3.Error as error:
        raise LedgerUnavailable(f"cannot copy the ledger to {target}: {error}; free some space or check the disk") from error
    finally:
        source.close()


def give_back(engine: Engine, on_step: Callable[[], None]) -> int:
    """Make the file of a database smaller if much of it is free; return by how many bytes. Raises LedgerUnavailable.

    Others read and write meanwhile. `on_step` is called between two pieces.
    """
    engine.dispose()
    try:
        with closing(sqlite3.connect(engine.url.database or "", timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            pages, free, size, mode = (
                int(connection.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "freelist_count", "page_size", "auto_vacuum")
            )
            if free < FREE_SHARE * pages:
                return 0
            if mode != _INCREMENTAL:
                if pages * size > MAX_ANEW_BYTES:
                    return 0
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
                connection.execute("VACUUM")
            for _ in range(0, free if mode == _INCREMENTAL else 0, FREE_PAGES):
                # A script is run to its end; `execute` would free one page, as it waits for rows that nobody fetches.
                connection.executescript(f"PRAGMA incremental_vacuum({FREE_PAGES})")
                on_step()
            # The file itself becomes smaller once the log is written back, which waits for readers. If they take longer, a later
            # checkpoint does it: that of a write, or of the last connection that is closed.
            connection.execute(f"PRAGMA busy_timeout={READERS_S * 1000:.0f}")
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # most of the work, and nobody waits
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return (pages - int(connection.execute("PRAGMA page_count").fetchone()[0])) * size
    except sqlite3.Error as error:
        raise LedgerUnavailable(f"cannot make {engine.url.database} smaller: {error}; run `gc` again") from error


def leave_log(engine: Engine) -> None:
    """Write back the log of a database that no other process uses; its file then holds everything. Raises LedgerUnavailable."""
    engine.dispose()
    try:
        with closing(sqlite3.connect(engine.url.database or "")) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise LedgerUnavailable(f"cannot write {engine.url.database}: {error}; free some space or check the disk") from error


def identity(file: str) -> tuple[int, int]:
    """What distinguishes a file from another one at the same path."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return 0, 0
    return found.st_dev, found.st_ino


def _close_idle() -> None:
    """Close idle connections before a fork: the child would take SQLite's locks of this process for its own.

    It would wait for them for ever, or read without any.
    """
    for engine in list(_engines):
        engine.dispose()
    for one in list(_others):
        one.close()


os.register_at_fork(before=_close_idle)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Set a new file to write-ahead logging. SQLite does not wait for other processes here, so two first processes need this."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
