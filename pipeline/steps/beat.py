"""The sign of life that keeps a lease."""

from __future__ import annotations

import time

from pipeline.ledger import Ledger
from pipeline.ledger.work import Claim
from pipeline.telemetry.counters import Measured

#: A lease is renewed this often while work goes on; a fifth of the shortest sensible lease.
BEAT_EVERY_S = 5.0


class Beat:
    """Renews a claim's lease, at most every BEAT_EVERY_S.

    Called from the loops that do the work, never from a thread of its own: work that hangs must lose its lease.
    """

    def __init__(self, ledger: Ledger, claim: Claim, measured: Measured | None = None) -> None:
        self._ledger = ledger
        self._claim = claim
        self._measured = measured  #: written down with it
        self._last = time.monotonic()

    def __call__(self) -> None:
        """Show progress; raises LeaseLost."""
        now = time.monotonic()
        if now - self._last >= BEAT_EVERY_S:
            self._ledger.work.beat(self._claim, self._measured)
            self._last = now
