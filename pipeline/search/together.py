"""Embeds the questions of several callers together: a model takes little longer for eight short texts than for one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float32]

#: Maximum number of questions in one call; more wait for the next.
MAX_TOGETHER = 32


class Together(Protocol):
    """Embeds several questions in one call."""

    def embed_queries(self, texts: Sequence[str]) -> Vector:
        """Embed questions: (n, dimension), unit length, in the order of `texts`."""

    def close(self) -> None:
        """Release all resources."""


class EmbedTogether:
    """A QueryEmbedder for any number of threads.

    One thread calls the model. It takes whatever waits at that moment and never waits for more, so that a single caller loses
    nothing: callers come together while the previous call computes.
    """

    def __init__(self, embedder: Together, on_call: Callable[[int], None] = lambda texts: None) -> None:
        """`on_call` is told the number of questions of each call."""
        self._embedder = embedder
        self._on_call = on_call
        self._waiting: queue.SimpleQueue[tuple[str, Future[Vector]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="embed-queries", daemon=True)
        self._thread.start()

    def embed_query(self, text: str) -> Vector:
        """Embed a question: (dimension,), unit length; raises what the model raises."""
        done: Future[Vector] = Future()
        self._waiting.put((text, done))
        return done.result()

    def close(self) -> None:
        """Answer what waits, and release the model."""
        self._waiting.put(None)
        self._thread.join()
        self._embedder.close()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = [first], False
            while len(batch) < MAX_TOGETHER and not self._waiting.empty():
                one = self._waiting.get()
                if one is None:
                    last = True
                    break
                batch.append(one)
            self._embed(batch)
            if last:
                return

    def _embed(self, batch: list[tuple[str, Future[Vector]]]) -> None:
        try:
            vectors = self._embedder.embed_queries([text for text, _ in batch])
            self._on_call(len(batch))
        except BaseException as error:  # every caller gets it; the thread serves the next ones
            for _, done in batch:
                done.set_exception(error)
            return
        for (_, done), vector in zip(batch, vectors, strict=True):
            done.set_result(vector)
