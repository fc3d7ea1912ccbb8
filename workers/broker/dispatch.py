"""The dispatcher: keeps the queues filled from the ledger, and brings back what brokers and workers lost."""

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
from pipeline.types import Stage

log = logging.getLogger(__name__)


class Queues(Protocol):
    """What the dispatcher needs of a broker; `workers.broker.queues.Broker` is the real one."""

    def send(self, batch: Batch) -> None:
        """Queue a batch."""

    def depth(self, stage: Stage) -> int:
        """Messages nobody has fetched."""


@dataclass(slots=True)
class Swept:
    """What one sweep did, in documents."""

    sent: int = 0
    requeued: int = 0
    expired: int = 0


@dataclass(slots=True)
class _Watched:
    """When something was first seen as it is, on this process's monotonic clock."""

    mark: object
    since: float


class Dispatcher:
    """Sweeps the ledger.

    Any number of dispatchers may run, in any process: every change is one conditional write. Time is only ever measured
    as a difference on the monotonic clock of one process, so a step of the wall clock ends no lease.
    """

    def __init__(self, ledger: Ledger, queues: Queues, settings: Settings, spread: int = 4) -> None:
        self._ledger = ledger
        self._queues = queues
        self._settings = settings
        self._spread = spread  #: least number of batches that many waiting documents are spread over
        self._leases: dict[str, _Watched] = {}
        self._batches: dict[str, _Watched] = {}
        self._started = False

    def sweep(self) -> Swept:
        """Expire dead leases, send lost batches again, fill the queues up to the bound.

        Raises BrokerUnavailable, LedgerUnavailable; a later sweep goes on from there.
        """
        if not self._started:
            self._ledger.flow.free_strays()
            self._started = True
        swept = Swept()
        try:
            self._expire(swept)
        except (LedgerUnavailable, NoSpace):
            # Nobody could show progress: what we had measured is our silence as much as theirs.
            self._leases.clear()
            raise
        self._requeue(swept)
        self._fill(swept)
        return swept

    def _expire(self, swept: Swept) -> None:
        held = self._ledger.flow.leases()
        self._leases = {lease.id: _still(self._leases.get(lease.id), lease.beat) for lease in held}
        now = time.monotonic()
        for lease in held:
            if now - self._leases[lease.id].since < self._settings.lease_s:
                continue
            freed = self._ledger.flow.expire(lease, self._settings.max_starts)
            swept.expired += freed
            what = f"{freed} documents" if lease.of_documents else f"a {lease.stage}"
            log.warning("took back %s from %s: no progress for %.0f s", what, lease.owner, self._settings.lease_s)

    def _requeue(self, swept: Swept) -> None:
        queued = self._ledger.flow.queued()
        self._batches = {batch: _still(self._batches.get(batch), stage) for batch, stage in queued.items()}
        now = time.monotonic()
        old = {batch for batch in queued if now - self._batches[batch].since >= self._settings.requeue_s}
        for stage in {queued[batch] for batch in old}:
            # While messages wait in the queue, ours may be among them. An empty queue means that it was lost, or that a
            # worker has fetched it and not begun; then it is delivered twice, which a claim makes harmless.
            if self._queues.depth(stage) == 0:
                lost = [batch for batch in old if queued[batch] is stage]
                swept.requeued += self._ledger.flow.unqueue(lost)
                log.info("%d messages are neither in the %s queue nor begun; they are sent again", len(lost), stage)

    def _fill(self, swept: Swept) -> None:
        settings = self._settings
        # Parsed documents are in flight already: they only need a message.
        for stage in (Stage.EMBED, Stage.PARSE):
            room = settings.max_in_flight - (self._ledger.flow.in_flight() if stage is Stage.PARSE else 0)
            if room <= 0:
                continue
            batches = self._ledger.flow.take(
                stage, documents_max=room, batch_documents=settings.batch_documents, batch_bytes=settings.batch_bytes,
                spread=self._spread,
            )  # fmt: skip
            for number, batch in enumerate(batches):
                try:
                    self._queues.send(batch)
                except BrokerUnavailable:
                    self._ledger.flow.unqueue([late.id for late in batches[number:]])
                    raise
                swept.sent += len(batch.document_ids)


def _still(before: _Watched | None, mark: object) -> _Watched:
    return before if before is not None and before.mark == mark else _Watched(mark, time.monotonic())


class DispatchThread:
    """Sweeps in the background of a process that has something else to do."""

    def __init__(self, dispatcher: Dispatcher, every_s: float, on_sweep: Callable[[], None] = lambda: None) -> None:
        self._dispatcher = dispatcher
        self._every_s = every_s
        self._on_sweep = on_sweep  #: called after each sweep that went well
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatch", daemon=True)
        self.error: KbError | None = None  #: why the last sweep failed; None while all is well

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
