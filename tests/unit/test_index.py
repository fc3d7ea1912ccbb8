"""The index step on a real ledger, staging area and embedded store: each text once, documents ended as they are complete."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import update

from pipeline.chunk.file import ChunkFileHeader, write_chunks
from pipeline.errors import LeaseLost
from pipeline.ledger import Ledger
from pipeline.ledger.claims import Claim
from pipeline.ledger.generations import Collection
from pipeline.ledger.schema import BUILDING, documents, writing
from pipeline.ledger.work import ParsedResult
from pipeline.staging.copies import chunks_key
from pipeline.staging.local import LocalStaging
from pipeline.steps import beat, index
from pipeline.steps.index import IndexStep
from pipeline.store.edge import EdgeStore
from pipeline.telemetry.counters import COUNT
from pipeline.types import Chunk, DocumentState, SourceFile, Stage, StagedFile, chunk_id, document_id
from tests.counting_embedder import CountingEmbedder
from tests.embed_server import DIMENSION

PARSE, EMBED = "f" * 16, "e" * 16
FEW = 64  #: chunks of a window here
TOKENS = 5  #: of a chunk here


class Place:
    """A ledger, a staging area and a store, with documents that wait to be embedded."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger.open(f"sqlite:///{folder / 'kb.db'}")
        self.staging = LocalStaging(folder / "staging")
        self.store = EdgeStore(folder / "qdrant", reserve_bytes=0)
        self.store.create("c", DIMENSION)

    def parsed(self, **documents: list[str]) -> Claim:
        """Stage documents that consist of these chunks, and claim them for the embed stage."""
        return self.ledger.work.claim(Stage.EMBED, self.waiting(**documents), "e")

    def first_of(self, **documents: list[str]) -> Claim:
        """Stage documents that consist of these chunks, and claim only the first for the embed stage."""
        return self.ledger.work.claim(Stage.EMBED, self.waiting(**documents)[:1], "e")

    def waiting(self, **documents: list[str]) -> list[str]:
        """Stage documents that consist of these chunks, and parse them; return their ids."""
        staged = {}
        for number, name in enumerate(documents):
            source = SourceFile(f"file:///{name}", Path(f"/{name}"), 10, 1)
            staged[document_id("c", source.uri)] = StagedFile(source, f"{number:064x}", "")
        self.ledger.intake.record_staged("c", self.ledger.runs.start("c"), staged)
        for (key, file), (name, texts) in zip(staged.items(), documents.items(), strict=True):
            path = self.staging.scratch()
            chunks = [
                Chunk(chunk_id(key, text, 0), key, n, text, TOKENS, (), None, None, None, None) for n, text in enumerate(texts)
            ]
            write_chunks(path, ChunkFileHeader("text/plain", ""), chunks)
            self.staging.put_chunks(chunks_key(PARSE, file.content_hash, name), path)
        parsing = self.ledger.work.claim(Stage.PARSE, list(staged), "p")
        made = zip(staged, documents.values(), strict=True)
        results = [ParsedResult(key, "", "text/plain", PARSE, TOKENS * len(texts), chunks=len(texts)) for key, texts in made]
        self.ledger.work.parsed(parsing, results)
        self.ledger.work.release(parsing)
        return list(staged)

    def step(self, embedder: CountingEmbedder) -> IndexStep:
        return IndexStep(self.ledger, self.staging, embedder, self.store, EMBED)

    def run(self, embedder: CountingEmbedder, claim: Claim) -> list[str]:
        return self.step(embedder).run(claim, "c")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(index, "WINDOW_TOKENS", range(TOKENS * FEW, TOKENS * FEW + 1))
    place = Place(tmp_path)
    yield place
    place.store.close()
    place.ledger.close()


