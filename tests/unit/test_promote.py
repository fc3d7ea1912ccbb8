"""Promotion of an embedded collection to a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import CollectionMismatch, CollectionMissing, ConfigError, StoreUnavailable
from pipeline.steps.promote import PromoteReport, promote
from pipeline.store.edge import EdgeStore
from pipeline.store.server import ServerStore
from tests.made_points import DIMENSION, made_document, made_points, made_vector
from tests.qdrant_rest import Fault, QdrantRest


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[QdrantRest]:
    with QdrantRest(tmp_path / "rest") as server:
        yield server


@pytest.fixture
def source(tmp_path: Path) -> Iterator[EdgeStore]:
    store = EdgeStore(tmp_path / "qdrant", role="owner")
    store.create("docs-1", DIMENSION)
    for n in range(4):
        store.upsert("docs-1", made_points(made_document(f"doc{n}"), 300, first=300 * n))
    yield store
    store.close()


@pytest.fixture
def target(rest: QdrantRest) -> Iterator[ServerStore]:
    store = ServerStore(rest.url, retry_s=3)
    yield store
    store.close()


def test_everything_arrives_and_the_alias_comes_last(source: EdgeStore, target: ServerStore, rest: QdrantRest) -> None:
    told: list[tuple[int, int]] = []
    report = promote(source, target, "docs-1", "docs", lambda copied, total: told.append((copied, total)))
    assert report == PromoteReport(1200, 1200, 1200)
    assert told == [(1024, 1200), (1200, 1200)]
    assert target.aliases() == {"docs": "docs-1"}
    assert rest.seen[-2][1] == "/collections/aliases"
    copies = {e.chunk.id: (d, e) for d, e in target.scan_points("docs-1")}
    for document, embedded in source.scan_points("docs-1"):
        copied_document, copied = copies[embedded.chunk.id]
        assert (copied_document, copied.chunk) == (document, embedded.chunk)
        assert copied.vector == pytest.approx(embedded.vector, abs=1e-6)
    query = made_vector(7)
    assert [h.chunk_id for h in target.search("docs", query, 5, {})] == [h.chunk_id for h in source.search("docs-1", query, 5, {})]


def test_again_and_after_an_interruption(source: EdgeStore, target: ServerStore, rest: QdrantRest) -> None:
    rest.inject(Fault("status", count=-1, status=503, method="PUT", path="/points$"))
    target.create("docs-1", DIMENSION)
    short = ServerStore(rest.url, retry_s=0.2)
    with pytest.raises(StoreUnavailable):
        promote(source, short, "docs-1", "docs", lambda *_: None)
    short.close()
    assert target.aliases() == {}
    rest.clear()
    for _ in range(2):
        assert promote(source, target, "docs-1", "docs", lambda *_: None).target_count == 1200


def test_a_source_that_grows_leaves_the_alias_alone(source: EdgeStore, target: ServerStore) -> None:
    # The last page is told after its copy: what is written now is missed.
    def load(copied: int, total: int) -> None:
        if copied == total:
            source.upsert("docs-1", made_points(made_document("late"), 2))

    with pytest.raises(StoreUnavailable, match="grew by 2"):
        promote(source, target, "docs-1", "docs", load)
    assert target.aliases() == {}


def test_strangers_in_the_target(source: EdgeStore, target: ServerStore) -> None:
    target.create("docs-1", DIMENSION)
    target.upsert("docs-1", made_points(made_document("elsewhere"), 2))
    with pytest.raises(ConfigError, match="2 points"):
        promote(source, target, "docs-1", "docs", lambda *_: None)
    assert target.count("docs-1") == 1202
    assert target.aliases() == {}


def test_wrong_collections(source: EdgeStore, target: ServerStore) -> None:
    with pytest.raises(CollectionMissing):
        promote(source, target, "nothing", "docs", lambda *_: None)
    target.create("docs-1", DIMENSION + 1)
    with pytest.raises(CollectionMismatch):
        promote(source, target, "docs-1", "docs", lambda *_: None)


def test_an_empty_collection(source: EdgeStore, target: ServerStore) -> None:
    source.create("empty", DIMENSION)
    assert promote(source, target, "empty", "docs", lambda *_: None) == PromoteReport(0, 0, 0)
    assert target.aliases() == {"docs": "empty"}
