"""A ledger that is made, migrated, replaced, shared with other processes, or does not answer."""

from __future__ import annotations

import multiprocessing
import socket
import sqlite3
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from sqlalchemy import event, inspect, text

from pipeline.errors import LedgerError, LedgerUnavailable
from pipeline.ledger import Ledger
from pipeline.ledger.schema import SERVER_WAITS
from tests.services import Postgres
from tests.unit.test_ledger import index_all, stage, states


def test_a_ledger_of_another_schema_is_refused(url: str) -> None:
    opened = Ledger.open(url)
    with opened.engine.begin() as connection:
        connection.execute(text("UPDATE meta SET value='999'"))
    opened.close()
    with pytest.raises(LedgerError, match="schema 999"):
        Ledger.open(url)


#: Columns that older schemas did not have.
ADDED = {
    "collections": ("serves", "state", "profile", "swapped_at", "note"),
    "documents": ("tokens", "deleted_at", "fence", "parsed_tokens", "parse_s", "embed_s", "parsed_chunks", "given",
                  "metadata"),
    "leases": ("moved_at", "run", "roots"),
    "workers": ("processes", "busy_s", "memory_bytes"),
    "runs": ("action", "source", "schedule", "outcome", "detail", "added", "changed", "deleted", "indexed", "quarantined", "chunks",
             "embedded"),
}  # fmt: skip


def test_a_ledger_of_the_first_schema_is_brought_up_to_date(url: str) -> None:
    opened = Ledger.open(url)
    ids = stage(opened, 3)
    with opened.engine.begin() as connection:
        for trigger in (
            ("documents_begun", "documents_moved", "documents_without_fields") if opened.engine.dialect.name == "sqlite" else ()
        ):
            connection.execute(text(f"DROP TRIGGER {trigger}"))
        for table in ("events", "measures", "advances", "throughput", "fields", "document_fields"):
            connection.execute(text(f"DROP TABLE {table}"))
        if opened.engine.dialect.name == "postgresql":
            connection.execute(text("DROP FUNCTION documents_event CASCADE"))
        for index in ("documents_run_figures", "documents_held", "documents_content"):
            connection.execute(text(f"DROP INDEX {index}"))
        for table, columns in ADDED.items():
            for column in columns:
                connection.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
        connection.execute(text("DROP TABLE sources"))
        connection.execute(text("CREATE INDEX documents_lease ON documents (lease)"))
        connection.execute(text("UPDATE meta SET value='1' WHERE key='schema_version'"))
    opened.close()
    again = Ledger.open(url)
    names = {str(index["name"]) for index in inspect(again.engine).get_indexes("documents")}
    assert names >= {"documents_run_figures", "documents_held"}
    assert "documents_lease" not in names
    index_all(again, ids)
    assert states(again) == {"indexed": 3}
    assert [event.state for event in again.life.of(ids[0])] == ["parsing", "parsed", "embedding", "indexed"]
    assert again.sources.add("s", "docs", "/doc", (), ())
    again.runs.end(again.runs.start("docs", "sync", "s"), "done")
    assert [(run.action, run.source, run.outcome, run.deleted) for run in again.runs.latest()] == [("sync", "s", "done", 0)]
    assert again.removal.mark("docs", ids[:1]) == 1
    again.close()
    Ledger.open(url).close()


def test_a_first_process_waits_for_another_one_that_makes_the_file(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "kb.db", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE t (x)")  # not yet in the ledger's journal mode, to which SQLite changes without waiting
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, other.execute, ("ROLLBACK",)).start()
    Ledger.open(f"sqlite:///{tmp_path / 'kb.db'}").close()
    other.close()


def test_a_postgres_that_says_nothing_is_not_waited_for_for_ever(postgres: Postgres) -> None:
    url = postgres.database()
    with closing(Ledger.open(f"{url}?keepalives_idle=7&connect_timeout=3")) as ledger, ledger.engine.connect() as connection:
        used = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]
    waits = {name: used[name] for name in SERVER_WAITS if name != "connect_timeout"}  # which is the driver's own matter
    assert waits == {
        "keepalives": "1", "keepalives_idle": "7", "keepalives_interval": "10", "keepalives_count": "3",
        "tcp_user_timeout": "60000",
    }  # fmt: skip


def test_a_postgres_that_takes_connections_and_says_nothing_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://kb@127.0.0.1:{silent.getsockname()[1]}/kb?connect_timeout=2"
        began = time.monotonic()
        with pytest.raises(LedgerUnavailable):
            Ledger.open(url)
        assert time.monotonic() - began < 8


def test_a_ledger_whose_folder_is_replaced_is_read_from_the_new_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in (data, tmp_path / "restored"):
        folder.mkdir()
    with Ledger.open(f"sqlite:///{tmp_path / 'restored' / 'kb.db'}") as restored:
        stage(restored, 3)
    with Ledger.open(f"sqlite:///{data / 'kb.db'}") as opened:
        assert states(opened) == {}
        data.rename(tmp_path / "old")
        (tmp_path / "restored").rename(data)
        assert states(opened) == {"pending": 3}


def test_a_ledger_in_sqlite_keeps_its_connection_between_calls_and_closes_it_before_a_fork(tmp_path: Path) -> None:
    opened_connections: list[object] = []
    with Ledger.open(f"sqlite:///{tmp_path / 'kb.db'}") as opened:
        event.listen(opened.engine, "connect", lambda connection, _: opened_connections.append(connection))
        stage(opened, 3)
        assert states(opened) == {"pending": 3}
        assert len(opened_connections) <= 1
        assert ledger_files(tmp_path)
        child = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(len(ledger_files(tmp_path))))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert states(opened) == {"pending": 3}


def ledger_files(folder: Path) -> list[str]:
    return [file.path for file in psutil.Process().open_files() if Path(file.path).parent == folder]


def test_a_ledger_that_was_open_before_a_fork_opens_its_file_again(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path / 'kb.db'}") as opened:
        stage(opened, 1)
        child = multiprocessing.get_context("fork").Process(target=lambda: stage(opened, 1, run=2, version="2"))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert opened.report.progress(2).states == {"pending": 1}


def test_a_new_connection_that_reads_waits_for_no_writer(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path / 'kb.db'}") as ledger, closing(sqlite3.connect(tmp_path / "kb.db")) as writer:
        stage(ledger, 1)
        writer.execute("BEGIN IMMEDIATE")
        ledger.engine.dispose()
        began = time.monotonic()
        assert states(ledger) == {"pending": 1}
        assert time.monotonic() - began < 1
