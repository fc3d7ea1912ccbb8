"""What every VectorStore must do with the words of its texts: BM25, its fusion with the embeddings, and old collections."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import CollectionMismatch, CollectionMissing, ConfigError
from pipeline.steps.promote import promote
from pipeline.store.base import VectorStore
from pipeline.store.bm25 import document_weights
from pipeline.store.edge import EdgeStore
from pipeline.types import DocumentInfo, EmbeddedChunk
from tests.made_points import DIMENSION, made_document, made_points, made_vector
from tests.old_collections import make_old, stored_weights

GUIDE = made_document("guide.txt")
OTHER = made_document("other.md", "/guides/more")
#: What tells the three ways to ask apart: the vector, and the text.
MODES = {"dense": (made_vector(5), ""), "sparse": (None, "words"), "hybrid": (made_vector(5), "words")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the embedded store of the fixture `store` is."""
    return tmp_path / "qdrant"


def one_point(text: str, vector: list[float], document: DocumentInfo = OTHER) -> tuple[DocumentInfo, EmbeddedChunk]:
    _, embedded = made_points(document, 1, text=text)[0]
    return document, EmbeddedChunk(replace(embedded.chunk, heading_path=()), vector)


def test_an_identifier_that_embeddings_miss_is_found_by_its_words(store: VectorStore, name: str) -> None:
    target = one_point("Call zlib.decompress_obj() first.", [-x for x in made_vector(5)])
    store.upsert(name, [*made_points(GUIDE, 70), target])
    wanted, vector = target[1].chunk.id, made_vector(5)
    question = "what is decompress_obj for"
    assert wanted not in {hit.chunk_id for hit in store.search(name, vector, 20, {})}
    (hit,) = store.search(name, None, 20, {}, question)
    assert (hit.chunk_id, hit.uri) == (wanted, OTHER.uri)
    assert hit.score > 0
    fused = store.search(name, vector, 5, {}, question)
    assert len(fused) == 5
    assert {fused[0].chunk_id, fused[1].chunk_id} == {wanted, made_points(GUIDE, 6)[5][1].chunk.id}
    assert [hit.score for hit in fused] == sorted((hit.score for hit in fused), reverse=True)
    assert all(0 <= hit.score <= 1 for hit in fused)


def test_both_lists_count(store: VectorStore, name: str) -> None:
    """Second in both lists is above first in one."""
    vectors = [
        made_vector(1),
        [a + 0.1 * b for a, b in zip(made_vector(1), made_vector(2), strict=True)],
        [-x for x in made_vector(1)],
    ]
    texts = ["nothing of it", "a harbour and then a good deal more about some other things", "harbour"]
    points = [one_point(text, vector) for text, vector in zip(texts, vectors, strict=True)]
    store.upsert(name, [*points, *made_points(GUIDE, 70, first=100)])
    ids = [embedded.chunk.id for _, embedded in points]
    assert [hit.chunk_id for hit in store.search(name, made_vector(1), 3, {})][:2] == ids[:2]
    assert [hit.chunk_id for hit in store.search(name, None, 3, {}, "harbour")] == [ids[2], ids[1]]
    assert store.search(name, made_vector(1), 3, {}, "harbour")[0].chunk_id == ids[1]


@pytest.mark.parametrize("mode", MODES)
def test_equal_scores_are_in_the_order_of_their_ids(store: VectorStore, name: str, mode: str) -> None:
    vector, text = MODES[mode]
    twins = [one_point("the same words", made_vector(5), made_document(f"{n}.txt")) for n in range(12)]
    store.upsert(name, [*made_points(GUIDE, 5), *twins])
    hits = store.search(name, vector, 40, {}, text)
    assert (len(hits), len({hit.score for hit in hits}) < 17) == (17, True)
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))


def test_a_rare_word_counts_more_than_a_frequent_one(store: VectorStore, name: str) -> None:
    texts = ["the harbour", *["the boat"] * 20, "the boat boat boat"]
    points = [one_point(text, made_vector(n), made_document(f"{n}.txt")) for n, text in enumerate(texts)]
    store.upsert(name, points)
    hits = store.search(name, None, 5, {}, "boat harbour")
    assert hits[0].chunk_id == points[0][1].chunk.id
    assert hits[1].chunk_id == points[-1][1].chunk.id


@pytest.mark.parametrize("mode", MODES)
def test_filters_hold_in_every_mode(store: VectorStore, name: str, mode: str) -> None:
    html = replace(made_document("page.html", "/web"), media_type="text/html")
    store.upsert(name, [*made_points(GUIDE, 120), *made_points(OTHER, 30), *made_points(html, 2)])
    vector, text = MODES[mode]

    def found(**filters: str) -> set[str]:
        return {hit.uri for hit in store.search(name, vector, 12, filters, text)}

    assert found(media_type="text/html") == {html.uri}
    assert len(store.search(name, vector, 12, {"media_type": "text/html"}, text)) == 2
    assert len(store.search(name, vector, 12, {"folder": "/guides/*"}, text)) == 12
    assert found(folder="/guides/*") == {OTHER.uri}
    assert found(uri=GUIDE.uri) == {GUIDE.uri}
    assert found(folder="/web", media_type="text/plain") == set()
    with pytest.raises(ConfigError, match="media_type"):
        found(colour="red")


