"""Tells whether the ledger has changed, without reading it, so that what was read can be used again until then."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine

from pipeline.ledger.sqlite import before_fork, identity

T = TypeVar("T")

#: Most values that are kept.
MOST = 1000


class Kept:
    """Values that were read from a ledger in SQLite, until anybody commits anything to it; for any number of threads.

    SQLite counts the commits of other connections, those of other processes included. Of another database nothing is kept.
    """

    def __init__(self, engine: Engine) -> None:
        self._file = engine.url.database if engine.dialect.name == "sqlite" else None
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened = 0  #: connections so far; each counts from a number of its own
        self._identity = (0, 0)
        self._state: Hashable = None
        self._values: dict[Hashable, Any] = {}
        before_fork(self)

    def look(self, key: Hashable) -> Any | None:
        """The value that was read and still holds; None if there is none. Waits for nobody."""
        state = self._now()
        with self._lock:
            return None if state is None else self._values_of(state).get(key)

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """The value that was read and still holds; else what `read` returns, which is kept."""
        kept: T | None = self.look(key)
        return self.read(key, read) if kept is None else kept

    def read(self, key: Hashable, read: Callable[[], T]) -> T:
        """What `read` returns; kept unless it is None, of which there could be any number."""
        state = self._now()  # first: what is read then is at least as new
        value = read()
        if state is not None and value is not None:
            with self._lock:
                values = self._values_of(state)
                if len(values) >= MOST:
                    values.clear()
                values[key] = value
        return value

    def close(self) -> None:
        """Close the connection; the next look opens another one."""
        with self._lock:
            self._close()

    def _values_of(self, state: Hashable) -> dict[Hashable, Any]:
        """The values that were read in this state."""
        if state != self._state:
            self._state, self._values = state, {}
        return self._values

    def _now(self) -> Hashable:
        """Changes with every commit; None if that cannot be told."""
        if self._file is None:
            return None
        with self._lock:
            try:
                now = identity(self._file)
                if self._connection is None or now != self._identity:  # the second: the data folder was replaced, as by a backup
                    self._close()
                    # By its URI, so that a missing file is not made; without patience, as callers have other ways.
                    uri = f"{Path(self._file).absolute().as_uri()}?mode=ro"
                    self._connection = sqlite3.connect(uri, uri=True, timeout=0, check_same_thread=False, isolation_level=None)
                    self._opened += 1
                    self._identity = now
                return self._opened, self._connection.execute("PRAGMA data_version").fetchone()[0]
            except sqlite3.Error:
                self._close()
                return None

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
