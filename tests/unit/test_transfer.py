"""A ledger copied into another database: every row, again after an interruption, and never over one that differs."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update

from pipeline.errors import LedgerError, LedgerUnavailable
from pipeline.ledger import Ledger, transfer
from pipeline.ledger.fields import document_fields
from pipeline.ledger.generations import Collection
from pipeline.ledger.schema import documents, events, losses, meta, metadata, runs, writing
from pipeline.ledger.transfer import copy_ledger
from pipeline.ledger.work import IndexedResult, ParsedResult
from pipeline.types import SourceFile, Stage, StagedFile, document_id
from tests.services import Postgres


def fill(ledger: Ledger, number: int = 30) -> None:
    """Documents in every state that a ledger at rest has, with their events, fields and losses."""
    ledger.collections.add(Collection("docs", "docs-1", "model", "", 8, "f", "[0.5]", 1.0, "", "live"))
    run = ledger.runs.start("docs")
    staged = {}
    for n in range(number):
        source = SourceFile(f"file:///d/Ä {n}.txt", Path(f"/d/Ä {n}.txt"), 100 + n, 1 << 60)
        staged[document_id("docs", source.uri)] = StagedFile(source, f"{n:064d}", "")
    ledger.intake.record_staged("docs", run, staged)
    keys = list(staged)
    claim = ledger.work.claim(Stage.PARSE, keys[: number // 2], "parse@host/1")
    ledger.work.parsed(
        claim,
        [ParsedResult(key, "Title", "text/plain", "p", 40, 0.1 + n / 7) for n, key in enumerate(keys[: number // 2])],
    )
    ledger.work.release(claim)
    claim = ledger.work.claim(Stage.EMBED, keys[: number // 3], "embed@host/2")
    ledger.work.indexed(claim, [IndexedResult(key, staged[key].content_hash, "p", "e", 3, 3, 40) for key in keys[: number // 3]])
    ledger.work.release(claim)
    with writing(ledger.engine) as connection:
        connection.execute(insert(losses).values(document=keys[0], ordinal=0, kind="page", place="page 2", detail="", count=1))
        connection.execute(insert(document_fields).values(document=keys[0], name="year", ordinal=0, number=0.1 + 0.2))
    ledger.runs.end(run, "done")


def rows(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    with ledger.engine.connect() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
            if table.name != "workers"
        }


@pytest.fixture(params=["postgres", "sqlite"])
def target_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'target.db'}"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.schema()


@pytest.fixture
def source(ledger: Ledger) -> Ledger:
    fill(ledger)
    ledger.registry.register("embed-0@host", "embed", "host", 1, "cpu")
    return ledger


def test_every_row_arrives_and_the_copy_works_on(source: Ledger, target_url: str) -> None:
    told: dict[str, int] = {}
    copied = copy_ledger(source.engine, target_url, lambda table, number: told.update({table: number}))
    assert told["documents"] == 30
    with Ledger.open(target_url) as target:
        assert rows(target) == rows(source)
        assert copied.rows == sum(map(len, rows(source).values()))
        assert target.registry.workers() == []
        before = len(rows(target)["events"])
        # Numbers go on, and triggers write events again: one for each change, none for what was copied.
        assert target.runs.start("docs") == len(rows(source)["runs"]) + 1
        (waiting,) = [row[0] for row in rows(target)["documents"] if row[6] == "pending"][:1]
        claim = target.work.claim(Stage.PARSE, [str(waiting)], "parse@other/1")
        assert len(rows(target)["events"]) == before + 1
        target.work.release(claim)
        with writing(target.engine) as connection:
            connection.execute(delete(documents).where(documents.c.id == rows(source)["losses"][0][0]))
        assert rows(target)["losses"] == rows(target)["document_fields"] == []


def test_there_and_back_is_the_same_ledger(source: Ledger, target_url: str, tmp_path: Path) -> None:
    copy_ledger(source.engine, target_url)
    back = f"sqlite:///{tmp_path / 'back.db'}"
    with Ledger.open(target_url) as target:
        copy_ledger(target.engine, back)
    with Ledger.open(back) as again:
        assert rows(again) == rows(source)


@pytest.mark.parametrize("stopped_at", ["document_fields", "documents", "events", "runs"])
def test_an_interrupted_copy_is_refused_until_it_is_finished(
    source: Ledger, target_url: str, stopped_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "WINDOW", 7)

    def stop(table: str, number: int) -> None:
        if table == stopped_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_ledger(source.engine, target_url, stop)
    with pytest.raises(LedgerError, match="copy that was not finished"):
        Ledger.open(target_url)
    # The source goes on meanwhile: rows change, come and go.
    with writing(source.engine) as connection:
        connection.execute(update(documents).where(documents.c.state == "pending").values(title="changed"))
        connection.execute(delete(runs))
        connection.execute(insert(meta).values(key="new", value="1"))
    copy_ledger(source.engine, target_url)
    with Ledger.open(target_url) as target:
        assert rows(target) == rows(source)


def test_a_second_copy_compares_and_changes_nothing(source: Ledger, target_url: str) -> None:
    copy_ledger(source.engine, target_url)
    assert copy_ledger(source.engine, target_url).changed == 0
    with writing(source.engine) as connection:
        connection.execute(delete(documents).where(documents.c.state == "pending"))
    with pytest.raises(LedgerError, match="holds a ledger that differs"):
        copy_ledger(source.engine, target_url)
    with Ledger.open(target_url) as target:
        assert target.report.progress().states["pending"] == 15


def test_a_source_that_others_write_to_is_no_copy(source: Ledger, target_url: str) -> None:
    def write(table: str, number: int) -> None:
        if table == events.name:
            with writing(source.engine) as connection:
                connection.execute(update(documents).values(starts=documents.c.starts + 1))

    with pytest.raises(LedgerUnavailable, match="changed while it was copied"):
        copy_ledger(source.engine, target_url, write)
    with pytest.raises(LedgerError, match="not finished"):
        Ledger.open(target_url)


def test_a_row_that_the_target_cannot_keep_is_named(tmp_path: Path, postgres: Postgres) -> None:
    with Ledger.open(f"sqlite:///{tmp_path / 'nul.db'}") as ledger:
        fill(ledger)
        with writing(ledger.engine) as connection:
            connection.execute(update(documents).values(detail="a\x00b"))
        with pytest.raises(LedgerError, match="cannot keep one of 30 rows of documents"):
            copy_ledger(ledger.engine, postgres.schema())
