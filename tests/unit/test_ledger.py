"""The ledger: states, claims, leases, and who may write what."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from pipeline.errors import LeaseLost
from pipeline.ledger import Ledger
from pipeline.ledger.flow import Batch
from pipeline.ledger.generations import Collection
from pipeline.ledger.intake import Refused
from pipeline.ledger.registry import WORKER_SEEN_S
from pipeline.ledger.work import IndexedResult, ParsedResult
from pipeline.types import Loss, LossKind, Reason, SourceFile, Stage, StagedFile, document_id


def stage(ledger: Ledger, count: int, *, size: int = 100, version: str = "1", run: int = 1) -> list[str]:
    """Stage `count` documents; return their ids."""
    staged = {}
    for number in range(count):
        source = SourceFile(f"file:///doc/{number}", Path(f"/doc/{number}"), size, 1)
        staged[document_id("docs", source.uri)] = StagedFile(source, version * 64, "")
    ledger.intake.record_staged("docs", run, staged)
    return list(staged)


def states(ledger: Ledger) -> dict[str, int]:
    return ledger.report.progress().states


def indexed(key: str, chunks: int = 3, embedded: int = 3) -> IndexedResult:
    return IndexedResult(key, "1" * 64, "p", "e", chunks, embedded)


def parsed(key: str) -> ParsedResult:
    return ParsedResult(key, "title", "text/plain", "p")


def index_all(ledger: Ledger, ids: list[str]) -> None:
    claim = ledger.work.claim(Stage.PARSE, ids, "w")
    ledger.work.parsed(claim, [parsed(key) for key in ids])
    ledger.work.release(claim)
    claim = ledger.work.claim(Stage.EMBED, ids, "w")
    ledger.work.indexed(claim, [indexed(key) for key in ids])
    ledger.work.release(claim)


def test_a_document_goes_through_all_its_states(ledger: Ledger) -> None:
    (key,) = stage(ledger, 1)
    assert states(ledger) == {"pending": 1}
    claim = ledger.work.claim(Stage.PARSE, [key], "w")
    assert states(ledger) == {"parsing": 1}
    ledger.work.parsed(claim, [parsed(key)], "b")
    ledger.work.release(claim)
    assert states(ledger) == {"parsed": 1}
    assert ledger.flow.queued() == {"b": Stage.EMBED}
    claim = ledger.work.claim(Stage.EMBED, [key], "w")
    assert claim.documents[0].parse_fingerprint == "p"
    assert claim.documents[0].title == "title"
    ledger.work.indexed(claim, [indexed(key)])
    ledger.work.release(claim)
    assert states(ledger) == {"indexed": 1}
    assert ledger.report.progress().chunks == 3
    assert ledger.flow.leases() == []
    assert ledger.flow.in_flight(99) == 0


def test_a_second_delivery_claims_nothing(ledger: Ledger) -> None:
    ids = stage(ledger, 3)
    assert len(ledger.work.claim(Stage.PARSE, ids, "w").documents) == 3
    assert ledger.work.claim(Stage.PARSE, ids, "x").documents == ()
    assert len(ledger.flow.leases()) == 1


def test_release_gives_the_start_back_and_expiry_does_not(ledger: Ledger) -> None:
    (key,) = stage(ledger, 1)
    for _ in range(5):
        ledger.work.release(ledger.work.claim(Stage.PARSE, [key], "w"))
    assert states(ledger) == {"pending": 1}
    for attempt in range(3):
        assert states(ledger) == {"pending": 1}, attempt
        ledger.work.claim(Stage.PARSE, [key], "w@host")
        (lease,) = ledger.flow.leases()
        assert ledger.flow.expire(lease, max_starts=3) == 1
    assert states(ledger) == {"quarantined": 1}
    (failure,) = ledger.report.failures()
    assert (failure.reason, failure.starts) == ("worker_lost", 3)
    assert failure.detail == "its worker died: w@host"


def test_a_lease_that_moved_is_not_expired(ledger: Ledger) -> None:
    ids = stage(ledger, 2)
    claim = ledger.work.claim(Stage.PARSE, ids, "w")
    (before,) = ledger.flow.leases()
    ledger.work.beat(claim)
    assert ledger.flow.expire(before, 3) == 0
    (after,) = ledger.flow.leases()
    assert ledger.flow.expire(after, 3) == 2
    with pytest.raises(LeaseLost):
        ledger.work.beat(claim)


def test_a_worker_that_lost_its_lease_writes_nothing(ledger: Ledger) -> None:
    (key,) = stage(ledger, 1)
    claim = ledger.work.claim(Stage.PARSE, [key], "slow")
    ledger.flow.expire(ledger.flow.leases()[0], 3)
    other = ledger.work.claim(Stage.PARSE, [key], "fast")
    assert ledger.work.parsed(claim, [parsed(key)]) == set()
    ledger.work.fail(claim, key, Reason.CRASHED, "")
    assert states(ledger) == {"parsing": 1}
    assert ledger.work.parsed(other, [parsed(key)]) == {key}


def test_a_new_version_fences_off_the_worker_on_the_old_one(ledger: Ledger) -> None:
    (key,) = stage(ledger, 1)
    claim = ledger.work.claim(Stage.PARSE, [key], "w")
    stage(ledger, 1, version="2", run=2)
    assert ledger.work.still_held(claim) == set()
    assert ledger.work.parsed(claim, [parsed(key)]) == set()
    ledger.work.release(claim)
    assert states(ledger) == {"pending": 1}


def test_a_write_without_a_lease_has_the_document_compared_again(ledger: Ledger) -> None:
    ids = stage(ledger, 2)
    index_all(ledger, ids)
    ledger.work.recheck(ids[:1])
    assert states(ledger) == {"indexed": 1, "parsed": 1}
    claim = ledger.work.claim(Stage.EMBED, ids[:1], "w")
    ledger.work.recheck(ids[:1])  # while somebody works on it
    ledger.work.indexed(claim, [indexed(ids[0])])
    assert states(ledger) == {"indexed": 1, "parsed": 1}
    index = ledger.work.claim(Stage.EMBED, ids[:1], "w")
    ledger.work.indexed(index, [indexed(ids[0])])
    assert states(ledger) == {"indexed": 2}


def test_the_old_version_stays_expected_while_the_new_one_is_worked_on_or_fails(ledger: Ledger) -> None:
    ids = stage(ledger, 1)
    index_all(ledger, ids)
    stage(ledger, 1, version="2", run=2)
    claim = ledger.work.claim(Stage.PARSE, ids, "w")
    ledger.work.fail(claim, ids[0], Reason.CORRUPT, "no")
    (window,) = ledger.report.expected("docs")
    assert [(row.content_hash, row.chunks) for row in window] == [("1" * 64, 3)]
    assert states(ledger) == {"quarantined": 1}


def test_batches_are_bounded_by_documents_bytes_and_collection(ledger: Ledger) -> None:
    stage(ledger, 10, size=100)
    batches = ledger.flow.take(Stage.PARSE, documents_max=9, batch_documents=4, batch_bytes=10_000)
    assert [len(batch.document_ids) for batch in batches] == [4, 4, 1]
    assert ledger.flow.in_flight(99) == 9
    again = ledger.flow.take(Stage.PARSE, documents_max=9, batch_documents=4, batch_bytes=10_000)
    assert [len(batch.document_ids) for batch in again] == [1]


def test_batches_by_bytes(ledger: Ledger) -> None:
    stage(ledger, 6, size=100)
    batches = ledger.flow.take(Stage.PARSE, documents_max=9, batch_documents=64, batch_bytes=250)
    assert [len(batch.document_ids) for batch in batches] == [2, 2, 2]


def test_the_first_batches_are_small_so_that_the_next_stage_begins_soon(ledger: Ledger) -> None:
    stage(ledger, 100)
    batches = ledger.flow.take(Stage.PARSE, documents_max=100, batch_documents=32, batch_bytes=10_000)
    assert [len(batch.document_ids) for batch in batches] == [4, 8, 16, 32, 32, 8]


def test_batches_begin_as_large_as_what_is_in_flight(ledger: Ledger) -> None:
    stage(ledger, 100)
    batches = ledger.flow.take(Stage.PARSE, documents_max=100, batch_documents=32, batch_bytes=10_000, in_flight=16)
    assert [len(batch.document_ids) for batch in batches] == [16, 32, 32, 20]


def test_few_documents_are_spread_over_the_workers(ledger: Ledger) -> None:
    stage(ledger, 8)
    batches = ledger.flow.take(Stage.PARSE, documents_max=99, batch_documents=64, batch_bytes=10_000, spread=4)
    assert [len(batch.document_ids) for batch in batches] == [2, 2, 2, 2]


def test_a_document_whose_worker_died_travels_alone(ledger: Ledger) -> None:
    ids = stage(ledger, 3)
    ledger.work.claim(Stage.PARSE, ids, "w")
    ledger.flow.expire(ledger.flow.leases()[0], 3)
    batches = ledger.flow.take(Stage.PARSE, documents_max=9, batch_documents=64, batch_bytes=10_000)
    assert [len(batch.document_ids) for batch in batches] == [1, 1, 1]


def test_a_batch_says_what_is_to_be_done_and_for_which_runs(ledger: Ledger) -> None:
    stage(ledger, 3)
    (batch,) = ledger.flow.take(Stage.PARSE, documents_max=9, batch_documents=64, batch_bytes=10_000)
    (run,) = batch.runs
    assert str(batch) == f"parse 3 documents of run {run}"
    claim = ledger.work.claim(Stage.PARSE, batch.document_ids, "w")
    assert {document.run for document in claim.documents} == {run}
    assert str(Batch("b", Stage.EMBED, ("one",), (11, 12))) == "embed 1 document of runs 11, 12"
    assert str(Batch("b", Stage.EMBED, ("one", "two"))) == "embed 2 documents"


def test_the_name_of_a_worker_that_lives_is_not_given_twice(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ledger.registry.take_name("parse@host", "parse", "host", 1)
    assert not ledger.registry.take_name("parse@host", "parse", "host", 2)
    assert ledger.registry.take_name("parse@other", "parse", "other", 2)
    ledger.registry.drop("parse@host")
    assert ledger.registry.take_name("parse@host", "parse", "host", 3)
    ledger.registry.register("parse@host", "parse", "host", 4)
    assert not ledger.registry.take_name("parse@host", "parse", "host", 5)
    now = time.time()
    monkeypatch.setattr("pipeline.ledger.work.time.time", lambda: now + WORKER_SEEN_S + 1)
    assert ledger.registry.take_name("parse@host", "parse", "host", 6), "nobody has seen it for long"


def test_unqueued_batches_are_sent_again(ledger: Ledger) -> None:
    stage(ledger, 2)
    (batch,) = ledger.flow.take(Stage.PARSE, documents_max=9, batch_documents=64, batch_bytes=10_000)
    assert ledger.flow.queued() == {batch.id: Stage.PARSE}
    assert ledger.flow.unqueue([batch.id]) == 2
    assert len(ledger.flow.take(Stage.PARSE, documents_max=9, batch_documents=64, batch_bytes=10_000)) == 1


def test_strays_are_freed(ledger: Ledger) -> None:
    ids = stage(ledger, 2)
    ledger.work.claim(Stage.PARSE, ids, "w")
    with ledger.engine.begin() as connection:
        connection.execute(text("DELETE FROM leases"))
    assert ledger.flow.free_strays() == 2
    assert states(ledger) == {"pending": 2}


def test_an_unforeseen_error_stays_charged_and_ends_in_quarantine(ledger: Ledger) -> None:
    ids = stage(ledger, 1)
    for _ in range(3):
        ledger.work.give_up(ledger.work.claim(Stage.PARSE, ids, "w"), 3, "KeyError: {odd}")
    (failure,) = ledger.report.failures()
    assert (failure.reason, failure.detail) == ("worker_lost", "KeyError: {odd}")
    assert ledger.flow.leases() == []


def test_refused_files_are_recorded_and_retry_leaves_out_what_has_no_copy(ledger: Ledger) -> None:
    ids = stage(ledger, 2)
    source = SourceFile("file:///x", Path("/x"), 0, 1)
    ledger.intake.refuse("docs", 1, {"x": Refused(source, Reason.EMPTY_FILE, ""), "y": Refused(source, Reason.UNREADABLE, "no")})
    claim = ledger.work.claim(Stage.PARSE, ids, "w")
    ledger.work.fail(claim, ids[0], Reason.CORRUPT, "")
    ledger.work.fail(claim, ids[1], Reason.TIMEOUT, "")
    assert states(ledger) == {"quarantined": 3, "skipped": 1}
    assert ledger.intake.retry(reason="timeout") == 1
    assert ledger.intake.retry(uris=["file:///doc/0"]) == 1
    assert ledger.intake.retry() == 0
    assert states(ledger) == {"pending": 2, "quarantined": 1, "skipped": 1}


def test_collections_are_made_once(ledger: Ledger) -> None:
    first = Collection("docs", "docs-1", "m", "", 3, "f", "", 1.0)
    assert ledger.collections.add(first) == first
    assert ledger.collections.add(Collection("docs", "docs-2", "m", "", 3, "g", "", 1.0)) == first
    assert ledger.collections.set_canary("docs", "[1]") == "[1]"
    assert ledger.collections.set_canary("docs", "[2]") == "[1]"


def _claim_all(url: str, ids: list[str], name: str, claimed: multiprocessing.Queue[list[str]]) -> None:
    ledger = Ledger.open(url)
    mine: list[str] = []
    for key in ids:
        mine += [document.id for document in ledger.work.claim(Stage.PARSE, [key], name).documents]
    claimed.put(mine)


def test_processes_that_claim_at_once_never_get_the_same_document(url: str, ledger: Ledger) -> None:
    ids = stage(ledger, 120)
    context = multiprocessing.get_context("spawn")
    claimed: multiprocessing.Queue[list[str]] = context.Queue()
    processes = [context.Process(target=_claim_all, args=(url, ids, f"w{number}", claimed)) for number in range(4)]
    for process in processes:
        process.start()
    ledger.close()
    everything = [key for _ in processes for key in claimed.get(timeout=60)]
    for process in processes:
        process.join()
    claimed.close()
    claimed.join_thread()
    assert sorted(everything) == sorted(ids)


def test_quarantined_documents_are_counted_and_dropped(ledger: Ledger) -> None:
    ids = stage(ledger, 3)
    claim = ledger.work.claim(Stage.PARSE, ids, "w")
    for key, reason in zip(ids, (Reason.CORRUPT, Reason.CORRUPT, Reason.TIMEOUT), strict=True):
        ledger.work.fail(claim, key, reason, "no")
    assert [(row.reason, row.documents) for row in ledger.report.quarantined("docs")] == [("corrupt", 2), ("timeout", 1)]
    assert ledger.intake.quarantined(reason="timeout") == {"docs": ids[2:]}
    assert ledger.intake.drop(ids[2:]) == 1
    assert ledger.intake.drop(ids[2:]) == 0
    assert states(ledger) == {"quarantined": 2}


def test_losses_belong_to_the_version_that_was_parsed_last(ledger: Ledger) -> None:
    first, second = stage(ledger, 2)
    found = (Loss(LossKind.CHART, "page 1", "x", 2), Loss(LossKind.PICTURE, "page 3"))
    claim = ledger.work.claim(Stage.PARSE, [first, second], "w")
    ledger.work.parsed(
        claim, [ParsedResult(first, "t", "m", "p", losses=found, properties={"author": "Ada"}), ParsedResult(second, "t", "m", "p")]
    )
    ledger.work.release(claim)
    assert not ledger.losses.summary(), "nothing is indexed yet"
    claim = ledger.work.claim(Stage.EMBED, [first, second], "w")
    ledger.work.indexed(claim, [indexed(first), indexed(second)])
    ledger.work.release(claim)
    assert ledger.losses.of(first) == list(found)
    assert ledger.losses.of(second) == []
    for summary in (ledger.losses.summary(), ledger.losses.summary(run=1), ledger.losses.summary(collection="docs")):
        assert (summary.documents, summary.kinds) == (1, {"chart": 2, "picture": 1})
    assert str(ledger.losses.summary()) == "1 document indexed with losses: 2 charts, 1 picture without text"
    assert [(d.uri, d.kinds) for d in ledger.losses.documents()] == [("file:///doc/0", {"chart": 2, "picture": 1})]
    assert not ledger.losses.summary(run=2)
    assert ledger.life.find(first)[0].properties == '{"author": "Ada"}'
    stage(ledger, 1, version="2", run=2)
    index_all(ledger, [first])
    assert ledger.losses.of(first) == []


def test_losses_go_with_their_document(ledger: Ledger) -> None:
    (key,) = stage(ledger, 1)
    claim = ledger.work.claim(Stage.PARSE, [key], "w")
    ledger.work.parsed(claim, [ParsedResult(key, "t", "m", "p", losses=(Loss(LossKind.CHART, "a"),))])
    ledger.work.fail(claim, key, Reason.CORRUPT, "")
    ledger.work.release(claim)
    claim = ledger.work.claim(Stage.EMBED, [key], "w")
    ledger.work.fail(claim, key, Reason.CORRUPT, "")
    ledger.work.release(claim)
    assert len(ledger.losses.of(key)) == 1
    assert ledger.intake.drop([key]) == 1
    assert ledger.losses.of(key) == []


@pytest.mark.parametrize("reason", list(Reason))
def test_what_holds_nothing_readable_is_skipped_and_faults_are_quarantined(ledger: Ledger, reason: Reason) -> None:
    staged, refused = stage(ledger, 2)
    claim = ledger.work.claim(Stage.PARSE, [staged], "w")
    ledger.work.fail(claim, staged, reason, "why")
    ledger.work.release(claim)
    ledger.intake.refuse("docs", 1, {refused: Refused(SourceFile("file:///doc/1", Path("/doc/1"), 1, 1), reason, "why")})
    skipped = {"empty_file", "empty_text", "needs_ocr", "encrypted", "unsupported"}
    state = "skipped" if reason in skipped else "quarantined"
    assert states(ledger) == {state: 2}
    assert ledger.report.skipped(1) == ({reason.value: 2} if reason in skipped else {})
    assert ledger.intake.retry() == (0 if reason in skipped else 1), "without a staged copy, nothing can be tried again"
    assert ledger.intake.retry(reason=reason.value) == (1 if reason in skipped else 0)
