"""Connections to the ledger on SQLite: explicit transactions and write-ahead logging."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, Engine, event

#: Seconds that SQLite waits for another process's write before it reports that the database is locked.
BUSY_TIMEOUT_S = 60.0


def configure(engine: Engine) -> None:
    """Configure every connection of `engine`, a database in SQLite."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        # The driver's own BEGIN is deferred and fails late with SQLITE_BUSY, so transactions begin explicitly.
        connection.isolation_level = None
        # WAL with NORMAL: a killed process loses nothing; a power failure may lose the last commits, whose work is then repeated.
        # busy_timeout is set with the connection; journal_mode is stored in the file, so setting it again is nearly free.
        _write_ahead(connection)
        for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("kb_reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


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
