"""Connections to the ledger on SQLite: explicit transactions, write-ahead logging, kept from one transaction to the next."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DisconnectionError

#: Seconds that SQLite waits for another process's write before it reports that the database is locked.
BUSY_TIMEOUT_S = 60.0


def configure(engine: Engine) -> None:
    """Configure every connection of `engine`, a database in SQLite."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        # The driver's own BEGIN is deferred and fails late with SQLITE_BUSY, so transactions begin explicitly.
        connection.isolation_level = None
        # WAL with NORMAL: a killed process loses nothing; a power failure may lose the last commits, whose work is then repeated.
        # busy_timeout is set with the connection; journal_mode is stored in the file, so setting it again is nearly free.
        record.info["opened"] = _opened(engine)
        _write_ahead(connection)
        for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "checkout")
    def on_checkout(_connection: Any, record: Any, proxy: Any) -> None:
        # A kept connection is good for the process that opened it, and for the file that it opened.
        if record.info["opened"] != _opened(engine):
            record.dbapi_connection = proxy.dbapi_connection = None
            raise DisconnectionError("the ledger's file was replaced, or this process was forked")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("kb_reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _opened(engine: Engine) -> tuple[int, int, int]:
    """This process, and the file at the database's path; zeros if there is none."""
    try:
        found = os.stat(engine.url.database or "")
    except OSError:
        return os.getpid(), 0, 0
    return os.getpid(), found.st_dev, found.st_ino


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
