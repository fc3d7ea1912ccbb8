"""Generations of a collection in the ledger: kept equal while one is built, swapped only at rest, and taken back."""

from __future__ import annotations

import pytest

from pipeline.errors import CollectionReplaced
from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.ledger.intake import Refused
from pipeline.ledger.mirror import Wanted
from pipeline.ledger.schema import BUILDING, LIVE, SUPERSEDED
from pipeline.ledger.work import IndexedResult, ParsedResult
from pipeline.search.evaluate import Scores
from pipeline.types import Reason, SourceFile, Stage, StagedFile, document_id
from workers.jobs.build import GIVEN_AT_ONCE, Pace
from workers.jobs.reindex import regression

OLD, NEW = "docs", "docs@2"


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    ledger.collections.add(Collection(OLD, "docs-aaaa", "m", "", 3, "aaaa", "", 1.0))
    ledger.collections.add(Collection(NEW, "docs@2-bbbb", "n", "", 4, "bbbb", "", 2.0, OLD, BUILDING, '{"model": "n"}'))
    return ledger


def uri(number: int) -> str:
    return f"file:///doc/{number:03}"


def stage(ledger: Ledger, *numbers: int, version: str = "1", generation: str = OLD) -> list[str]:
    staged = {
        document_id(generation, uri(n)): StagedFile(SourceFile(uri(n), None, 10, 7), f"{version}{n:03}" * 16, "") for n in numbers
    }  # fmt: skip
    ledger.intake.record_staged(generation, 1, staged)
    return list(staged)


def index(ledger: Ledger, generation: str) -> None:
    """Have everything of a generation indexed that waits."""
    ids = [document.id for window in ledger.removal.present(generation) for document in window]
    claim = ledger.work.claim(Stage.PARSE, ids, "w")
    ledger.work.parsed(claim, [ParsedResult(document.id, "t", "text/plain", "p") for document in claim.documents])
    ledger.work.release(claim)
    claim = ledger.work.claim(Stage.EMBED, ids, "w")
    ledger.work.indexed(claim, [IndexedResult(d.id, d.content_hash, "p", "e", 2, 2) for d in claim.documents])
    ledger.work.release(claim)


def mirror(ledger: Ledger) -> int:
    """Give the new generation what it lacks, and take what it has too much; how many documents that was."""
    wanted = ledger.mirror.lacking(OLD, NEW, 1000)
    ledger.mirror.give(NEW, 9, wanted)
    return len(wanted) + ledger.removal.mark(NEW, ledger.mirror.surplus(OLD, NEW, 1000))


def test_a_new_generation_follows_the_live_one(ledger: Ledger) -> None:
    stage(ledger, *range(6))
    index(ledger, OLD)
    assert [one.uri for one in ledger.mirror.lacking(OLD, NEW, 2, uri(2))] == [uri(3), uri(4)]
    assert mirror(ledger) == 6
    assert mirror(ledger) == 0
    assert ledger.report.progress(collection=NEW).open == 6
    assert ledger.collections.swap(OLD, NEW) == "documents are being worked on"
    index(ledger, NEW)

    stage(ledger, 1, 10, version="2")  # one changed, one new, not yet indexed: both are made anew at once
    ledger.removal.mark(OLD, [document_id(OLD, uri(4))])
    assert ledger.collections.swap(OLD, NEW) == "documents are being worked on"
    index(ledger, OLD)
    assert ledger.collections.swap(OLD, NEW) == "documents have changed"
    assert mirror(ledger) == 3
    index(ledger, NEW)
    assert ledger.collections.swap(OLD, NEW) == ""
    assert {one.name: one.state for one in ledger.collections.of(OLD)} == {OLD: SUPERSEDED, NEW: LIVE}
    assert ledger.collections.live_name(OLD) == NEW
    known = ledger.intake.known([document_id(NEW, uri(1))])
    assert known[document_id(NEW, uri(1))].mtime_ns == 7  # a load that meets the file need not read it
    with pytest.raises(CollectionReplaced, match="another command"):
        ledger.collections.swap(OLD, NEW)


