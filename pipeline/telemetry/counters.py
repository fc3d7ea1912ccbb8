"""Counters that a worker keeps until they are written to the ledger."""

from __future__ import annotations

import bisect
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

#: Inclusive upper bounds of the histograms' buckets; one more bucket is unbounded.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
BOUNDS: Mapping[str, tuple[float, ...]] = {
    "wait_seconds": _SECONDS,  # until a stage's worker takes a document; by stage
    "stage_seconds": _SECONDS,  # a document's share of a stage's work; by stage
    "upsert_seconds": _SECONDS,  # one write of points to the store
    "batch_fill": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),  # tokens of a model call, as a share of its budget
}

#: Bounds under which a histogram's sum and the counters are stored.
SUM, COUNT, UNBOUNDED = "sum", "count", "+Inf"

#: Chunks by run and length; the bound is `token_bin`. Chunks over the model's limit are also counted under UNBOUNDED.
CHUNK_TOKENS = "chunk_tokens"

#: Documents by run; the bound is the model's limit that the chunks were measured with, 0 if unknown.
CHUNK_LIMIT = "chunk_limit"

#: Key of a number: metric, label, and bound or COUNT.
Key = tuple[str, str, str]


class Busy:
    """Seconds in which at least one of several threads was at work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._since = 0.0
        self._seconds = 0.0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count the time of a `with` block; overlapping blocks count once."""
        with self._lock:
            if not self._running:
                self._since = time.monotonic()
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self._seconds += time.monotonic() - self._since

    def take(self) -> float:
        """Busy seconds since the last call, including work in progress."""
        with self._lock:
            now = time.monotonic()
            seconds, self._seconds = self._seconds, 0.0
            if self._running:
                seconds += now - self._since
                self._since = now
        return seconds


class Measured:
    """Numbers to add to those in the ledger; for one thread."""

    def __init__(self, worker: str = "", memory_bytes: Callable[[], int] = lambda: 0) -> None:
        self.worker = worker  #: the worker that does the work; empty if none
        self.busy = Busy()
        self.memory_bytes = memory_bytes  #: memory the worker uses now, of its device if the device has its own
        self.busy_s = 0.0  #: work that `busy` has counted
        self._counts: defaultdict[Key, float] = defaultdict(float)

    def add(self, metric: str, label: str = "", number: float = 1, bound: str = COUNT) -> None:
        """Count something."""
        self._counts[metric, label, bound] += number

    def observe(self, metric: str, label: str, value: float, number: int = 1) -> None:
        """Add a value to a histogram of BOUNDS, `number` times."""
        bounds = BOUNDS[metric]
        place = bisect.bisect_left(bounds, value)
        self.add(metric, label, number, f"{bounds[place]:g}" if place < len(bounds) else UNBOUNDED)
        self.add(metric, label, value * number, SUM)

    def counts(self) -> dict[Key, float]:
        """Counts since `clear`; also updates `busy_s`."""
        self.busy_s += self.busy.take()
        return dict(self._counts)

    def clear(self) -> None:
        """Reset all counts, once the ledger has them."""
        self._counts.clear()
        self.busy_s = 0.0


def token_bin(tokens: int, limit: int) -> int:
    """Inclusive upper bound of a bin in the histogram of chunk lengths: up to 16 bins up to `limit`, which is 0 if unknown."""
    width = max(8, 1 << (-(-(limit or 512) // 16) - 1).bit_length())
    return -(-tokens // width) * width
