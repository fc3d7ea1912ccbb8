"""An embedder for tests of steps, which notes what it was asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.base import EmbedderInfo, unit_rows
from tests.embed_server import DIMENSION, vector


class CountingEmbedder:
    """Vectors made from the texts' hashes; notes what it was asked for."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.info = EmbedderInfo("m", "", DIMENSION, 256, "cpu", "float32", 0.0)
        self.texts: list[str] = []
        self.calls = 0
        self.fills: deque[float] = deque()
        self.before = before

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.before()
        self.texts += texts
        self.calls += 1
        return unit_rows(np.array([vector(text) for text in texts], np.float32))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self.embed([text])[0]
        return row

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embed(texts)

    def memory_bytes(self) -> int:
        return 0

    def close(self) -> None:
        pass
