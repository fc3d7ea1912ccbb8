"""Vectors of the parts of chunks: pooled from the tokens of the whole, stored with it, and what a question is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.embed import make_embedder
from pipeline.embed.base import bad_rows, embed_fingerprint, embedding_of, wholes
from pipeline.embed.encoder import BertEncoder, load_encoder
from pipeline.embed.local import LocalEmbedder
from pipeline.embed.parts import most_parts, part_vectors
from pipeline.embed.plan import CANARY_TEXTS
from pipeline.errors import CollectionMismatch, ConfigError, ModelError
from pipeline.ledger.generations import Collection
from pipeline.model.files import resolve_model
from pipeline.settings import Settings, load_settings
from pipeline.steps.growth import growth
from pipeline.steps.plan import Planning, SyncPlan
from pipeline.steps.promote import promote
from pipeline.store.base import VectorStore
from pipeline.store.edge import EdgeStore
from tests.made_points import DIMENSION, made_document, made_points

GUIDE = made_document("guide.txt")
SIZE = 16
LONG = " ".join(CANARY_TEXTS)[:900]


def axis(number: int, share: float = 1.0) -> list[float]:
    """A unit vector along an axis, or between it and the last one."""
    vector = [0.0] * DIMENSION
    vector[number] += share
    vector[-1] += math.sqrt(1 - share * share)
    return vector


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEmbedder]:
    settings = load_settings(data_dir=tmp_path_factory.mktemp("parts"), part_tokens=SIZE, dtype="float32")
    made = make_embedder(settings, device="cpu")
    assert isinstance(made, LocalEmbedder)
    yield made
    made.close()


def test_parts_are_means_of_as_many_tokens_each_and_cover_the_text() -> None:
    tokens = torch.eye(12).repeat(3, 1, 1)
    mask = torch.ones(3, 12, dtype=torch.int64)
    mask[1, 7:] = 0
    mask[2, :9] = 0  # padded on the left: one token between the special ones
    parts = part_vectors(tokens, mask, 4, most_parts(12, 4))
    held = [[torch.nonzero(part)[:, 0].tolist() for part in row if part.any()] for row in parts]
    assert held == [[[1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 10]], [[1, 2, 3, 4], [2, 3, 4, 5]], [[10]]]
    assert torch.allclose(parts.sum(2)[0], torch.ones(3)), "a mean of each part's tokens"


@pytest.mark.parametrize("tokens", [1, 3, 4, 5, 8, 9, 254])
def test_every_token_is_in_a_part(tokens: int) -> None:
    mask = torch.ones(1, tokens + 2, dtype=torch.int64)
    parts = part_vectors(torch.eye(tokens + 2).unsqueeze(0), mask, 4, most_parts(256, 4))[0]
    assert parts.sum(0).nonzero()[:, 0].tolist() == list(range(1, tokens + 1))
    assert int(parts.any(1).sum()) == math.ceil(tokens / 4)


def test_the_embedder_gives_the_whole_as_before_and_its_parts(embedder: LocalEmbedder) -> None:
    plain = LocalEmbedder(load_encoder(resolve_model(Settings())), resolve_model(Settings()), embedder._device)
    texts = ["Bees", LONG, *CANARY_TEXTS]
    found, lengths = embedder.embed(texts), [len(ids) - 2 for ids in embedder._encode(texts)]
    assert found.shape == (len(texts), 1 + most_parts(256, SIZE), 384)
    assert (wholes(found) * plain.embed(texts)).sum(1).min() > 0.99999
    assert [len(embedding_of(row).parts) for row in found] == [math.ceil(length / SIZE) for length in lengths]
    assert bad_rows(found) == []
    assert float(found[0, 1] @ found[0, 0]) > 0.5, "a part of one token is near the whole of three"
    assert embedder.embed_query("bees").shape == (384,)
    assert embedder.embed([]).shape[1:] == found.shape[1:]
    plain.close()


def test_parts_without_padding_are_those_with_padding() -> None:
    encoder = BertEncoder(resolve_model(Settings()).path, "mean")
    encoder.divide(SIZE, 256)
    encoded = encoder.tokenize(["Bees", LONG, *CANARY_TEXTS])
    with torch.inference_mode():
        padded, packed = encoder(encoder.batch(encoded, 256)), encoder.packed(encoded)
    assert torch.allclose(packed, padded, atol=1e-5)


def test_models_without_a_mean_of_tokens_and_endpoints_have_no_parts() -> None:
    with pytest.raises(ModelError, match="KB_PART_TOKENS"):
        BertEncoder(resolve_model(Settings()).path, "cls").divide(SIZE, 256)
    with pytest.raises(ConfigError, match="KB_EMBED_URL"):
        make_embedder(Settings(part_tokens=SIZE, embed_url="http://127.0.0.1:1"), device="cpu")


def test_a_bad_part_makes_its_row_bad() -> None:
    rows: NDArray[np.float32] = np.zeros((4, 3, 2), np.float32)
    rows[:, :2, 0] = 1
    rows[1, 1, 0], rows[2, 1, 0], rows[3, 0, 0] = np.nan, 0.5, 0
    assert bad_rows(rows) == [1, 2, 3]


def test_other_parts_are_another_fingerprint_and_none_the_one_of_before() -> None:
    prints = [embed_fingerprint(Settings(part_tokens=size), 384) for size in (0, 32, 48)]
    assert len(set(prints)) == 3
    assert prints[0] == embed_fingerprint(Settings(), 384)


def test_a_profile_of_a_version_without_parts_has_none() -> None:
    configured = Settings(part_tokens=48)
    assert configured.of_collection('{"model": "m"}').part_tokens == 0
    assert configured.of_collection('{"model": "m", "part_tokens": 32}').part_tokens == 32
    assert configured.of_collection("{}").part_tokens == 48


def test_the_message_names_the_setting(tmp_path: Path) -> None:
    live = Collection("docs", "docs-1", "m", "", 4, "other", "", 0.0)
    with pytest.raises(CollectionMismatch, match="KB_PART_TOKENS"):
        live.require_model("mine", "m")


@pytest.fixture
def divided(store: VectorStore, new_name: Callable[[], str]) -> Iterator[str]:
    """A collection with parts: a chunk whose second part is near axis 1, and one that is near it as a whole."""
    physical = new_name()
    store.create(physical, DIMENSION, parts=True)
    first, second = (embedded for _, embedded in made_points(GUIDE, 2))
    store.upsert(
        physical,
        [
            (GUIDE, replace(first, vector=axis(0), parts=(axis(0), axis(1, 0.9), axis(2)))),
            (GUIDE, replace(second, vector=axis(1, 0.7), parts=(axis(1, 0.7),))),
        ],
    )
    yield physical
    store.drop(physical)


def test_a_chunk_scores_as_its_best_part(store: VectorStore, divided: str) -> None:
    assert store.has_parts(divided)
    hits = store.search(divided, axis(1), 5, {})
    assert [hit.ordinal for hit in hits] == [0, 1]
    assert [hit.score for hit in hits] == pytest.approx([0.9, 0.7], abs=2e-3)
    both = store.search(divided, axis(1), 5, {}, "text")
    assert {hit.ordinal for hit in both} == {0, 1}
    assert max(both, key=lambda hit: hit.score).ordinal == 0


def test_parts_come_back_with_the_whole(store: VectorStore, divided: str) -> None:
    points = {embedded.chunk.ordinal: embedded for _, embedded in store.scan_points(divided)}
    assert [len(points[number].parts) for number in (0, 1)] == [3, 1]
    assert points[0].parts[1] == pytest.approx(axis(1, 0.9), abs=1e-3)
    assert points[0].vector == pytest.approx(axis(0), abs=1e-6)
    lent = store.vectors(divided, [points[0].chunk.id])[points[0].chunk.id]
    assert (lent.vector, lent.parts) == (points[0].vector, points[0].parts)
    assert all(len(point.vector or []) == DIMENSION for point in store.scan(divided, with_vectors=True))


def test_a_part_that_cannot_be_stored_stops_the_upsert(store: VectorStore, divided: str) -> None:
    (document, embedded) = made_points(made_document("bad.txt"), 1)[0]
    for bad in ([math.nan] * DIMENSION, [0.0] * DIMENSION, [1.0]):
        with pytest.raises(ValueError, match=embedded.chunk.id):
            store.upsert(divided, [(document, replace(embedded, parts=(axis(0), bad)))])
    assert store.count(divided) == 2


def test_a_collection_without_parts_stores_none(store: VectorStore, name: str) -> None:
    (document, embedded) = made_points(GUIDE, 1)[0]
    store.upsert(name, [(document, replace(embedded, parts=(axis(1),)))])
    assert not store.has_parts(name)
    assert [found.parts for _, found in store.scan_points(name)] == [()]


def test_a_copy_has_the_parts(store: VectorStore, divided: str, tmp_path: Path) -> None:
    target = EdgeStore(tmp_path / "target", reserve_bytes=0)
    try:
        promote(store, target, divided, "docs", lambda done, total: None)
        assert target.has_parts(divided)
        assert [hit.ordinal for hit in target.search("docs", axis(1), 1, {})] == [0]
    finally:
        target.close()


@pytest.mark.parametrize(("size", "parts"), [(0, 0), (48, 5)])
def test_a_plan_counts_the_vectors_of_parts(size: int, parts: int) -> None:
    nothing: Any = None
    planning = Planning(nothing, nothing, nothing, "docs", 384, size)
    assert planning._parts(SyncPlan(chunks=10, tokens=2000)) == parts
    assert planning._parts(SyncPlan()) == 0
    for whole, divided in zip(growth(10, 384), growth(10, 384, parts), strict=True):
        assert divided.disk_bytes - whole.disk_bytes == 10 * parts * 384 * 2
