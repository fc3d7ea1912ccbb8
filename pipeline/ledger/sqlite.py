"""Connections to the ledger on SQLite: explicit transactions and write-ahead logging."""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DisconnectionError

from pipeline.errors import LedgerUnavailable

#: Seconds that SQLite waits for another process's write before it reports that the database is locked.
BUSY_TIMEOUT_S = 60.0


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
        _write_ahead(connection)
        for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
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
