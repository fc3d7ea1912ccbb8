"""The heartbeat that keeps a lease and reports the progress of its documents."""

from __future__ import annotations

import time

from pipeline.ledger import Ledger
from pipeline.ledger.advances import Advance
from pipeline.ledger.claims import Claim
from pipeline.telemetry.counters import Measured

#: Seconds between two renewals of a lease during work; a fifth of the shortest sensible lease.
BEAT_EVERY_S = 5.0

#: Seconds between two records of progress: people watch a document that takes longer than BEAT_EVERY_S.
ADVANCE_EVERY_S = 2.0


class Beat:
    """Renews a claim's lease, at most every BEAT_EVERY_S, or every ADVANCE_EVERY_S if there is progress to record.

    It is called from the loops that do the work, never from a separate thread: work that hangs must lose its lease.
    """

    def __init__(self, ledger: Ledger, claim: Claim, measured: Measured | None = None) -> None:
        self._ledger = ledger
        self.claim = claim
        self._measured = measured  #: recorded with each heartbeat
        self._last = time.monotonic()
        self._reached: dict[str, Advance] = {}  #: by document, since the last heartbeat

    def advance(self, reached: Advance) -> None:
        """Record a document's progress with the next heartbeat."""
        self._reached[reached.document] = reached

    def __call__(self) -> None:
        """Send a heartbeat if it is due; raises LeaseLost."""
        now = time.monotonic()
        if now - self._last >= (ADVANCE_EVERY_S if self._reached else BEAT_EVERY_S):
            self._ledger.work.beat(self.claim, self._measured, list(self._reached.values()))
            self._reached.clear()
            self._last = now
