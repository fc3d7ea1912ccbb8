"""The heartbeat that keeps a lease, and tells how far its documents are."""

from __future__ import annotations

import time

from pipeline.ledger import Ledger
from pipeline.ledger.advances import Advance
from pipeline.ledger.work import Claim
from pipeline.telemetry.counters import Measured

#: A lease is renewed this often while work goes on; a fifth of the shortest sensible lease.
BEAT_EVERY_S = 5.0

#: While a document advances that takes longer than that, people watch it: so it is recorded this often.
ADVANCE_EVERY_S = 2.0


class Beat:
    """Renews a claim's lease, at most every BEAT_EVERY_S, or every ADVANCE_EVERY_S where there is progress to record.

    Called from the loops that do the work, never from a thread of its own: work that hangs must lose its lease.
    """

    def __init__(self, ledger: Ledger, claim: Claim, measured: Measured | None = None) -> None:
        self._ledger = ledger
        self._claim = claim
        self._measured = measured  #: written down with it
        self._last = time.monotonic()
        self._reached: dict[str, Advance] = {}  #: by document, since the last heartbeat

    def advance(self, reached: Advance) -> None:
        """Have the next heartbeat record how far a document is."""
        self._reached[reached.document] = reached

    def __call__(self) -> None:
        """Show progress; raises LeaseLost."""
        now = time.monotonic()
        if now - self._last >= (ADVANCE_EVERY_S if self._reached else BEAT_EVERY_S):
            self._ledger.work.beat(self._claim, self._measured, list(self._reached.values()))
            self._reached.clear()
            self._last = now
