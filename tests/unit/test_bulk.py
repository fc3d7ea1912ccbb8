"""A large first load puts the graph off, and however it ends, the graph is built in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import StoreUnavailable
from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.ledger.work import IndexedResult, ParsedResult
from pipeline.steps.bulk import FIRST_POINTS, Bulk
from pipeline.store.edge import EdgeStore
from pipeline.store.server import ServerStore
from pipeline.types import SourceFile, Stage, StagedFile, document_id
from tests.made_points import DIMENSION, made_document, made_points
from tests.qdrant_rest import Fault, QdrantRest

COLLECTION = Collection("docs", "docs-1", "model", "", DIMENSION, "fingerprint", "", 0.0)


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[QdrantRest]:
    with QdrantRest(tmp_path / "rest") as server:
        yield server


@pytest.fixture
def store(rest: QdrantRest) -> Iterator[ServerStore]:
    store = ServerStore(rest.url, retry_s=0.3)
    store.create("docs-1", DIMENSION)
    yield store
    store.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'kb.db'}")
    ledger.collections.add(COLLECTION)
    yield ledger
    ledger.close()


def wait(ledger: Ledger, count: int, collection: str = "docs") -> list[str]:
    """`count` documents with work ahead of them."""
    uris = [f"file:///{collection}/{number}.txt" for number in range(count)]
    staged = {document_id(collection, uri): StagedFile(SourceFile(uri, Path(uri), 10, 1), "0" * 64, "") for uri in uris}
    ledger.intake.record_staged(collection, 1, staged)
    return list(staged)


def end(ledger: Ledger, ids: list[str]) -> None:
    """Index documents, as a worker would."""
    for stage in Stage:
        claim = ledger.work.claim(stage, ids, "worker/1")
        if stage is Stage.PARSE:
            ledger.work.parsed(claim, [ParsedResult(key, "", "text/plain", "parse") for key in ids])
        else:
            ledger.work.indexed(claim, [IndexedResult(key, "0" * 64, "parse", "embed", 1, 1) for key in ids])
        ledger.work.release(claim)


def test_the_graph_of_a_large_load_is_built_when_its_last_document_is_done(ledger: Ledger, store: ServerStore) -> None:
    ids = wait(ledger, 10)
    bulk = Bulk(ledger, store, least_documents=10, least_points=0)
    bulk.begin(COLLECTION)
    assert store.graph_links("docs-1") == 0
    bulk.settle()
    assert store.graph_links("docs-1") == 0, "documents are still open"
    end(ledger, ids)
    wait(ledger, 3, "another")
    bulk.settle()
    assert store.graph_links("docs-1") == 16
    assert ledger.collections.postponed() == []


def test_a_worker_that_starts_after_a_crash_builds_it(ledger: Ledger, store: ServerStore, rest: QdrantRest) -> None:
    ids = wait(ledger, 10)
    Bulk(ledger, store, 10, 0).begin(COLLECTION)
    again = Bulk(ledger, store, 10, 0)
    again.begin(COLLECTION)  # what was put off must not be taken for what it shall be
    end(ledger, ids)
    rest.inject(Fault("status", count=-1, status=503, method="PATCH"))
    with pytest.raises(StoreUnavailable):
        again.settle()
    rest.clear()
    Bulk(ledger, store, 10, 0).settle()
    assert store.graph_links("docs-1") == 16


def test_a_crash_before_the_server_was_told_does_no_harm(ledger: Ledger, store: ServerStore) -> None:
    ledger.collections.put_off(COLLECTION, 16)
    Bulk(ledger, store, 10, 0).settle()
    assert store.graph_links("docs-1") == 16
    assert ledger.collections.postponed() == []


def test_a_collection_that_was_dropped_is_forgotten(ledger: Ledger, store: ServerStore) -> None:
    ledger.collections.put_off(COLLECTION, 16)
    store.drop("docs-1")
    Bulk(ledger, store, 10, 0).settle()
    assert ledger.collections.postponed() == []


@pytest.mark.parametrize(("documents", "least"), [(9, 10), (50, 0)])
def test_small_loads_and_those_told_not_to_leave_the_graph_alone(
    ledger: Ledger, store: ServerStore, rest: QdrantRest, documents: int, least: int
) -> None:
    wait(ledger, documents)
    wait(ledger, 100, "another")
    Bulk(ledger, store, least, 0).begin(COLLECTION)
    assert not [method for method, _ in rest.seen if method == "PATCH"]


def test_a_collection_that_has_a_graph_keeps_it(ledger: Ledger, store: ServerStore, rest: QdrantRest) -> None:
    store.upsert("docs-1", made_points(made_document("long"), FIRST_POINTS + 1))
    wait(ledger, 10)
    Bulk(ledger, store, 10, 0).begin(COLLECTION)
    assert store.graph_links("docs-1") == 16


def test_the_embedded_store_has_no_graph_to_put_off(ledger: Ledger, tmp_path: Path) -> None:
    store = EdgeStore(tmp_path / "qdrant", role="owner")
    store.create("docs-1", DIMENSION)
    wait(ledger, 10)
    Bulk(ledger, store, 10, 0).begin(COLLECTION)
    assert ledger.collections.postponed() == []
    store.close()
