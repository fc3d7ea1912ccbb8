"""Copies a ledger into another database, SQLite or Postgres, row by row, until both are the same.

The source is read in windows. What the target lacks is inserted, what differs is replaced, and what the source lacks is deleted.
So the first pass copies, the next one compares, and a copy that was interrupted continues.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Table, delete, func, insert, select, text, tuple_
from sqlalchemy.exc import DataError

from pipeline.errors import LedgerError, LedgerUnavailable
from pipeline.ledger import triggers
from pipeline.ledger.schema import COPYING, meta, metadata, open_engine, reading, upsert, workers, writing

#: Rows of one transaction.
WINDOW = 1000

#: Passes after which a source counts as one that others write to.
PASSES = 5

#: Not copied: they are of processes that use the source.
LEFT_OUT = (workers.name,)

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Copied:
    """A finished copy, of which every row was compared with the source."""

    rows: int  #: of the target, without those of its own version
    changed: int  #: rows that were inserted, replaced or deleted; 0 if the target was a copy before


def copy_ledger(source: Engine, target_url: str, on_rows: Callable[[str, int], None] = lambda table, rows: None) -> Copied:
    """Make the database at a SQLAlchemy URL equal to the ledger `source`; `on_rows(table, rows)` is called for every window.

    A target must be empty, hold a copy that was interrupted, or be equal already. Raises LedgerError for another one, or if it
    cannot keep a row, and LedgerUnavailable if a database does not answer or others write to the source.
    """
    target = open_engine(target_url, unfinished=True)
    try:
        if not (_is_empty(target) or _is_unfinished(target)):
            if _changes(source, target, on_rows, write=False):
                where = target.url.render_as_string()
                raise LedgerError(f"the database {where} holds a ledger that differs from this one; name an empty database")
            return Copied(_count(target), 0)
        _begin(target)
        changed = 0
        for _ in range(PASSES):
            now = _changes(source, target, on_rows, write=True)
            changed += now
            if not now:
                _finish(target)
                return Copied(_count(target), changed)
        raise LedgerUnavailable("the ledger changed while it was copied; stop what writes to it and copy it again, which continues")
    finally:
        target.dispose()


def _changes(source: Engine, target: Engine, on_rows: Callable[[str, int], None], *, write: bool) -> int:
    """Make the target equal to the source as it is at one moment, or only count; return the number of rows that differ."""
    changed = 0
    with _snapshot(source) as moment:
        for table in _tables():
            done = 0
            with closing(_windows(moment, _own(table, table))) as windows:
                for rows in windows:
                    changed += _settle(target, table, rows, write=write)
                    done += len(rows)
                    on_rows(table.name, done)
            # The target has all of these rows now, so it is equal if it has as many.
            if _count(target, table) > done:
                changed += _remove_others(moment, target, table, write=write)
    return changed


def _windows(connection: Connection, statement: Any) -> Generator[Sequence[Row[Any]]]:
    """The rows of a statement; memory does not grow with their number."""
    with closing(connection.execution_options(yield_per=WINDOW).execute(statement)) as rows:
        yield from rows.partitions()


def _settle(target: Engine, table: Table, rows: Sequence[Row[Any]], *, write: bool) -> int:
    """Insert what the target lacks of these rows, and replace what differs; return how many."""
    wanted = {_key(table, row): row._asdict() for row in rows}
    with writing(target) if write else reading(target) as connection:
        found = {_key(table, row): row._asdict() for row in connection.execute(select(table).where(_among(table, wanted)))}
        wrong = [key for key, row in wanted.items() if found.get(key) != row]
        if write and wrong:
            connection.execute(delete(table).where(_among(table, wrong)))
            try:
                connection.execute(insert(table), [wanted[key] for key in wrong])
            except (DataError, ValueError) as error:  # such as a character that only one of the databases can keep
                raise LedgerError(f"the target cannot keep one of {len(wrong)} rows of {table.name}: {error}") from error
    return len(wrong)


def _remove_others(moment: Connection, target: Engine, table: Table, *, write: bool) -> int:
    """Delete the rows of the target whose keys the source lacks; return how many."""
    removed, keys = 0, [*table.primary_key.columns]
    with reading(target) as connection, closing(_windows(connection, _own(table, *keys))) as windows:
        for rows in windows:
            there = {tuple(row) for row in moment.execute(select(*keys).where(_among(table, map(tuple, rows))))}
            if others := [tuple(row) for row in rows if tuple(row) not in there]:
                removed += len(others)
                if write:
                    with writing(target) as deleting:
                        deleting.execute(delete(table).where(_among(table, others)))
    return removed


def _tables() -> list[Table]:
    return [table for table in metadata.sorted_tables if table.name not in LEFT_OUT]


def _key(table: Table, row: Row[Any]) -> Key:
    return tuple(row._mapping[column.name] for column in table.primary_key.columns)


def _among(table: Table, keys: Iterable[Key]) -> ColumnElement[bool]:
    """Condition: the row has one of these keys."""
    columns = [*table.primary_key.columns]
    return columns[0].in_([key[0] for key in keys]) if len(columns) == 1 else tuple_(*columns).in_(list(keys))


def _own(table: Table, *columns: Any) -> Any:
    """Rows of a copy that the source may have, too."""
    statement = select(*columns)
    return statement.where(meta.c.key != COPYING) if table is meta else statement


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees the database as it is now, whatever others write."""
    if engine.dialect.name == "sqlite":  # its transactions that read are such
        with reading(engine) as connection:
            yield connection
    else:
        with reading(engine.execution_options(isolation_level="REPEATABLE READ")) as connection:
            yield connection


def _is_empty(engine: Engine) -> bool:
    with reading(engine) as connection:
        return not any(connection.execute(select(table).limit(1)).first() for table in _tables() if table is not meta)


def _is_unfinished(engine: Engine) -> bool:
    with reading(engine) as connection:
        return connection.execute(select(meta.c.value).where(meta.c.key == COPYING)).first() is not None


def _begin(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(upsert(connection, meta).values(key=COPYING, value="1").on_conflict_do_nothing())
        triggers.pause(connection)


def _finish(engine: Engine) -> None:
    """Let others use the copy."""
    with writing(engine) as connection:
        triggers.make(connection)
        if connection.dialect.name == "postgresql":
            for table in _tables():
                column = table.autoincrement_column
                if column is not None and not column.foreign_keys:
                    last = select(func.coalesce(func.max(column), 0) + 1).scalar_subquery()
                    sequence = func.pg_get_serial_sequence(table.name, column.name)
                    connection.execute(select(func.setval(sequence, last, text("false"))))
        connection.execute(delete(meta).where(meta.c.key == COPYING))


def _count(engine: Engine, *tables: Table) -> int:
    with reading(engine) as connection:
        statements = [_own(table, func.count()).select_from(table) for table in tables or _tables()]
        return sum(int(connection.execute(statement).scalar_one()) for statement in statements)