def test_identical_texts_are_embedded_once_and_stored_everywhere(place: Place) -> None:
    shared = [f"shared {number}" for number in range(2 * FEW)]
    claim = place.parsed(a=[*shared, "only a"], b=["only b", *shared], c=shared[:3])
    embedder = CountingEmbedder()
    assert sorted(place.run(embedder, claim)) == sorted(document.id for document in claim.documents)
    assert sorted(embedder.texts) == sorted([*shared, "only a", "only b"])
    points = list(place.store.scan("c", with_vectors=True))
    assert len(points) == 4 * FEW + 5
    vectors = dict(zip(embedder.texts, CountingEmbedder().embed(embedder.texts), strict=True))
    expected = {chunk_id(document.id, text, 0): vectors[text] for document in claim.documents for text in vectors}
    for point in points:
        assert point.vector == pytest.approx(expected[point.id], abs=1e-6)


def test_a_claim_goes_on_with_what_waits_in_windows_of_their_usual_size(place: Place) -> None:
    claim = place.first_of(**{f"d{number}": [f"text {number}"] for number in range(3 * FEW)})
    embedder = CountingEmbedder()
    assert len(place.run(embedder, claim)) == 3 * FEW
    assert embedder.calls == 3, "one document was claimed, the others joined it"
    assert place.ledger.report.progress().states == {"indexed": 3 * FEW}


def test_a_claim_takes_no_document_whose_worker_died_and_none_of_another_collection(place: Place) -> None:
    claim = place.first_of(a=["a"], b=["b"], c=["c"])
    b, c = (document_id("c", f"file:///{name}") for name in "bc")
    with writing(place.ledger.engine) as connection:
        connection.execute(update(documents).where(documents.c.id == b).values(starts=1))
        connection.execute(update(documents).where(documents.c.id == c).values(collection="other"))
    assert len(place.run(CountingEmbedder(), claim)) == 1
    assert place.ledger.report.progress().states == {"indexed": 1, "parsed": 2}


def test_a_claim_of_what_a_worker_died_of_takes_no_companions(place: Place) -> None:
    claim = place.first_of(a=["a"], b=["b"])
    with writing(place.ledger.engine) as connection:
        connection.execute(update(documents).where(documents.c.lease == claim.lease).values(starts=2))
    assert len(place.run(CountingEmbedder(), claim)) == 1
    assert place.ledger.report.progress().states == {"indexed": 1, "parsed": 1}


def test_a_claim_that_was_taken_back_takes_nothing_more(place: Place) -> None:
    claim = place.first_of(a=["a"], b=["b"])
    place.ledger.work.release(claim)
    with pytest.raises(LeaseLost):
        place.ledger.work.more(claim, 100, 10)
    assert place.ledger.report.progress().states == {"parsed": 2}


def test_more_documents_come_by_their_tokens_the_longest_waiting_first(place: Place) -> None:
    claim = place.first_of(a=["a"], b=["b"], c=["c", "c2"], d=["d"])
    for name, waits_s in (("b", 1), ("c", 3), ("d", 2)):
        key = document_id("c", f"file:///{name}")
        with writing(place.ledger.engine) as connection:
            connection.execute(update(documents).where(documents.c.id == key).values(updated_at=time.time() - waits_s))
    found = place.ledger.work.more(claim, 2 * TOKENS + 1, 10)
    assert [document.uri[-1] for document in found] == ["c", "d"]
    assert [document.uri[-1] for document in place.ledger.work.more(claim, 1, 10)] == ["b"]
    assert place.ledger.work.more(claim, 100, 10) == ()


def test_boilerplate_of_documents_in_different_claims_is_embedded_once(place: Place) -> None:
    embedder = CountingEmbedder()
    step = place.step(embedder)
    for name in ("a", "b", "c"):
        claim = place.first_of(**{name: ["terms", f"only {name}", "imprint"]})
        assert len(step.run(claim, "c")) == 1
        place.ledger.work.release(claim)
    assert sorted(embedder.texts) == ["imprint", "only a", "only b", "only c", "terms"]
    vectors = dict(zip(embedder.texts, CountingEmbedder().embed(embedder.texts), strict=True))
    points = list(place.store.scan("c", with_vectors=True))
    assert len(points) == 9
    expected = {chunk_id(document_id("c", f"file:///{name}"), text, 0): vectors[text] for name in "abc" for text in vectors}
    for point in points:
        assert point.vector == pytest.approx(expected[point.id], abs=1e-6)


