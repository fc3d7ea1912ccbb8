"""Snapshots of work in progress: counts, rates, queues, workers, and the diagnosis."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import BrokerUnavailable
from pipeline.ledger import Ledger
from pipeline.ledger.life import Pulse, Rates
from pipeline.ledger.registry import WorkerRow
from pipeline.ledger.report import Progress, QuarantinedDocument
from pipeline.settings import Settings
from pipeline.steps.load import LoadCounts
from pipeline.types import Stage
from workers.broker.app import make_app
from workers.broker.dispatch import in_flight_of, unqueued
from workers.broker.queues import Broker
from workers.monitoring.diagnosis import Diagnosis, Situation, diagnose

#: Min seconds between two snapshots.
WAIT_EVERY_S = 0.5

#: The pause until the next snapshot is this many times as long as taking one, which is slow for a million documents.
LOOK_PAUSE = 10

#: Max seconds between two snapshots, and seconds between two requests to a broker that does not answer.
PAUSE_MAX_S, BROKER_PAUSE_S = 5.0, 15.0

#: Max failures that a display shows.
SHOWN_FAILURES = 5

#: Seconds over which rates are averaged.
RATE_WINDOW_S = 30.0


@dataclass(frozen=True, slots=True)
class Moment:
    """A snapshot of the work, for displays."""

    progress: Progress
    failures: list[QuarantinedDocument]  #: the latest
    workers: list[WorkerRow]
    queues: dict[Stage, int | None]  #: messages that no worker has fetched; None: the broker does not answer
    rates: Rates
    diagnosis: Diagnosis
    trouble: str = ""  #: human-readable reason why some of the work does not progress; empty if there is none
    counts: LoadCounts | None = None  #: files found so far, during a load
    staging: bool = False  #: files are still being discovered

    @property
    def left_s(self) -> float | None:
        """Estimated seconds until everything is done, from the remaining tokens; None if not known yet."""
        if self.staging or self.progress.left_tokens is None or not self.rates.tokens_per_s:
            return None
        return self.progress.left_tokens / self.rates.tokens_per_s

    @property
    def parse_left_s(self) -> float | None:
        """Estimated seconds until everything is parsed, from the remaining bytes; None if none remain, or not known yet."""
        if self.staging or not self.progress.unparsed_bytes or not self.rates.parsed_bytes_per_s:
            return None
        return self.progress.unparsed_bytes / self.rates.parsed_bytes_per_s


class Lookout:
    """Takes snapshots of a run, a collection or everything, and tells how long to pause so that they cost little."""

    def __init__(
        self, settings: Settings, ledger: Ledger, run: int | None = None, collection: str | None = None, *, begins: bool = False
    ) -> None:  # fmt: skip
        self._begins = begins  #: work begins now, so earlier time without progress does not count
        self._settings = settings
        self._ledger = ledger
        self._run = run
        self._collection = collection
        self._broker = Broker(make_app(settings))
        self._ask_broker_at = 0.0  #: monotonic; asking earlier would only cost time
        self._pulse: Pulse | None = None  #: of the last snapshot
        self._moved_at = 0.0  #: monotonic, when this pulse was first seen
        self.next = 0.0  #: when to take the next snapshot, monotonic
        self.pause_s = WAIT_EVERY_S  #: seconds from a snapshot until then

    def look(
        self, counts: LoadCounts | None = None, *, staging: bool = False, trouble: str = "", own_workers: bool = False,
        failures: int = SHOWN_FAILURES, progress: Progress | None = None,
    ) -> Moment:  # fmt: skip
        """Take a snapshot. `trouble` is a problem of the calling process; `own_workers` says that it has started workers itself.

        `progress` overrides the ledger's.
        """
        queues, began, ledger = self._depths(), time.monotonic(), self._ledger
        run, collection, kept = self._run, self._collection, self._ledger.kept
        # Most looks come before the next commit. What depends on the time is read again all the same: workers and rates.
        progress = progress or kept.get(("progress", run, collection), lambda: ledger.report.progress(run, collection))
        workers = ledger.registry.workers()
        situation = Situation(
            states=progress.states,
            queues=queues,
            workers=workers,
            leases=kept.get("leases", ledger.flow.leases),
            unqueued=unqueued(ledger, Stage.PARSE),
            parsed_unqueued=unqueued(ledger, Stage.EMBED),
            in_flight=in_flight_of(ledger, self._settings.max_in_flight),
            max_in_flight=self._settings.max_in_flight,
            quiet_s=self._quiet_s(kept.get("pulse", ledger.life.pulse)),
            own_workers=own_workers,
            trouble=trouble,
        )
        moment = Moment(
            progress=progress,
            failures=kept.get(
                ("failures", run, collection, failures), lambda: ledger.report.failures(run, collection, limit=failures)
            ),
            workers=workers,
            queues=queues,
            rates=ledger.life.rates(RATE_WINDOW_S, self._run),
            diagnosis=diagnose(situation),
            trouble=trouble or _complaint(workers),
            counts=counts,
            staging=staging,
        )
        self.pause_s = min(PAUSE_MAX_S, max(WAIT_EVERY_S, LOOK_PAUSE * (time.monotonic() - began)))
        self.next = time.monotonic() + self.pause_s
        return moment

    def _quiet_s(self, pulse: Pulse) -> float | None:
        """Seconds since the last progress: for the first snapshot by the workers' clocks, then by our own."""
        now = time.monotonic()
        if self._pulse is None:
            self._moved_at = now if self._begins else now - (pulse.quiet_s or 0.0)
        elif pulse.moved_since(self._pulse):
            self._moved_at = now
        self._pulse = pulse
        return None if pulse.quiet_s is None else now - self._moved_at

    def _depths(self) -> dict[Stage, int | None]:
        """Messages by queue. After a failure the broker is not asked for BROKER_PAUSE_S, as each failed request takes seconds."""
        depths: dict[Stage, int | None] = dict.fromkeys(Stage)
        if time.monotonic() >= self._ask_broker_at:
            try:
                for stage in Stage:
                    depths[stage] = self._broker.depth(stage)
            except BrokerUnavailable:
                self._ask_broker_at = time.monotonic() + BROKER_PAUSE_S
        return depths


def _complaint(workers: Sequence[WorkerRow]) -> str:
    """The complaint of the first worker that has one."""
    return next((worker.complaint for worker in workers if worker.complaint), "")
