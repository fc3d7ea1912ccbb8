"""Embedding in the background, each distinct text once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.base import Embedder
from pipeline.telemetry.counters import Busy

#: Number of texts whose vectors are kept for equal texts; the oldest are dropped first.
KEPT = 4096

#: Seconds between two checks that the model still makes progress.
LOOK_EVERY_S = 1.0

#: Concurrent calls of the embedder: the second one keeps the device busy while the last texts of the first are computed.
CALLS = 2


class Vectors:
    """The vectors of some texts; they may still be being computed."""

    def __init__(self, embedder: Embedder, rows: Sequence[tuple[Future[NDArray[np.float32]], int]]) -> None:
        self._embedder = embedder
        self._rows = rows

    def result(self, on_progress: Callable[[], None]) -> NDArray[np.float32]:
        """(n, dimension) in the order of the texts; raises the embedder's error.

        `on_progress` is called from time to time while the model makes progress, to distinguish slow work from work that hangs.
        """
        missing = {call for call, _ in self._rows}
        calls = self._embedder.calls
        while missing := wait(missing, LOOK_EVERY_S).not_done:
            if calls != (calls := self._embedder.calls):
                on_progress()
        return np.stack([call.result()[row] for call, row in self._rows]) if self._rows else np.empty((0, 0), np.float32)


class ReusingEmbedder:
    """Embeds lists of texts in the background, each distinct text once; a context manager, for one thread."""

    def __init__(self, embedder: Embedder, busy: Busy) -> None:
        self._embedder = embedder
        self._busy = busy  #: counts the time during which the embedder works
        self._pool = ThreadPoolExecutor(CALLS, "embed")
        #: Digest of a text -> the call that computes its vector, and its row there.
        self._known: OrderedDict[bytes, tuple[Future[NDArray[np.float32]], int]] = OrderedDict()

    def __enter__(self) -> ReusingEmbedder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # After an error or at shutdown, the documents must be released at once, without waiting for a slow endpoint.
        self._pool.shutdown(wait=error is None, cancel_futures=True)

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with self._busy.work():
            return self._embedder.embed(texts)

    def submit(self, texts: Sequence[str]) -> Vectors:
        """Start embedding texts; those submitted recently are not embedded again."""
        digests = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
        fresh = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in self._known}
        if fresh:
            call = self._pool.submit(copy_context().run, self._embed, list(fresh.values()))
            self._known.update((digest, (call, row)) for row, digest in enumerate(fresh))
        found = Vectors(self._embedder, [self._known[digest] for digest in digests])
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return found
