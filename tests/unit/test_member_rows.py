"""Members of documents in the ledger: found by their index, and counted among what their document has ahead of it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import event

from pipeline.ledger import Ledger
from pipeline.types import DocumentState, Reason, SourceFile, Stage, StagedFile, document_id


def record(ledger: Ledger, parent: str, *names: str) -> list[str]:
    """Record members of a document by name; their ids."""
    staged = {document_id("docs", f"{parent}!/{n}"): StagedFile(SourceFile(f"{parent}!/{n}", None, 1, 0), n, "") for n in names}
    ledger.intake.record_members("docs", 1, parent, staged, {}, "p", dict.fromkeys(staged, ""))
    return list(staged)


def test_members_of_documents_are_found_by_their_index(tmp_path: Path) -> None:
    opened = Ledger.open(f"sqlite:///{tmp_path / 'kb.db'}")
    statements: list[tuple[str, object]] = []

    @event.listens_for(opened.engine, "before_cursor_execute")
    def noted(_: object, cursor: object, statement: str, parameters: object, *rest: object) -> None:
        statements.append((statement, parameters))

    opened.intake.with_members(["a", "b"])
    opened.intake.unfinished_members(["a", "b"])
    list(opened.intake.members("a"))
    opened.removal.mark("docs", ["a"])
    asked = [one for one in statements if one[0].startswith("SELECT") and "parent" in one[0]]
    assert len(asked) == 5
    with opened.engine.connect() as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()  # type: ignore[arg-type]
            assert not [row for row in plan if row[3].startswith("SCAN")], (statement, plan)
    opened.close()


def test_members_at_any_depth_are_part_of_what_is_unfinished(ledger: Ledger) -> None:
    first, second = record(ledger, "box", "a", "b")
    (inner,) = record(ledger, first, "c")
    (deepest,) = record(ledger, inner, "d")
    assert ledger.intake.unfinished_members(["box"]) == dict.fromkeys((first, second, inner, deepest))
    assert ledger.intake.unfinished_members([inner]) == {deepest: None}
    assert ledger.intake.with_members(["box", first, second]) == {"box", first}
    assert sorted(ledger.intake.members("box")) == sorted((first, second))
    ledger.removal.mark("docs", [first])
    assert ledger.intake.unfinished_members(["box"]) == {second: None}
    assert list(ledger.intake.members("box")) == [second]


def test_a_member_whose_copy_was_lost_is_started_again(ledger: Ledger) -> None:
    (key,) = record(ledger, "box", "a")
    claim = ledger.work.claim(Stage.PARSE, [key], "p")
    ledger.work.fail(claim, key, Reason.STAGED_LOST, "")
    ledger.work.release(claim)
    assert ledger.intake.unfinished_members(["box"]) == {key: "staged_lost"}
    record(ledger, "box", "a")
    assert ledger.intake.known([key])[key].state is DocumentState.PENDING


def test_other_metadata_of_a_member_is_recorded_and_the_same_is_not(ledger: Ledger) -> None:
    (key,) = record(ledger, "box", "a")
    known = ledger.intake.known([key])[key]
    file = StagedFile(SourceFile("box!/a", None, 1, 0), known.content_hash, "")
    before = ledger.life.of(key)
    ledger.intake.record_members("docs", 1, "box", {key: file}, {}, "p", {key: ""})
    assert ledger.life.of(key) == before
    ledger.intake.record_members("docs", 1, "box", {key: file}, {}, "p", {key: '{"record": {"team": "law"}}'})
    assert ledger.intake.known([key])[key].given == '{"record": {"team": "law"}}'
