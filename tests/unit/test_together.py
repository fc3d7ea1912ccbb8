"""Questions of several callers are embedded in one call of the model, and none waits for others to come."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.embed.base import Embedder
from pipeline.errors import EmbedUnavailable
from pipeline.search.together import MAX_TOGETHER, EmbedTogether


class Gated:
    """A model whose calls wait until they are let through; a question is embedded as its number."""

    def __init__(self) -> None:
        self.called = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.is_closed = False

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.called.release()
        assert self.go.acquire(timeout=60)
        if "bad" in texts:
            raise EmbedUnavailable("the model is away")
        return np.array([[float(text)] for text in texts], np.float32)

    def close(self) -> None:
        self.is_closed = True


def test_what_waits_while_the_model_computes_is_one_call() -> None:
    model, sizes = Gated(), list[int]()
    together = EmbedTogether(cast(Embedder, model), sizes.append)
    with ThreadPoolExecutor(MAX_TOGETHER + 8) as callers:
        first = callers.submit(together.embed_query, "0")
        assert model.called.acquire(timeout=60), "a single question waits for nobody"
        others = [callers.submit(together.embed_query, str(n)) for n in range(1, MAX_TOGETHER + 8)]
        while together._waiting.qsize() < len(others):
            pass
        for _ in range(3):
            model.go.release()
        assert first.result(60).tolist() == [0.0]
        assert [one.result(60).tolist() for one in others] == [[float(n)] for n in range(1, MAX_TOGETHER + 8)]
    assert sizes == [1, MAX_TOGETHER, 7]
    together.close()
    assert model.is_closed


def test_a_failure_reaches_every_caller_of_the_call_and_nobody_later() -> None:
    model = Gated()
    together = EmbedTogether(cast(Embedder, model))
    for _ in range(2):
        model.go.release()
    with pytest.raises(EmbedUnavailable, match="away"):
        together.embed_query("bad")
    assert together.embed_query("7").tolist() == [7.0]
    together.close()
