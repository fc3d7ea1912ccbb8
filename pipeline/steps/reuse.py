"""Embedding in the background, each distinct text once, also across claims."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.base import Embedder, bad_rows
from pipeline.telemetry.counters import Busy

#: Memory for the vectors of texts that may recur: boilerplate of many documents. 18,000 of 384 numbers.
KEPT_BYTES = 32 << 20

#: Memory of an entry besides its numbers: array, digest, and its place in the table.
ENTRY_BYTES = 300

#: Seconds between two checks that the model still makes progress.
LOOK_EVERY_S = 1.0

#: Concurrent calls of the embedder: the second one keeps the device busy while the last texts of the first are computed.
CALLS = 2


#: A vector, or the call that computes it and its row there.
_Source = NDArray[np.float32] | tuple[Future[NDArray[np.float32]], int]


class VectorCache:
    """Vectors of one model by the digests of their texts, the longest unused ones dropped first; from any thread."""

    def __init__(self, max_bytes: int = KEPT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._vectors: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, digest: bytes) -> NDArray[np.float32] | None:
        """The vector, (dimension,); None if it is not kept."""
        with self._lock:
            found = self._vectors.get(digest)
            if found is not None:
                self._vectors.move_to_end(digest)
            return found

    def keep(self, digests: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Add vectors, (texts, dimension), except bad ones, which a later attempt may not get."""
        bad = set(bad_rows(vectors))
        with self._lock:
            for row, digest in enumerate(digests):
                if row not in bad and digest not in self._vectors:
                    self._vectors[digest] = vector = vectors[row].copy()  # a view would keep all rows
                    self._bytes += vector.nbytes + ENTRY_BYTES
            while self._bytes > self._max_bytes:
                _, vector = self._vectors.popitem(last=False)
                self._bytes -= vector.nbytes + ENTRY_BYTES


class Vectors:
    """The vectors of some texts; they may still be being computed."""

    def __init__(self, embedder: Embedder, rows: Sequence[_Source]) -> None:
        self._embedder = embedder
        self._rows = rows

    def result(self, on_progress: Callable[[], None]) -> NDArray[np.float32]:
        """(n, dimension) in the order of the texts; raises the embedder's error.

        `on_progress` is called from time to time while the model makes progress, to distinguish slow work from work that hangs.
        """
        missing = {row[0] for row in self._rows if isinstance(row, tuple)}
        calls = self._embedder.calls
        while missing := wait(missing, LOOK_EVERY_S).not_done:
            if calls != (calls := self._embedder.calls):
                on_progress()
        found = [row[0].result()[row[1]] if isinstance(row, tuple) else row for row in self._rows]
        return np.stack(found) if found else np.empty((0, 0), np.float32)


class ReusingEmbedder:
    """Embeds lists of texts in the background, each distinct text once; a context manager, for one thread."""

    def __init__(self, embedder: Embedder, busy: Busy, cache: VectorCache) -> None:
        self._embedder = embedder
        self._busy = busy  #: counts the time during which the embedder works
        self._cache = cache
        self._pool = ThreadPoolExecutor(CALLS, "embed")
        #: Digest of a text -> the call that computes its vector, and its row there; until this is in the cache.
        self._running: dict[bytes, tuple[Future[NDArray[np.float32]], int]] = {}

    def __enter__(self) -> ReusingEmbedder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # After an error or at shutdown, the documents must be released at once, without waiting for a slow endpoint.
        self._pool.shutdown(wait=error is None, cancel_futures=True)

    def _embed(self, digests: Sequence[bytes], texts: Sequence[str]) -> NDArray[np.float32]:
        with self._busy.work():
            vectors = self._embedder.embed(texts)
        self._cache.keep(digests, vectors)
        return vectors

    def submit(self, texts: Sequence[str]) -> Vectors:
        """Start embedding texts; those that were embedded recently are not embedded again."""
        self._running = {digest: row for digest, row in self._running.items() if not row[0].done()}
        digests = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
        sources: dict[bytes, _Source] = {}
        fresh: dict[bytes, str] = {}
        for digest, text in zip(digests, texts, strict=True):
            known = self._running.get(digest)
            vector = self._cache.get(digest) if known is None and digest not in sources else None
            if known is not None:
                sources[digest] = known
            elif vector is not None:
                sources[digest] = vector
            elif digest not in sources:
                fresh[digest] = text
        if fresh:
            call = self._pool.submit(copy_context().run, self._embed, list(fresh), list(fresh.values()))
            started = {digest: (call, row) for row, digest in enumerate(fresh)}
            self._running |= started
            sources |= started
        return Vectors(self._embedder, [sources[digest] for digest in digests])