def test_a_question_without_words(store: VectorStore, name: str) -> None:
    store.upsert(name, made_points(GUIDE, 9))
    assert store.search(name, made_vector(1), 5, {}, "?!") == store.search(name, made_vector(1), 5, {})
    assert store.search(name, None, 5, {}, "?!") == store.search(name, None, 5, {}, "absent") == []
    assert store.search(name, None, 0, {}, "words") == store.search(name, made_vector(1), 0, {}, "words") == []
    with pytest.raises(CollectionMismatch):
        store.search(name, made_vector(1, DIMENSION + 1), 3, {}, "words")
    with pytest.raises(ValueError, match="NaN"):
        store.search(name, [math.nan] * DIMENSION, 3, {}, "words")


def test_a_collection_that_is_missing(store: VectorStore) -> None:
    for call in (lambda: store.search("absent", None, 3, {}, "words"), lambda: store.has_sparse("absent")):
        with pytest.raises(CollectionMissing, match="absent"):
            call()


def test_the_weights_are_those_of_the_text(store: VectorStore, name: str, folder: Path) -> None:
    """The same for every store, so that a collection can move; headings count, and a text without words has none."""
    (document, embedded), bare = made_points(GUIDE, 1, text="Größe of os.path.join, 東京")[0], one_point("--", made_vector(3))
    bare = (OTHER, replace(bare[1], chunk=replace(bare[1].chunk, text="-- ?")))
    store.upsert(name, [(document, embedded), bare])
    weights = document_weights(embedded.chunk.embed_text)
    stored = stored_weights(store, folder, name, embedded.chunk.id)
    assert stored == pytest.approx(dict(zip(weights.indices, weights.values, strict=True)), abs=1e-5)
    assert store.search(name, None, 3, {}, "guide")[0].chunk_id == embedded.chunk.id  # of the heading
    assert stored_weights(store, folder, name, bare[1].chunk.id) == {}
    assert store.count(name) == 2


def test_changes_keep_words_and_text_together(store: VectorStore, name: str) -> None:
    points = made_points(GUIDE, 3, text="harbour")
    store.upsert(name, points)
    store.update_document(name, replace(GUIDE, title="New"))
    assert [hit.title for hit in store.search(name, None, 5, {}, "harbour")] == ["New"] * 3
    changed = [(d, replace(e, chunk=replace(e.chunk, text="lighthouse"))) for d, e in points[:2]]
    store.upsert(name, changed)
    assert len(store.search(name, None, 5, {}, "harbour")) == 1
    store.delete_points(name, [points[2][1].chunk.id])
    assert store.search(name, None, 5, {}, "harbour") == []
    assert len(store.search(name, None, 5, {}, "lighthouse")) == 2


def test_a_collection_made_before_there_were_weights(
    store: VectorStore, new_name: Callable[[], str], name: str, folder: Path
) -> None:
    old = new_name()
    make_old(store, folder, old, DIMENSION)
    assert (store.has_sparse(old), store.has_sparse(name)) == (False, True)
    points = made_points(GUIDE, 20)
    store.upsert(old, points)
    assert stored_weights(store, folder, old, points[0][1].chunk.id) == {}
    assert store.search(old, made_vector(5), 3, {}, "words") == store.search(old, made_vector(5), 3, {})
    with pytest.raises(ConfigError, match="--mode dense"):
        store.search(old, None, 3, {}, "words")


def test_an_alias_that_moves_from_an_old_collection(
    store: VectorStore, new_name: Callable[[], str], name: str, folder: Path
) -> None:
    old, alias = new_name(), f"{name}-alias"
    make_old(store, folder, old, DIMENSION)
    for physical in (old, name):
        store.upsert(physical, made_points(GUIDE, 4))
    store.set_alias(alias, old)
    assert not store.has_sparse(alias)
    store.set_alias(alias, name)
    assert store.has_sparse(alias)
    assert len(store.search(alias, None, 9, {}, "words")) == 4


def test_promotion_gives_an_old_collection_its_weights(store: VectorStore, new_name: Callable[[], str], tmp_path: Path) -> None:
    source = EdgeStore(tmp_path / "source", role="owner")
    physical = new_name()
    make_old(source, tmp_path / "source", physical, DIMENSION)
    source.upsert(physical, made_points(GUIDE, 5))
    promote(source, store, physical, f"{physical}-alias", lambda *_: None)
    assert len(store.search(physical, None, 9, {}, "words")) == 5
    source.close()
