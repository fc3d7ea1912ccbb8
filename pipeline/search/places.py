"""Limits how many searches compute at the same time in this process."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds after which a search computes without a place: others take long, or wait for another process.
WAIT_S = 0.05


class Places:
    """Places for searches, for any number of threads.

    A search gives up the interpreter lock for each call of the engine, and then waits for those who took it. With a thread for
    each of eight callers, these waits left half a core idle.
    """

    def __init__(self, count: int, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()  # a semaphore is written in Python and costs more
        for _ in range(count):
            self._free.put(None)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place until the block ends, or none if there was none in time."""
        try:
            self._free.get(timeout=self._wait_s)
        except queue.Empty:
            yield
            return
        try:
            yield
        finally:
            self._free.put(None)
