"""The space of a ledger's file: what is free goes back to the file system, beside readers and writers."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.ledger import Ledger, sqlite
from pipeline.ledger.schema import writing
from pipeline.staging import open_staging
from pipeline.store.edge import EdgeStore
from tests.unit.test_garbage import collect, stage


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kb.db"


@pytest.fixture
def ledger(file: Path) -> Iterator[Ledger]:
    with Ledger.open(f"sqlite:///{file}") as opened:
        yield opened


def make_room(ledger: Ledger) -> None:
    """Let most of the file be free."""
    with writing(ledger.engine) as connection:
        connection.exec_driver_sql("CREATE TABLE large (value BLOB)")
        for _ in range(40):
            connection.exec_driver_sql("INSERT INTO large VALUES (randomblob(500000))")
    with writing(ledger.engine) as connection:
        connection.exec_driver_sql("DROP TABLE large")


def test_what_is_free_goes_back_in_pieces(ledger: Ledger, file: Path) -> None:
    steps: list[int] = []
    stage(ledger, "a", "1" * 64)
    assert ledger.upkeep.give_back(lambda: steps.append(1)) == 0, "nothing is free"
    make_room(ledger)
    before = file.stat().st_size
    assert before > 20_000_000
    assert steps == []
    assert ledger.upkeep.give_back(lambda: steps.append(file.stat().st_size)) > 19_000_000
    assert file.stat().st_size < 1_000_000
    assert len(steps) > 20_000_000 / 4096 / sqlite.FREE_PAGES
    assert ledger.report.progress().open == 1


def test_a_removal_gives_space_back(ledger: Ledger, file: Path, tmp_path: Path) -> None:
    stage(ledger, "a", "1" * 64)
    make_room(ledger)
    with closing(EdgeStore(tmp_path / "qdrant")) as store:
        assert collect(ledger, open_staging(str(tmp_path / "staging")), store).kept == []
    assert file.stat().st_size < 1_000_000
    stage(ledger, "another", "1" * 64)
    assert ledger.report.progress().open == 2


def test_a_removal_goes_on_if_the_ledger_cannot_be_made_smaller(
    ledger: Ledger, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.1)
    make_room(ledger)
    give_back = ledger.upkeep.give_back

    def beside_a_writer(on_step: Callable[[], None]) -> int:
        with closing(sqlite3.connect(file, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            return give_back(on_step)

    monkeypatch.setattr(ledger.upkeep, "give_back", beside_a_writer)
    with closing(EdgeStore(tmp_path / "qdrant")) as store:
        (kept,) = collect(ledger, open_staging(str(tmp_path / "staging")), store).kept
    assert "smaller: database is locked" in kept


def test_readers_are_not_waited_for_long(ledger: Ledger, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others could not write meanwhile."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 15.0)
    make_room(ledger)
    before = file.stat().st_size
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM documents").fetchone()
        began = time.monotonic()
        assert ledger.upkeep.give_back(lambda: None) > 19_000_000
        assert time.monotonic() - began < 10
        assert file.stat().st_size == before, "the reader sees the file as it was"
        reader.execute("COMMIT")
        stage(ledger, "a", "1" * 64)
    ledger.engine.dispose()
    assert file.stat().st_size < 1_000_000


def test_a_ledger_of_an_earlier_version_gives_space_back(file: Path) -> None:
    with Ledger.open(f"sqlite:///{file}") as made:
        made.collections.names()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for pragma in ("journal_mode=DELETE", "auto_vacuum=NONE"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("VACUUM")
        connection.execute("CREATE TABLE large AS SELECT randomblob(4000000) AS value")
        connection.execute("DROP TABLE large")
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    before = file.stat().st_size
    with Ledger.open(f"sqlite:///{file}") as ledger:
        assert ledger.upkeep.give_back(lambda: None) > 3_000_000
        assert file.stat().st_size < before / 3
        stage(ledger, "a", "1" * 64)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