def test_a_document_with_the_same_bytes_lends_its_vectors(place: Place) -> None:
    texts = [f"text {number}" for number in range(3 * FEW)]
    first = place.parsed(a=texts)
    place.run(CountingEmbedder(), first)
    place.ledger.work.release(first)
    again = place.parsed(moved=texts)  # the first of its batch, so that its bytes have the hash of `a`
    place.store.delete_points("c", [chunk_id(first.documents[0].id, texts[5], 0)])  # one that has been lost
    embedder = CountingEmbedder()
    assert len(place.run(embedder, again)) == 1
    assert embedder.texts == [texts[5]]
    vectors = {point.id: point.vector for point in place.store.scan("c", with_vectors=True)}
    expected = CountingEmbedder().embed(texts)
    for text, row in zip(texts, expected, strict=True):
        assert vectors[chunk_id(again.documents[0].id, text, 0)] == pytest.approx(row, abs=1e-6)


class PartsEmbedder(CountingEmbedder):
    """Gives each text two parts of the three that there could be, the first one its whole."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        whole = super().embed(texts)
        return np.stack([whole, whole, whole[:, ::-1], np.zeros_like(whole)], 1)


def test_parts_are_stored_and_lent_with_the_whole(place: Place) -> None:
    place.store.drop("c")
    place.store.create("c", DIMENSION, parts=True)
    first = place.parsed(a=["one", "two"])
    place.run(PartsEmbedder(), first)
    place.ledger.work.release(first)
    again = place.parsed(moved=["one", "two"])
    embedder = PartsEmbedder()
    assert len(place.run(embedder, again)) == 1
    assert embedder.texts == []
    points = {embedded.chunk.id: embedded for _, embedded in place.store.scan_points("c")}
    for document in (first, again):
        for text in ("one", "two"):
            found, whole = points[chunk_id(document.documents[0].id, text, 0)], CountingEmbedder().embed([text])[0]
            assert found.vector == pytest.approx(whole, abs=1e-6)
            assert np.array(found.parts) == pytest.approx(np.stack([whole, whole[::-1]]), abs=1e-3)


def test_a_generation_of_the_same_model_borrows_all_its_vectors(place: Place) -> None:
    """So a re-index makes new word weights without embedding anything again; what was dropped meanwhile is embedded."""
    texts = [f"text {number}" for number in range(2 * FEW)]
    first = place.parsed(a=texts, b=[*texts, "only b"])
    place.run(CountingEmbedder(), first)
    place.ledger.work.release(first)
    made = Collection("c", "c", "m", "", DIMENSION, EMBED, "", 1.0)
    place.ledger.collections.add(made)
    for number, embedded in ((2, 0), (3, 2 * FEW + 1)):
        new = replace(made, name=f"c@{number}", physical=f"c{number}", serves="c", state=BUILDING)
        place.ledger.collections.add(new)
        place.store.create(new.physical, DIMENSION)
        place.ledger.mirror.give(new.name, first.documents[0].run, place.ledger.mirror.lacking("c", new.name, 9))
        ids = [document_id(new.name, f"file:///{name}") for name in "ab"]
        parsing = place.ledger.work.claim(Stage.PARSE, ids, "p")
        place.ledger.work.parsed(parsing, [ParsedResult(key, "", "text/plain", PARSE) for key in ids])
        place.ledger.work.release(parsing)
        claim = place.ledger.work.claim(Stage.EMBED, ids, "e")
        embedder = CountingEmbedder()
        assert sorted(place.step(embedder).run(claim, new.physical)) == sorted(ids)
        assert len(embedder.texts) == embedded
        place.ledger.work.release(claim)
        vectors = {point.id: point.vector for point in place.store.scan(new.physical, with_vectors=True)}
        for text, row in zip(texts, CountingEmbedder().embed(texts), strict=True):
            assert vectors[chunk_id(ids[0], text, 0)] == pytest.approx(row, abs=1e-6)
        for physical in ("c", new.physical):
            place.store.drop(physical)


def test_points_of_a_document_that_is_deleted_meanwhile_do_not_stay(place: Place) -> None:
    claim = place.parsed(a=[f"text {number}" for number in range(6 * FEW)], b=["b"])
    gone = claim.documents[0].id

    def delete() -> None:
        if embedder.calls == 4:
            place.ledger.removal.mark("c", [gone])

    embedder = CountingEmbedder(delete)
    assert place.run(embedder, claim) == [claim.documents[1].id]
    assert {point.document_id for point in place.store.scan("c")} == {claim.documents[1].id}


def test_a_document_is_searchable_before_its_batch_is_through(place: Place) -> None:
    seen: list[int] = []
    embedder = CountingEmbedder(lambda: seen.append(place.ledger.report.progress().states.get(DocumentState.INDEXED, 0)))
    documents = {f"d{number}": [f"{number} {n}" for n in range(FEW)] for number in range(8)}
    assert len(place.run(embedder, place.parsed(**documents))) == 8
    assert seen[0] == 0
    assert 0 < seen[-1] < 8
    assert place.ledger.report.progress().states == {DocumentState.INDEXED: 8}


def test_chunks_of_a_document_count_before_it_is_complete(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its worker dies: what is in the store by then is found there, and counts as embedded once."""
    monkeypatch.setattr(beat, "ADVANCE_EVERY_S", 0.0)
    seen: list[tuple[int, int | None]] = []

    def look() -> None:
        progress = place.ledger.report.progress()
        seen.append((progress.written, progress.left_tokens))
        if len(seen) == 7:
            raise RuntimeError("the device is gone")

    texts = [f"text {number}" for number in range(8 * FEW)]
    claim = place.parsed(long=texts)
    with pytest.raises(RuntimeError, match="gone"):
        place.run(CountingEmbedder(look), claim)
    written = [number for number, _ in seen]
    assert written == sorted(written)
    assert (written[0], written[-1] % FEW) == (0, 0)
    assert FEW <= written[-1] < len(texts)
    assert all(left == 5 * (len(texts) - number) for number, left in seen)
    told = place.ledger.measures.all("indexed")["indexed", "embedded", COUNT]
    assert told >= written[-1]
    place.ledger.work.release(claim)
    again = place.ledger.work.claim(Stage.EMBED, [claim.documents[0].id], "e")
    there = len(list(place.store.scan("c")))
    assert told <= there < len(texts)
    place.run(CountingEmbedder(), again)
    place.ledger.work.release(again)
    progress = place.ledger.report.progress()
    assert (progress.parsed, progress.written, progress.left_tokens) == (len(texts), len(texts), 0)
    counted = place.ledger.measures.all("indexed")
    # What was written just before the end and not told yet is nobody's.
    assert counted["indexed", "embedded", COUNT] == told + len(texts) - there
    assert counted["indexed", "chunks", COUNT] == len(texts)


def test_a_failing_embedder_leaves_what_was_complete_and_nothing_half_done(place: Place) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        if len(calls) > 5:
            raise RuntimeError("the device is gone")

    claim = place.parsed(**{f"d{number}": [f"{number} {n}" for n in range(FEW)] for number in range(8)})
    with pytest.raises(RuntimeError, match="gone"):
        place.run(CountingEmbedder(fail), claim)
    states = place.ledger.report.progress().states
    assert 0 < states[DocumentState.INDEXED] < 8
    place.ledger.work.release(claim)
    again = place.ledger.work.claim(Stage.EMBED, [document.id for document in claim.documents], "e")
    embedder = CountingEmbedder()
    assert len(place.run(embedder, again)) == 8 - states[DocumentState.INDEXED]
    assert len(list(place.store.scan("c"))) == 8 * FEW
