"""Texts that recur: embedded once while their vectors fit into memory, and again after an error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import EmbedUnavailable
from pipeline.steps.reuse import ENTRY_BYTES, ReusingEmbedder, VectorCache
from pipeline.telemetry.counters import Measured
from tests.counting_embedder import CountingEmbedder


class Model(CountingEmbedder):
    """The vector of a text is its length along one axis; `bad` makes it zero, `away` raises."""

    def __init__(self) -> None:
        super().__init__()
        self.bad = self.away = False

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += texts
        if self.away:
            raise EmbedUnavailable("away")
        vectors = np.zeros((len(texts), 4), np.float32)
        vectors[range(len(texts)), [len(text) % 4 for text in texts]] = 0.0 if self.bad else 1.0
        return vectors


def claim(model: Model, cache: VectorCache, *windows: Sequence[str]) -> list[NDArray[np.float32]]:
    """Embed windows as the index step does in one claim."""
    with ReusingEmbedder(model, Measured().busy, cache) as embedder:
        return [one.result(lambda: None) for one in [embedder.submit(texts) for texts in windows]]


def test_a_text_is_embedded_once_in_and_across_claims() -> None:
    model, cache = Model(), VectorCache()
    first, second = claim(model, cache, ["a", "bb", "a"], ["bb", "ccc"])
    (third,) = claim(model, cache, ["ccc", "dddd", "a", "ccc"])
    assert sorted(model.texts) == ["a", "bb", "ccc", "dddd"]
    for vectors, texts in ((first, "1 2 1"), (second, "2 3"), (third, "3 0 1 3")):
        assert vectors.argmax(1).tolist() == [int(axis) for axis in texts.split()]


def test_an_empty_window_has_no_vectors() -> None:
    assert claim(Model(), VectorCache(), [])[0].shape == (0, 0)


def test_what_was_not_asked_for_longest_is_dropped_first() -> None:
    model, cache = Model(), VectorCache(3 * (4 * 4 + ENTRY_BYTES))
    for text in ("a", "b", "c", "a", "d", "a", "b"):
        claim(model, cache, [text])
    assert model.texts == ["a", "b", "c", "d", "b"]


@pytest.mark.parametrize("room", [0, 4 * 4 + ENTRY_BYTES])
def test_a_window_larger_than_the_cache_is_complete(room: int) -> None:
    texts = [f"{'x' * number}" for number in range(50)]
    (vectors,) = claim(Model(), VectorCache(room), [*texts, *texts])
    assert vectors.argmax(1).tolist() == [len(text) % 4 for text in texts] * 2


def test_bad_vectors_and_errors_are_not_kept() -> None:
    model, cache = Model(), VectorCache()
    model.bad = True
    assert not claim(model, cache, ["a"])[0].any()
    model.bad, model.away = False, True
    with pytest.raises(EmbedUnavailable):
        claim(model, cache, ["a"])
    model.away = False
    assert claim(model, cache, ["a"])[0].any()
    assert model.texts == ["a"] * 3
