"""The dispatcher: keeps the queues filled from the ledger, and recovers work that brokers and workers lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pipeline.errors import BrokerUnavailable, KbError, LedgerUnavailable, NoSpace
from pipeline.ledger import Ledger
from pipeline.ledger.flow import Batch
from pipeline.settings import Settings
from pipeline.text import plural
from pipeline.types import Stage

log = logging.getLogger(__name__)

#: More documents are sent to be parsed once this share of KB_MAX_IN_FLIGHT has become free.
REFILL_SHARE = 0.25

#: Messages in the embed queue that suffice to wake every idle worker. Beyond them, parsed documents get none: workers take
#: more documents from the ledger as long as some wait.
EMBED_MESSAGES = 16


class Queues(Protocol):
    """The dispatcher's interface to a broker; `workers.broker.queues.Broker` implements it."""

    def send(self, batch: Batch) -> None:
        """Queue a batch."""

    def depth(self, stage: Stage) -> int:
        """Number of messages that no worker has fetched."""


@dataclass(slots=True)
class Swept:
    """The result of one sweep, in documents."""

    sent: int = 0
    requeued: int = 0
    expired: int = 0


@dataclass(slots=True)
class _Watched:
    """When something was first seen in its current state, on this process's monotonic clock."""

    mark: object
    since: float


class Dispatcher:
    """Sweeps the ledger.

    Any number of dispatchers may run, in any process: every change is one conditional write. Times are differences on the
    monotonic clock of one process, so a step of the wall clock ends no lease.
    """

    def __init__(self, ledger: Ledger, queues: Queues, settings: Settings, spread: int = 4) -> None:
        self._ledger = ledger
        self._queues = queues
        self._settings = settings
        self._spread = spread  #: min number of batches that many waiting documents are spread over
        self._leases: dict[str, _Watched] = {}
        self._batches: dict[str, _Watched] = {}
        self._started = False

    def sweep(self) -> Swept:
        """Expire dead leases, resend lost batches, fill the queues up to the limit.

        Raises BrokerUnavailable, LedgerUnavailable; a later sweep continues from there.
        """
        if not self._started:
            self._ledger.flow.free_strays()
            self._started = True
        swept = Swept()
        try:
            self._expire(swept)
        except (LedgerUnavailable, NoSpace):
            # No worker could show progress either, so the measured times are void.
            self._leases.clear()
            raise
        self._requeue(swept)
        self._fill(swept)
        return swept

    def _expire(self, swept: Swept) -> None:
        held = self._ledger.kept.get("leases", self._ledger.flow.leases)
        self._leases = {lease.id: _still(self._leases.get(lease.id), lease.beat) for lease in held}
        now = time.monotonic()
        for lease in held:
            if now - self._leases[lease.id].since < self._settings.lease_s:
                continue
            freed = self._ledger.flow.expire(lease, self._settings.max_starts)
            swept.expired += freed
            what = plural(freed, "document") if lease.of_documents else f"a {lease.stage}"
            log.warning("took back %s from %s: no progress for %.0f s", what, lease.owner, self._settings.lease_s)

    def _requeue(self, swept: Swept) -> None:
        queued = self._ledger.kept.get("queued", self._ledger.flow.queued)
        self._batches = {batch: _still(self._batches.get(batch), stage) for batch, stage in queued.items()}
        now = time.monotonic()
        old = {batch for batch in queued if now - self._batches[batch].since >= self._settings.requeue_s}
        for stage in {queued[batch] for batch in old}:
            # While messages wait in the queue, ours may be among them. An empty queue means that it was lost, or that a
            # worker has fetched but not started it; then it is delivered twice, which a claim makes harmless.
            if self._queues.depth(stage) == 0:
                lost = [batch for batch in old if queued[batch] is stage]
                swept.requeued += self._ledger.flow.unqueue(lost)
                log.info("resending %s missing from the %s queue and not started", plural(len(lost), "message"), stage)

    def _fill(self, swept: Swept) -> None:
        # Parsed documents are already in flight: they only need a message that wakes a worker, which then takes them by itself.
        for stage in (Stage.EMBED, Stage.PARSE):
            batches = self._parsed() if stage is Stage.EMBED else self._pending()
            for number, batch in enumerate(batches):
                try:
                    self._queues.send(batch)
                except BrokerUnavailable:
                    self._ledger.flow.unqueue([late.id for late in batches[number:]])
                    raise
                swept.sent += len(batch.document_ids)

    def _parsed(self) -> list[Batch]:
        if not unqueued(self._ledger, Stage.EMBED) or (room := EMBED_MESSAGES - self._queues.depth(Stage.EMBED)) <= 0:
            return []
        return self._take(Stage.EMBED, room * self._settings.batch_documents)

    def _pending(self) -> list[Batch]:
        """Refill in large steps: refilled document by document, batches would fall apart into messages of one or two."""
        limit = self._settings.max_in_flight
        in_flight = in_flight_of(self._ledger, limit)
        room = limit - in_flight
        return self._take(Stage.PARSE, room, in_flight) if room > 0 and room >= limit * REFILL_SHARE else []

    def _take(self, stage: Stage, documents_max: int, in_flight: int = 0) -> list[Batch]:
        return self._ledger.flow.take(
            stage,
            documents_max=documents_max,
            batch_documents=self._settings.batch_documents,
            batch_bytes=self._settings.batch_bytes,
            spread=self._spread,
            in_flight=in_flight,
        )


def unqueued(ledger: Ledger, stage: Stage) -> int:
    """Number of documents that wait for a stage and are in no message; asked again only after a commit, like all of a sweep."""
    return ledger.kept.get(("unqueued", stage), lambda: ledger.flow.unqueued(stage))


def in_flight_of(ledger: Ledger, limit: int) -> int:
    """Number of documents in flight, as `Flow.in_flight`; asked again only after a commit."""
    return ledger.kept.get(("in flight", limit), lambda: ledger.flow.in_flight(limit))


def _still(before: _Watched | None, mark: object) -> _Watched:
    return before if before is not None and before.mark == mark else _Watched(mark, time.monotonic())


class DispatchThread:
    """Sweeps in the background of a process that does something else."""

    def __init__(self, dispatcher: Dispatcher, every_s: float, on_sweep: Callable[[], None] = lambda: None) -> None:
        self._dispatcher = dispatcher
        self._every_s = every_s
        self._on_sweep = on_sweep  #: called after each successful sweep
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatch", daemon=True)
        self.error: KbError | None = None  #: the error of the last sweep; None if it succeeded

    def __enter__(self) -> DispatchThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._dispatcher.sweep()
                self._on_sweep()
                self.error = None
            except KbError as error:
                if self.error is None:
                    log.warning("%s", error)
                self.error = error
            self._stop.wait(self._every_s)
