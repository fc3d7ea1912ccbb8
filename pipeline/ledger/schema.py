"""The ledger's tables, migrations and connections."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    func,
    insert,
    inspect,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.schema import CreateColumn

from pipeline.errors import CollectionReplaced, LedgerError, LedgerUnavailable, NoSpace
from pipeline.ledger import triggers
from pipeline.ledger.sqlite import BUSY_TIMEOUT_S, configure

#: Increased with every change of the tables; a newer ledger is refused, an older one is migrated by `_migrate`.
SCHEMA_VERSION = 10

#: Key of the advisory lock for creating tables; any unused number.
SCHEMA_LOCK = 5_113_521

#: The key in `meta` of a copy that is not finished: it may lack rows, and its triggers are dropped.
COPYING = "copying"

#: Timeouts for a Postgres that does not respond, as libpq settings: in seconds, the last one in milliseconds. Without them, a dead
#: host or a connection dropped by a firewall blocks the caller for a quarter of an hour or forever.
SERVER_WAITS = {
    "connect_timeout": 10, "keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}  # fmt: skip

#: States of a generation: found under its collection's name; being built next to that one; replaced, and kept for a rollback.
LIVE, BUILDING, SUPERSEDED = "live", "building", "superseded"

metadata = MetaData()

meta = Table("meta", metadata, Column("key", String(255), primary_key=True), Column("value", Text, nullable=False))

collections = Table(
    "collections", metadata,
    Column("name", String(255), primary_key=True),
    Column("physical", String(255), nullable=False),  # target of the alias `name`
    Column("model", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("fingerprint", String(64), nullable=False),  # embed fingerprint
    Column("canary", Text, nullable=False),  # vector of a fixed sentence, JSON: proves that a worker runs the same model
    Column("created_at", Float, nullable=False),
    Column("serves", String(255), nullable=False, server_default=""),  # the collection it is a generation of; empty: `name`
    Column("state", String(16), nullable=False, server_default="live"),  # live, building, superseded
    Column("profile", Text, nullable=False, server_default="{}"),  # settings that apply to it, JSON
    Column("swapped_at", Float),
    Column("note", Text, nullable=False, server_default=""),  # why it was not swapped in
)  # fmt: skip

runs = Table(
    "runs", metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("collection", String(255), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("discovered", Integer, nullable=False, default=0),
    Column("unchanged", Integer, nullable=False, default=0),
    Column("bytes", BigInteger, nullable=False, default=0),
    Column("action", String(16), nullable=False, server_default="load"),  # load, sync, delete, verify, reindex, gc
    Column("source", String(255), nullable=False, server_default=""),
    Column("schedule", String(255), nullable=False, server_default=""),
    Column("outcome", String(16), nullable=False, server_default=""),  # empty while it is running, or if its process died
    Column("detail", Text, nullable=False, server_default=""),  # the reason, if the outcome is not `done`
    Column("token", String(100), nullable=False, server_default=""),  # name of the token that the service was asked with
    Column("staged_at", Float),  # when all of a load was staged that does not wait for its end
    # Results, written at the end of the run: the documents' own rows come to belong to later runs.
    Column("added", Integer, nullable=False, server_default="0"),
    Column("changed", Integer, nullable=False, server_default="0"),
    Column("deleted", Integer, nullable=False, server_default="0"),
    Column("indexed", Integer, nullable=False, server_default="0"),
    Column("quarantined", Integer, nullable=False, server_default="0"),
    Column("chunks", BigInteger, nullable=False, server_default="0"),
    Column("embedded", BigInteger, nullable=False, server_default="0"),
)  # fmt: skip

sources = Table(
    "sources", metadata,
    Column("name", String(255), primary_key=True),
    Column("collection", String(255), nullable=False),
    Column("location", Text, nullable=False),  # absolute path, or URL
    Column("include", Text, nullable=False),  # JSON list of patterns
    Column("exclude", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("synced_at", Float),  # end of the last sync that listed it completely
    Column("root", Text, nullable=False, server_default=""),  # URI that the location resolved to then
    Column("records", Text, nullable=False, server_default=""),  # how records are documents, JSON; empty: as in earlier loads
)  # fmt: skip

schedules = Table(
    "schedules", metadata,
    Column("name", String(255), primary_key=True),
    Column("cron", String(255), nullable=False),  # five fields
    Column("timezone", String(64), nullable=False),  # time zone of the cron expression
    Column("source", String(255), nullable=False),
    Column("action", String(16), nullable=False),
    Column("paused", Integer, nullable=False, server_default="0"),
    Column("last_slot", BigInteger, nullable=False),  # the latest slot that was run or skipped; epoch
    Column("lease", String(36)),  # lease of the run in progress, if it exists in `leases`; else of a run that died
    Column("created_at", Float, nullable=False),
)  # fmt: skip

totals = Table(
    "totals", metadata,
    # State of the collection after a run, to compare the next run with; the run's own counts cover only what it touched.
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("documents", BigInteger, nullable=False),  # documents of the collection, without deleted ones
    Column("chunks", BigInteger, nullable=False),  # their points
    Column("failures", BigInteger, nullable=False),  # quarantined documents; for a check, wrong points
)  # fmt: skip

documents = Table(
    "documents",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("collection", String(255), nullable=False),
    Column("uri", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("content_hash", String(64), nullable=False),  # of the staged version; empty if staging failed
    Column("state", String(16), nullable=False),
    Column("reason", String(32)),
    Column("detail", Text),
    Column("starts", Integer, nullable=False, default=0),  # attempts: one more at a claim, one less when the stage ends cleanly
    Column("batch", String(36)),  # the message that carries it; null: not queued
    Column("lease", String(36)),  # the claim that holds it; null: no worker holds it
    Column("dirty", Integer, nullable=False, default=0),  # 1: a worker that had lost its lease may have written points
    Column("run", Integer, nullable=False),  # the run that brought this version
    Column("title", Text, nullable=False, default=""),
    Column("media_type", String(255), nullable=False, default=""),
    Column("parse_fingerprint", String(64), nullable=False, default=""),  # of the chunk file of this version
    Column("indexed_hash", String(64), nullable=False, default=""),  # the version that searches find
    Column("indexed_parse", String(64), nullable=False, default=""),
    Column("indexed_embed", String(64), nullable=False, default=""),
    Column("chunks", Integer, nullable=False, default=0),  # points of the indexed version
    Column("embedded", Integer, nullable=False, default=0),  # points embedded by the last indexing; the others existed already
    Column("updated_at", Float, nullable=False),
    Column("tokens", BigInteger, nullable=False, server_default="0"),  # of the indexed version's chunks
    Column("deleted_at", Float),  # when it was marked as deleted; its points are deleted after a grace period
    Column("fence", String(36)),  # the lease that held it when it was marked; until that ends, its owner may still write points
    Column("parsed_tokens", BigInteger, nullable=False, server_default="0"),  # of the chunk file of this version
    Column("parse_s", Float, nullable=False, server_default="0"),  # the parser's time for this version; 0: its chunk file existed
    Column("embed_s", Float, nullable=False, server_default="0"),  # its share of the embed stage's time
    Column("parsed_chunks", Integer, nullable=False, server_default="0"),  # of the chunk file of this version
    Column("parent", String(36), nullable=False, server_default=""),  # the document that this one is a member of
    Column("properties", Text, nullable=False, server_default=""),  # JSON object of the document's own fields
    Column("given", Text, nullable=False, server_default=""),  # metadata of its load; see pipeline.metadata.Given
    Column("metadata", Text, nullable=False, server_default=""),  # JSON object of the metadata of the indexed version
    Column("validators", Text, nullable=False, server_default=""),  # of a page; see pipeline.types.SourceFile
    Index("documents_state_batch", "state", "batch"),
    # Documents with the same bytes lend each other their vectors.
    Index("documents_content", "content_hash"),
    # Includes the numbers that a run's display adds up, so that it reads no rows.
    Index("documents_run_figures", "run", "state", "chunks", "embedded", "size", "tokens", "parsed_tokens", "parsed_chunks"),
    # Nearly all rows have no lease: SQLite has no statistics here and must not treat "no lease" as a selective condition.
    Index("documents_held", "lease", sqlite_where=text("lease IS NOT NULL"), postgresql_where=text("lease IS NOT NULL")),
    Index("documents_collection_uri", "collection", "uri"),
    Index("documents_parent", "parent", sqlite_where=text("parent <> ''"), postgresql_where=text("parent <> ''")),
)

#: Condition: documents inside others. It goes with every condition on `parent`: without it, and with a bound parameter in it,
#: SQLite does not use the index, which leaves out the many documents that are in no other one.
is_member = documents.c.parent != literal_column("''")

losses = Table(
    "losses", metadata,
    # Of the version that was parsed last; a trigger deletes them with their document.
    Column("document", String(36), primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(32), nullable=False),
    Column("place", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("count", Integer, nullable=False),
)  # fmt: skip

leases = Table(
    "leases", metadata,
    Column("id", String(36), primary_key=True),
    Column("stage", String(16), nullable=False),  # a stage, or `schedule` or `run`: held while its process lives
    Column("owner", String(255), nullable=False),
    Column("beat", BigInteger, nullable=False),  # increases during work; not a clock, so a clock step cannot end the lease
    Column("started_at", Float, nullable=False),  # for people only
    Column("moved_at", Float),  # the last change of `beat`, for people only
    Column("run", Integer),  # only for the lease of a run, like the next column
    Column("roots", Text),  # JSON list of the URIs that no other run may load into its collection
)  # fmt: skip

events = Table(
    "events", metadata,
    # Every change of a document's state, written by triggers; deleted after KB_EVENTS_DAYS, the way to an end after KB_STEPS_DAYS.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("document", String(36), nullable=False),
    Column("run", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("owner", String(255)),  # owner of the lease that holds or held it, if any
    Column("reason", String(32)),
    Column("detail", Text),
    # Only for a document that became searchable.
    Column("size", BigInteger),
    Column("chunks", Integer),
    Column("embedded", Integer),
    Column("tokens", BigInteger),
    Column("parse_s", Float),
    Column("embed_s", Float),
    Index("events_document", "document"),
    Index("events_run", "run", "state"),
)  # fmt: skip

measures = Table(
    "measures", metadata,
    # Counters of all workers since the ledger was created; see pipeline.telemetry.counters.
    Column("metric", String(64), primary_key=True),
    Column("label", String(255), primary_key=True),  # a stage, a run, or empty
    Column("bound", String(16), primary_key=True),  # upper bound of a histogram's bucket, or `sum` or `count`
    Column("value", Float, nullable=False),
)  # fmt: skip

workers = Table(
    "workers", metadata,
    Column("name", String(255), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", String(64), nullable=False, default=""),
    Column("dtype", String(16), nullable=False, default=""),
    Column("chunks_per_s", Float, nullable=False, default=0.0),  # canary rate at start
    Column("note", Text, nullable=False, default=""),  # obstacle that keeps it from working, human-readable
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("processes", Integer, nullable=False, server_default="1"),  # number of concurrent processes
    Column("busy_s", Float, nullable=False, server_default="0"),  # of all processes, since the start
    Column("memory_bytes", BigInteger, nullable=False, server_default="0"),  # of the device, or else of one process
)  # fmt: skip


def open_engine(url: str, *, unfinished: bool = False) -> Engine:
    """Open the ledger's database and create or check its tables.

    Open it after a fork, never before: neither SQLite nor Postgres connections survive one. With `unfinished`, also a copy that
    is not finished.

    Raises LedgerError for a schema of a newer version or a copy that is not finished, LedgerUnavailable if the database does
    not answer.
    """
    parsed = make_url(url)
    try:
        if parsed.get_backend_name() == "sqlite":
            options = {"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
            engine = create_engine(url, pool_size=4, max_overflow=-1, connect_args=options)
            configure(engine)
        else:
            waits = SERVER_WAITS if parsed.get_driver_name().startswith("psycopg") else {}
            given = {name: value for name, value in waits.items() if name not in parsed.query}
            engine = create_engine(url, pool_pre_ping=True, pool_size=4, connect_args=given)
    except (SQLAlchemyError, ImportError) as error:
        raise LedgerError(f"cannot use the ledger {parsed.render_as_string(hide_password=True)}: {error}") from error
    try:
        _make_tables(engine, unfinished)
    except Exception:
        engine.dispose()
        raise
    return engine


def _make_tables(engine: Engine, unfinished: bool) -> None:
    with writing(engine) as connection:
        if connection.dialect.name != "sqlite":
            # Two processes that create the same table at once collide in the catalogue; SQLite's write lock prevents that.
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
        metadata.create_all(connection)
        _migrate(connection)
        if not unfinished and connection.execute(select(meta.c.key).where(meta.c.key == COPYING)).first():
            raise LedgerError(
                f"the ledger {engine.url.render_as_string()} is a copy that was not finished; run the same `kb-ingest ledger copy` "
                "or `move-up` again, which continues"
            )


def _migrate(connection: Connection) -> None:
    """Migrate older tables to this version; raises LedgerError for newer ones."""
    found = connection.execute(select(meta.c.value).where(meta.c.key == "schema_version")).scalar()
    if found is None:
        statement = upsert(connection, meta).values(key="schema_version", value=str(SCHEMA_VERSION))
        connection.execute(statement.on_conflict_do_nothing())
        triggers.make(connection)
    elif int(found) < SCHEMA_VERSION:
        # Version 2 has other indexes, and longer keys in this table; SQLite does not enforce their length.
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("ALTER TABLE meta ALTER COLUMN key TYPE VARCHAR(255)")
        # Indexes that no longer exist, and one that has another column since version 5.
        for old in ("documents_run_state", "documents_lease", "documents_run_progress", "documents_run_figures"):
            connection.exec_driver_sql(f"DROP INDEX IF EXISTS {old}")
        # Versions 3 to 10 have more columns; each is nullable or has a default of the database's own.
        for table in metadata.sorted_tables:
            there = {column["name"] for column in inspect(connection).get_columns(table.name)}
            for column in table.columns:
                if column.name not in there:
                    specification = CreateColumn(column).compile(dialect=connection.dialect)
                    connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {specification}")
            for index in table.indexes:
                index.create(connection, checkfirst=True)
        triggers.make(connection)
        connection.execute(update(meta).where(meta.c.key == "schema_version").values(value=str(SCHEMA_VERSION)))
    elif int(found) > SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger has schema {found}, but this kb-ingest supports only {SCHEMA_VERSION}; use the version that wrote it"
        )


def current() -> ColumnElement[bool]:
    """Condition on documents: not of a generation that was replaced and is kept only for a rollback."""
    return documents.c.collection.not_in(select(collections.c.name).where(collections.c.state == SUPERSEDED))


def hold(connection: Connection, generation: str, *, building: bool = False) -> None:
    """Prevent the swap of a generation until the transaction ends; call it before changing its documents.

    Raises CollectionReplaced if it is neither live nor being built, or, with `building`, if it is not being built.
    """
    state = connection.execute(
        select(collections.c.state).where(collections.c.name == generation).with_for_update(read=True)
    ).scalar()
    if state == SUPERSEDED or (building and state != BUILDING):
        raise CollectionReplaced(f"the collection behind {generation!r} was replaced or dropped meanwhile; run the command again")


def upsert(connection: Connection, table: Table) -> Any:
    """An INSERT of the connection's dialect, with `on_conflict_do_*`."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes; in SQLite it holds the write lock from its start."""
    with _translated(engine), engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads, and waits for no writer."""
    with _translated(engine), engine.connect().execution_options(kb_reads=True) as connection:
        yield connection


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        text = str(error.orig)
        if "disk is full" in text or "No space left" in text:
            raise NoSpace(f"no disk space for the ledger: {text}; free some space and run the command again") from error
        if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise LedgerUnavailable(
                f"cannot use the ledger {engine.url.database}: {text}; "
                "give this user read and write permission on it and its folder, or set KB_DATA_DIR to another folder"
            ) from error
        raise LedgerUnavailable(f"the ledger does not answer: {text}") from error


__all__ = [
    "BUILDING", "COPYING", "LIVE", "SCHEMA_VERSION", "SUPERSEDED", "collections", "current", "documents", "events", "func", "hold",
    "insert", "is_member", "leases", "losses", "measures", "meta", "metadata", "open_engine", "reading", "runs", "schedules",
    "sources", "totals", "upsert", "workers", "writing",
]  # fmt: skip
