"""A look at work in progress: counts, rates, queues, workers, and what they come to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import BrokerUnavailable
from pipeline.ledger import Ledger
from pipeline.ledger.life import Pulse, Rates
from pipeline.ledger.registry import WorkerRow
from pipeline.ledger.report import Failure, Progress
from pipeline.settings import Settings
from pipeline.steps.load import LoadCounts
from pipeline.types import Stage
from workers.broker.app import make_app
from workers.broker.queues import Broker
from workers.monitoring.diagnosis import Diagnosis, Situation, diagnose

#: Seconds between two looks.
WAIT_EVERY_S = 0.25

#: A look at a run of a million documents takes a while; this many times as long passes until the next.
LOOK_PAUSE = 10

#: Longest pause between two looks, and between two questions to a broker that does not answer.
PAUSE_MAX_S, BROKER_PAUSE_S = 5.0, 15.0

#: Failures that a display has room for.
SHOWN_FAILURES = 5

#: Seconds over which rates are averaged.
RATE_WINDOW_S = 30.0


@dataclass(frozen=True, slots=True)
class Moment:
    """Work as it stands, for displays."""

    progress: Progress
    failures: list[Failure]  #: the latest
    workers: list[WorkerRow]
    queues: dict[Stage, int | None]  #: messages that nobody has fetched; None: the broker does not answer
    rates: Rates
    diagnosis: Diagnosis
    trouble: str = ""  #: what keeps some of it from going on, in words; empty while all is well
    counts: LoadCounts | None = None  #: what was found, where something is being loaded
    staging: bool = False  #: files are still being discovered

    @property
    def left_s(self) -> float | None:
        """Seconds until everything is done, by the tokens that are left; None where that is not known yet."""
        if self.staging or self.progress.left_tokens is None or not self.rates.tokens_per_s:
            return None
        return self.progress.left_tokens / self.rates.tokens_per_s

    @property
    def parse_left_s(self) -> float | None:
        """Seconds until everything is parsed, by the bytes that are left; None where nothing is left, or that is not known yet."""
        if self.staging or not self.progress.unparsed_bytes or not self.rates.parsed_bytes_per_s:
            return None
        return self.progress.unparsed_bytes / self.rates.parsed_bytes_per_s


class Lookout:
    """Looks at a run, a collection or everything, and says how long to wait until the next look is worth its cost."""

    def __init__(
        self, settings: Settings, ledger: Ledger, run: int | None = None, collection: str | None = None, *, begins: bool = False
    ) -> None:  # fmt: skip
        self._begins = begins  #: work begins with it: what stood still before is no silence
        self._settings = settings
        self._ledger = ledger
        self._run = run
        self._collection = collection
        self._broker = Broker(make_app(settings))
        self._ask_broker_at = 0.0  #: monotonic; earlier it would only cost time
        self._pulse: Pulse | None = None  #: of the last look
        self._moved_at = 0.0  #: monotonic, when it was first seen as it is
        self.next = 0.0  #: when to look again, monotonic
        self.pause_s = WAIT_EVERY_S  #: until then, after a look

    def look(
        self, counts: LoadCounts | None = None, *, staging: bool = False, trouble: str = "", own_workers: bool = False,
        failures: int = SHOWN_FAILURES, progress: Progress | None = None,
    ) -> Moment:  # fmt: skip
        """How things stand; `trouble` is what the asking process knows, `own_workers` that it has started some itself.

        `progress` is what it knows better than the ledger.
        """
        queues, began, ledger = self._depths(), time.monotonic(), self._ledger
        progress = progress or ledger.report.progress(self._run, self._collection)
        workers = ledger.registry.workers()
        situation = Situation(
            progress.states, queues, workers, ledger.flow.leases(), ledger.flow.unqueued(), ledger.flow.in_flight(),
            self._settings.max_in_flight, self._quiet_s(ledger.life.pulse()), own_workers, trouble,
        )  # fmt: skip
        moment = Moment(
            progress, ledger.report.failures(self._run, self._collection, limit=failures), workers, queues,
            ledger.life.rates(RATE_WINDOW_S, self._run), diagnose(situation), trouble or _complaint(workers), counts, staging,
        )  # fmt: skip
        self.pause_s = min(PAUSE_MAX_S, max(WAIT_EVERY_S, LOOK_PAUSE * (time.monotonic() - began)))
        self.next = time.monotonic() + self.pause_s
        return moment

    def _quiet_s(self, pulse: Pulse) -> float | None:
        """Seconds since something moved: the first time by the clocks of those who moved it, from then on by our own."""
        now = time.monotonic()
        if self._pulse is None:
            self._moved_at = now if self._begins else now - (pulse.quiet_s or 0.0)
        elif pulse.moved_since(self._pulse):
            self._moved_at = now
        self._pulse = pulse
        return None if pulse.quiet_s is None else now - self._moved_at

    def _depths(self) -> dict[Stage, int | None]:
        """Messages by queue; a broker that does not answer is left alone for a while, as each question takes seconds."""
        depths: dict[Stage, int | None] = dict.fromkeys(Stage)
        if time.monotonic() >= self._ask_broker_at:
            try:
                for stage in Stage:
                    depths[stage] = self._broker.depth(stage)
            except BrokerUnavailable:
                self._ask_broker_at = time.monotonic() + BROKER_PAUSE_S
        return depths


def _complaint(workers: Sequence[WorkerRow]) -> str:
    """What the first worker that complains says."""
    return next((worker.complaint for worker in workers if worker.complaint), "")