def test_what_could_not_be_indexed_is_taken_along_as_it_is(ledger: Ledger) -> None:
    stage(ledger, 1, 2)
    index(ledger, OLD)
    stage(ledger, 2, version="2")
    ids = [document_id(OLD, uri(2))]
    claim = ledger.work.claim(Stage.PARSE, ids, "w")
    ledger.work.fail(claim, ids[0], Reason.CORRUPT, "no")
    ledger.work.release(claim)
    empty = SourceFile(uri(3), None, 0, 1)
    ledger.intake.refuse(OLD, 1, {document_id(OLD, uri(3)): Refused(empty, Reason.EMPTY_FILE, "zero bytes")})

    assert mirror(ledger) == 3
    assert ledger.report.progress(collection=NEW).states == {"pending": 2, "skipped": 1}
    known = ledger.intake.known([document_id(NEW, uri(2))])[document_id(NEW, uri(2))]
    assert known.content_hash == "1002" * 16  # the version that searches find
    assert known.mtime_ns == 0  # so that a load looks at the file again
    index(ledger, NEW)
    assert mirror(ledger) == 0
    assert ledger.collections.swap(OLD, NEW) == ""


def test_whoever_still_fills_the_old_generation_is_told(ledger: Ledger) -> None:
    stage(ledger, 1)
    index(ledger, OLD)
    mirror(ledger)
    index(ledger, NEW)
    assert ledger.collections.swap(OLD, NEW) == ""
    with pytest.raises(CollectionReplaced):
        stage(ledger, 2)
    with pytest.raises(CollectionReplaced):
        ledger.removal.mark(OLD, [document_id(OLD, uri(1))])
    with pytest.raises(CollectionReplaced):  # which is live now, and no longer filled from the old one
        ledger.mirror.give(NEW, 9, [Wanted(uri(5), 1, 1, None, None, "", "", "", "", "5" * 64, "indexed")])
    stage(ledger, 2, generation=NEW)


def test_going_back_and_forth_and_dropping(ledger: Ledger) -> None:
    stage(ledger, 1)
    index(ledger, OLD)
    assert ledger.collections.roll_back(OLD) is None
    mirror(ledger)
    index(ledger, NEW)
    ledger.collections.swap(OLD, NEW)
    assert ledger.report.progress().states == {"indexed": 1}  # what was replaced no longer counts
    assert ledger.report.progress(collection=OLD).states == {"indexed": 1}  # but where it is asked for
    for expected in (OLD, NEW, OLD, NEW):
        exchanged = ledger.collections.roll_back(OLD)
        assert exchanged is not None
        assert exchanged[1].name == expected == ledger.collections.live_name(OLD)
    assert not ledger.collections.drop(NEW, SUPERSEDED)
    assert ledger.collections.drop(OLD, SUPERSEDED)
    assert [one.name for one in ledger.collections.of(OLD)] == [NEW]
    assert [document.uri for window in ledger.removal.present(OLD) for document in window] == []
    assert ledger.collections.roll_back(OLD) is None


def test_profiles_hold_whatever_the_configuration_says() -> None:
    from pipeline.settings import load_settings

    settings = load_settings(model="a", chunk_tokens=100)
    assert settings.of_collection("{}") is settings
    changed = settings.of_collection('{"model": "b", "chunk_tokens": 50, "data_dir": "/elsewhere"}')
    assert (changed.model, changed.chunk_tokens, changed.data_dir) == ("b", 50, settings.data_dir)


def test_the_gate() -> None:
    def scores(recall: float, mrr: float) -> Scores:
        return Scores(10, 5, recall, mrr, 0.0)

    assert regression(None, None, 0.0) == ""
    assert regression(scores(0.9, 0.5), scores(0.88, 0.5), 0.03) == ""
    assert regression(scores(0.9, 0.5), scores(1.0, 0.9), 0.0) == ""
    assert regression(scores(0.9, 0.5), scores(0.8, 0.9), 0.02).startswith("recall@5 would fall from 0.900 to 0.800")
    assert regression(scores(0.9, 0.5), scores(0.9, 0.4), 0.02).startswith("MRR@5 would fall from 0.500 to 0.400")


def test_a_rate_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("workers.jobs.build.time.monotonic", lambda: clock[0])
    assert Pace(0.0).now() == GIVEN_AT_ONCE
    pace = Pace(4.0)
    assert pace.now() == 4
    pace.spend(4)
    assert pace.now() == 0
    clock[0] += 0.5
    assert pace.now() == 2
    clock[0] += 60.0
    assert pace.now() == 4  # what was not used is not saved up
    slow = Pace(0.1)
    assert slow.now() == 1
    slow.spend(1)
    clock[0] += 9.0
    assert slow.now() == 0
    clock[0] += 2.0
    assert slow.now() == 1
