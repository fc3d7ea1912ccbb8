"""What every VectorStore must do, asked of the embedded store and of the server's client; see conftest.py for which server."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import CollectionMismatch, CollectionMissing, ConfigError
from pipeline.settings import load_settings
from pipeline.store import open_store
from pipeline.store.base import VectorStore
from pipeline.store.edge import EdgeStore
from pipeline.store.names import check_name
from pipeline.store.server import ServerStore
from pipeline.types import PointMeta
from tests.made_points import DIMENSION, made_document, made_points, made_vector

GUIDE = made_document("guide.txt")
OTHER = made_document("other.md", "/guides/more")


def test_create_is_idempotent_and_refuses_another_dimension(store: VectorStore, name: str) -> None:
    store.upsert(name, made_points(GUIDE, 2))
    store.create(name, DIMENSION)
    assert store.count(name) == 2
    assert name in store.collections()
    assert store.dimension(name) == DIMENSION
    with pytest.raises(CollectionMismatch, match="KB_MODEL"):
        store.create(name, DIMENSION + 1)


@pytest.mark.parametrize("odd", ["Mes documents é", "a.b-c_d(1)", "文書"])
def test_names_with_odd_characters(store: VectorStore, new_name: Callable[[], str], odd: str) -> None:
    physical = f"{new_name()} {odd}"
    store.create(physical, DIMENSION)
    try:
        store.upsert(physical, made_points(GUIDE, 1))
        assert store.count(physical) == 1
        assert physical in store.collections()
    finally:
        store.drop(physical)
    assert physical not in store.collections()


@pytest.mark.parametrize("bad", ["", "..", ".hidden", "a/b", "a\\b", "a\nb", "what?", " a", "x" * 201, "a\ud800"])
def test_names_that_are_refused(store: VectorStore, bad: str) -> None:
    with pytest.raises(ConfigError):
        check_name(bad)
    with pytest.raises(ConfigError):
        store.create(bad, DIMENSION)


def test_missing_collection(store: VectorStore, new_name: Callable[[], str]) -> None:
    name = new_name()
    calls: list[Callable[[], object]] = [
        lambda: store.count(name),
        lambda: store.upsert(name, made_points(GUIDE, 1)),
        lambda: store.search(name, made_vector(1), 3, {}),
        lambda: list(store.scan(name)),
        lambda: store.document_points(name, [GUIDE.id]),
        lambda: store.delete_documents(name, [GUIDE.id]),
        lambda: store.dimension(name),
        lambda: store.set_alias("kb-test-alias", name),
    ]
    for call in calls:
        with pytest.raises(CollectionMissing, match=name):
            call()
    store.drop(name)


def test_points_come_back_as_they_were(store: VectorStore, name: str) -> None:
    points = made_points(GUIDE, 5)
    bare = replace(points[0][1].chunk, heading_path=(), page_first=None, page_last=None, char_start=None, char_end=None)
    points[0] = (GUIDE, replace(points[0][1], chunk=bare))
    store.upsert(name, points)
    stored = {embedded.chunk.id: (document, embedded) for document, embedded in store.scan_points(name)}
    assert len(stored) == 5
    for document, embedded in points:
        back_document, back = stored[embedded.chunk.id]
        assert back_document == document
        assert back.chunk == replace(embedded.chunk, token_count=0)
        assert back.vector == pytest.approx(embedded.vector, abs=1e-6)


def test_upsert_again_changes_in_place(store: VectorStore, name: str) -> None:
    points = made_points(GUIDE, 3)
    store.upsert(name, points)
    moved = [(replace(d, title="New"), replace(e, chunk=replace(e.chunk, ordinal=e.chunk.ordinal + 7))) for d, e in points]
    store.upsert(name, moved)
    assert store.count(name) == 3
    assert sorted(meta.ordinal for meta in store.document_points(name, [GUIDE.id])[GUIDE.id].values()) == [7, 8, 9]
    assert {d.title for d, _ in store.scan_points(name)} == {"New"}


def test_upsert_of_nothing(store: VectorStore, name: str) -> None:
    store.upsert(name, [])
    store.delete_points(name, [])
    store.update_meta(name, {})
    assert store.document_points(name, []) == {}
    assert store.count(name) == 0


@pytest.mark.parametrize(
    "bad",
    [
        [math.nan, *[0.1] * (DIMENSION - 1)],
        [math.inf, *[0.1] * (DIMENSION - 1)],
        [1e300, *[0.1] * (DIMENSION - 1)],
        [0.0] * DIMENSION,
        [0.25] * (DIMENSION - 1),
        [],
    ],
    ids=["nan", "infinite", "over-float32", "zero", "short", "empty"],
)
def test_bad_vectors_stop_the_whole_upsert(store: VectorStore, name: str, bad: list[float]) -> None:
    points = made_points(GUIDE, 250)
    document, embedded = points[-1]
    points[-1] = (document, replace(embedded, vector=bad))
    with pytest.raises(ValueError, match=embedded.chunk.id):
        store.upsert(name, points)
    assert store.count(name) == 0


def test_text_that_cannot_be_stored_is_mended(store: VectorStore, name: str) -> None:
    document = replace(GUIDE, title="nul \x00 and \ud800", uri=GUIDE.uri + "\udcff")
    document_point, embedded = made_points(document, 1)[0]
    chunk = replace(embedded.chunk, text="a\x00b\udfffc 🙂 é", heading_path=("h\x00",))
    store.upsert(name, [(document_point, replace(embedded, chunk=chunk))])
    hit = store.search(name, embedded.vector, 1, {"uri": document.uri})[0]
    assert hit.text == "a\ufffdb\ufffdc 🙂 é"
    assert hit.title == "nul \ufffd and \ufffd"
    assert hit.heading_path == ("h\ufffd",)


def test_document_points_pages_through_many(store: VectorStore, name: str) -> None:
    documents = [made_document(f"doc{n}") for n in range(64)]
    for start in range(0, 64, 16):
        store.upsert(name, [point for d in documents[start : start + 16] for point in made_points(d, 40)])
    store.upsert(name, made_points(OTHER, 3))
    absent = made_document("absent").id
    found = store.document_points(name, [*(d.id for d in documents), absent])
    assert list(found) == [*(d.id for d in documents), absent]
    assert found[absent] == {}
    metas = [PointMeta(n, n + 1, n + 1, 10 * n, 10 * n + 9) for n in range(40)]
    for document in documents:
        expected = {e.chunk.id: meta for (_, e), meta in zip(made_points(document, 40), metas, strict=True)}
        assert found[document.id] == expected


def test_update_meta_keeps_the_rest(store: VectorStore, name: str) -> None:
    points = made_points(GUIDE, 150)
    store.upsert(name, points)
    metas = {e.chunk.id: PointMeta(e.chunk.ordinal + 1, None, 4, 5, None) for _, e in points}
    store.update_meta(name, {**metas, str(uuid.uuid4()): PointMeta(1)})
    assert store.document_points(name, [GUIDE.id])[GUIDE.id] == metas
    assert store.count(name) == 150
    hit = store.search(name, points[3][1].vector, 1, {})[0]
    assert (hit.chunk_id, hit.text, hit.page_first, hit.page_last) == (points[3][1].chunk.id, points[3][1].chunk.text, None, 4)
    assert hit.score == pytest.approx(1, abs=1e-5)


def test_update_document_reaches_all_its_points_and_no_other(store: VectorStore, name: str) -> None:
    store.upsert(name, [*made_points(GUIDE, 5), *made_points(OTHER, 5)])
    renamed = replace(GUIDE, uri="file:///new/place.txt", title="T", folder="/new", media_type="text/html", content_hash="beef")
    store.update_document(name, renamed)
    assert {d for d, _ in store.scan_points(name)} == {renamed, OTHER}
    assert len(store.search(name, made_vector(1), 50, {"uri": renamed.uri})) == 5
    assert store.search(name, made_vector(1), 50, {"uri": GUIDE.uri}) == []


def test_deletes(store: VectorStore, name: str) -> None:
    points = made_points(GUIDE, 250)
    store.upsert(name, [*points, *made_points(OTHER, 5)])
    store.delete_points(name, [*(e.chunk.id for _, e in points[:150]), str(uuid.uuid4())])
    assert store.count(name, GUIDE.id) == 100
    store.delete_documents(name, [GUIDE.id])
    store.delete_documents(name, [made_document("absent").id])
    assert store.count(name, GUIDE.id) == 0
    assert store.count(name, OTHER.id) == store.count(name) == 5


def test_vectors_by_id(store: VectorStore, name: str) -> None:
    points = made_points(GUIDE, 300)
    store.upsert(name, points)
    asked = [e.chunk.id for _, e in points]
    found = store.vectors(name, [*asked, str(uuid.uuid4())])
    assert set(found) == set(asked)
    assert found[asked[7]].vector == pytest.approx(points[7][1].vector, abs=1e-6)
    assert store.vectors(name, []) == {}


def test_search_orders_by_cosine(store: VectorStore, name: str) -> None:
    points = made_points(GUIDE, 30)
    # Lengths must not matter.
    store.upsert(name, [(d, replace(e, vector=[(n + 1) * x for x in e.vector])) for n, (d, e) in enumerate(points)])
    query = made_vector(99)
    cosines = {e.chunk.id: sum(a * b for a, b in zip(query, e.vector, strict=True)) for _, e in points}
    hits = store.search(name, query, 10, {})
    assert [hit.chunk_id for hit in hits] == sorted(cosines, key=cosines.__getitem__, reverse=True)[:10]
    assert [hit.score for hit in hits] == pytest.approx([cosines[hit.chunk_id] for hit in hits], abs=1e-5)
    best = hits[0]
    assert (best.uri, best.title, best.document_id) == (GUIDE.uri, GUIDE.title, GUIDE.id)
    assert best.heading_path[0] == "Guide"
    assert store.search(name, query, 0, {}) == []
    assert len(store.search(name, query, 100, {})) == 30


def test_search_filters(store: VectorStore, name: str) -> None:
    html = replace(made_document("page.html", "/web"), media_type="text/html")
    store.upsert(name, [*made_points(GUIDE, 4), *made_points(OTHER, 3), *made_points(html, 2)])

    def found(**filters: str) -> int:
        return len(store.search(name, made_vector(1), 50, filters))

    assert found(media_type="text/html") == 2
    assert found(media_type="text/*") == 0
    assert found(folder="/guides") == 4
    assert found(folder="/guides*") == 7
    assert found(folder="/guides/*", media_type="text/plain") == 3
    assert found(uri=GUIDE.uri) == found(document_id=GUIDE.id) == found(title=GUIDE.title) == 4
    assert found(uri="file:///*") == found(uri="*") == 9
    assert found(uri="guide*") == 0
    assert found(folder="/web", media_type="text/plain") == 0
    with pytest.raises(ConfigError, match="media_type"):
        found(colour="red")


def test_counts_and_chunks_of_a_document_keep_to_the_filters(store: VectorStore, name: str) -> None:
    guide, other = made_document("guide.md"), made_document("other.md", "/other")
    store.upsert(name, [*made_points(guide, 5), *made_points(other, 3)])
    assert store.count(name, filters={"folder": "/guides"}) == 5
    assert store.count(name, guide.id, [("folder", "/gui*"), ("folder", "/guides")]) == 5
    assert store.count(name, guide.id, [("folder", "/guides"), ("folder", "/other")]) == 0
    chunks = store.document_chunks(name, guide.id)
    assert [(one.ordinal, one.text, one.heading_path, one.page_first, one.char_end) for one in chunks] == [
        (n, f"Some words. {n}", ("Guide", f"Part {n}"), n + 1, 10 * n + 9) for n in range(5)
    ]
    assert [one.ordinal for one in store.document_chunks(name, guide.id, ordinals=[3, 1, 99])] == [1, 3]
    assert store.document_chunks(name, guide.id, {"folder": "/other"}) == []
    assert store.document_chunks(name, guide.id, ordinals=[]) == []


def test_search_with_a_wrong_query(store: VectorStore, name: str) -> None:
    with pytest.raises(CollectionMismatch, match="another model"):
        store.search(name, made_vector(1, DIMENSION + 1), 3, {})
    with pytest.raises(ValueError, match="NaN"):
        store.search(name, [math.nan] * DIMENSION, 3, {})


def test_scan_sees_every_point_once(store: VectorStore, name: str) -> None:
    points = [*made_points(GUIDE, 1500), *made_points(OTHER, 600)]
    for start in range(0, len(points), 700):
        store.upsert(name, points[start : start + 700])
    scanned = list(store.scan(name))
    assert {p.id for p in scanned} == {e.chunk.id for _, e in points}
    assert len(scanned) == len(points)
    assert sum(p.document_id == OTHER.id for p in scanned) == 600
    assert all(p.vector is None for p in scanned)
    vectors = {e.chunk.id: e.vector for _, e in points}
    with_vectors = list(store.scan(name, with_vectors=True))
    assert len(with_vectors) == len(points)
    assert all(p.vector == pytest.approx(vectors[p.id], abs=1e-6) for p in with_vectors[::50])


def test_other_calls_between_the_pages_of_a_scan(store: VectorStore, name: str) -> None:
    store.upsert(name, made_points(GUIDE, 1100))
    seen = 0
    for point in store.scan(name):
        if seen % 400 == 0:
            store.delete_points(name, [point.id])
        seen += 1
    assert seen == 1100
    assert store.count(name) == 1097


def test_alias_is_another_name_for_its_collection(store: VectorStore, name: str, new_name: Callable[[], str]) -> None:
    green, alias = new_name(), f"{name}-alias"
    store.create(green, DIMENSION * 2)
    store.upsert(name, made_points(GUIDE, 3))
    store.upsert(green, made_points(GUIDE, 5, dimension=DIMENSION * 2))
    store.set_alias(alias, name)
    assert store.aliases()[alias] == name
    assert alias not in store.collections()
    assert store.count(alias) == 3
    store.update_document(alias, replace(GUIDE, title="By alias"))
    assert store.search(alias, made_vector(1), 1, {})[0].title == "By alias"
    store.set_alias(alias, green)
    store.set_alias(alias, green)
    assert store.aliases()[alias] == green
    assert store.count(alias) == 5
    assert len(store.search(alias, made_vector(1, DIMENSION * 2), 9, {})) == 5
    store.set_alias(alias, name)
    assert store.count(alias) == 3
    with pytest.raises(ConfigError, match="alias"):
        store.create(alias, DIMENSION)
    with pytest.raises(ConfigError, match="name of a collection"):
        store.set_alias(name, green)
    store.drop(name)
    assert alias not in store.aliases()


def test_drop_and_make_again_with_another_dimension(store: VectorStore, name: str) -> None:
    store.upsert(name, made_points(GUIDE, 2))
    store.drop(name)
    assert name not in store.collections()
    store.drop(name)
    store.create(name, DIMENSION + 3)
    assert store.count(name) == 0
    store.upsert(name, made_points(GUIDE, 2, dimension=DIMENSION + 3))
    assert store.count(name) == 2


def test_flush_yield_and_close_lose_nothing(store: VectorStore, name: str) -> None:
    store.upsert(name, made_points(GUIDE, 2))
    store.delete_points(name, [made_points(GUIDE, 1)[0][1].chunk.id])
    store.flush(name)
    store.yield_turn()
    assert store.count(name) == 1


def test_the_graph_can_be_put_off_where_the_store_builds_one(store: VectorStore, name: str) -> None:
    links = store.graph_links(name)
    if isinstance(store, EdgeStore):
        assert links is None
        return
    assert links
    store.set_graph_links(name, 0)
    assert store.graph_links(name) == 0
    points = made_points(GUIDE, 3)
    store.upsert(name, points)
    assert store.search(name, points[1][1].vector, 1, {})[0].chunk_id == points[1][1].chunk.id
    store.set_graph_links(name, links)
    assert store.graph_links(name) == links


def test_open_store_follows_the_settings(tmp_path: Path) -> None:
    embedded = open_store(load_settings(data_dir=tmp_path), role="owner")
    remote = open_store(load_settings(data_dir=tmp_path, qdrant_url="http://127.0.0.1:6333"))
    assert isinstance(embedded, EdgeStore)
    assert isinstance(remote, ServerStore)
    embedded.close()
    remote.close()
    remote.close()
    assert list(tmp_path.iterdir()) == []
