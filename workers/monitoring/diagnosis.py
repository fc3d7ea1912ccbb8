"""Whether work progresses, and if not, why: distinguishes starved, stalled and paused by backpressure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.ledger.flow import Lease
from pipeline.ledger.registry import WorkerRow
from pipeline.text import plural
from pipeline.types import DocumentState, Stage

#: Seconds without progress after which work is stalled. A worker shows progress about every 5 s, as long as its calls return.
QUIET_S = 30.0

#: The same, if workers report what keeps them from working.
QUIET_WITH_REASON_S = 15.0

#: Max seconds for loading a model, including its download; a worker that takes longer no longer counts as starting.
STARTING_S = 600.0

#: Min share of KB_MAX_IN_FLIGHT for backpressure: between two sweeps of the dispatcher, some documents finish.
FULL = 0.5


class Verdict(StrEnum):
    """The state of the work."""

    IDLE = "idle"  # nothing left to do
    STARTING = "starting"  # workers are loading their model
    WORKING = "working"  # there was progress a moment ago
    PAUSED = "paused"  # there is progress, and KB_MAX_IN_FLIGHT is reached: the other documents wait their turn
    STARVED = "starved"  # documents wait for a stage that no worker serves
    STALLED = "stalled"  # no progress, although there are workers


#: Verdicts that need attention.
STUCK = (Verdict.STARVED, Verdict.STALLED)


@dataclass(frozen=True, slots=True)
class Situation:
    """The input of a diagnosis."""

    states: Mapping[str, int]  #: documents by state, of a run or of everything
    queues: Mapping[Stage, int | None]  #: messages that no worker has fetched; None: the broker does not answer
    workers: Sequence[WorkerRow]
    leases: Sequence[Lease]
    unqueued: int  #: documents that wait to be parsed and are in no message
    in_flight: int
    max_in_flight: int
    quiet_s: float | None  #: seconds since the last progress; None: there never was any
    parsed_unqueued: int = 0  #: the same of documents that wait to be embedded; workers also take them without a message
    own_workers: bool = False  #: the calling process has just started workers, which may not be registered yet
    trouble: str = ""  #: what the calling process itself could not do; workers report theirs in their rows

    def waiting(self, stage: Stage) -> int:
        """Documents that wait for a stage."""
        return self.states.get(stage.waiting, 0)

    def at(self, stage: Stage) -> int:
        """Documents that wait for a stage or are in it."""
        return self.waiting(stage) + self.states.get(stage.running, 0)

    def serving(self, stage: Stage) -> list[WorkerRow]:
        """Workers of a stage."""
        return [worker for worker in self.workers if worker.role == stage]

    @property
    def full(self) -> bool:
        """Whether KB_MAX_IN_FLIGHT holds documents back, so that the others wait their turn."""
        return bool(self.unqueued) and self.in_flight >= FULL * self.max_in_flight

    def to_do(self) -> list[Stage]:
        """Stages whose workers have something to do, without those whose documents all wait their turn."""
        turns = {Stage.PARSE: self.unqueued if self.full else 0, Stage.EMBED: 0}
        return [stage for stage in Stage if self.at(stage) > turns[stage]]

    @property
    def idle_hands_s(self) -> float:
        """Seconds without progress while each stage with something to do had a ready worker."""
        ready_s = [
            max((worker.up_s for worker in self.serving(stage) if not worker.starting), default=float("inf"))
            for stage in self.to_do()
        ]
        return min([self.quiet_s or 0.0, *ready_s])


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A verdict with its explanation."""

    verdict: Verdict
    words: str  #: one line

    @property
    def stuck(self) -> bool:
        """Whether the work needs attention."""
        return self.verdict in STUCK

    def __str__(self) -> str:
        return f"{self.verdict}: {self.words}"


def diagnose(situation: Situation) -> Diagnosis:
    """Diagnose the state of the work, checking for the worst first."""
    open_documents = sum(situation.at(stage) for stage in Stage)
    if not open_documents:
        failed = situation.states.get(DocumentState.QUARANTINED, 0)
        also = f"; {plural(failed, 'document')} quarantined, see `kb-ingest quarantine list`" if failed else ""
        return Diagnosis(Verdict.IDLE, f"nothing left to do{also}")
    reason = " ".join(_reason(situation).split())  # a library's error may have several lines
    quiet_s = situation.quiet_s or 0.0
    # Without a broker, workers send no heartbeats. The broker must be fixed; starting workers would not help.
    unserved = [stage for stage in Stage if situation.waiting(stage) and not situation.serving(stage)]
    if unserved and not situation.own_workers and None not in situation.queues.values():
        return Diagnosis(Verdict.STARVED, _starved(situation, unserved))
    starting = all(_starts(situation, stage) for stage in situation.to_do() or Stage)
    if situation.idle_hands_s >= (QUIET_WITH_REASON_S if reason else QUIET_S) and not starting:
        return Diagnosis(Verdict.STALLED, f"no progress for {quiet_s:.0f} s: {reason or _cause(situation)}")
    if starting:
        return Diagnosis(Verdict.STARTING, f"{waiting(open_documents, 'document')} until the workers are ready")
    if situation.full:
        return Diagnosis(Verdict.PAUSED, _paused(situation))
    ago = f", last progress {quiet_s:.0f} s ago" if quiet_s >= 1 else ""
    return Diagnosis(Verdict.WORKING, f"{plural(open_documents, 'document')} left to process{ago}")


def waiting(number: int, noun: str) -> str:
    """`1 document waits`, `2 documents wait`."""
    return f"{plural(number, noun)} {'waits' if number == 1 else 'wait'}"


def _starved(situation: Situation, stages: Sequence[Stage]) -> str:
    queued = " and ".join(f"{waiting(situation.waiting(stage), 'document')} for the {stage} stage" for stage in stages)
    served = "it" if len(stages) == 1 else "them"
    which = "".join(f" --stage {stage}" for stage in stages) if len(stages) < len(Stage) else ""
    return f"{queued}, and no worker serves {served}; start one with `kb-ingest worker{which}` or `kb-ingest up`"


def _starts(situation: Situation, stage: Stage) -> bool:
    """Whether a stage has workers, none of which is ready yet; own workers count before they are registered."""
    serving = situation.serving(stage)
    return all(worker.starting and worker.up_s < STARTING_S for worker in serving) and (bool(serving) or situation.own_workers)


def _reason(situation: Situation) -> str:
    """The reported reason why there is no progress; empty if a worker can work."""
    if None in situation.queues.values():
        return "the broker does not answer"
    if situation.trouble:
        return situation.trouble
    for stage in Stage:
        serving = situation.serving(stage) if situation.at(stage) else []
        if serving and all(worker.complaint for worker in serving):
            return f"{serving[0].name}: {serving[0].complaint}"
    return ""


def _cause(situation: Situation) -> str:
    """The likely cause when nothing reports a reason."""
    unqueued = situation.unqueued + situation.parsed_unqueued
    if unqueued and not situation.full:
        return f"{plural(unqueued, 'document')} not queued: no `kb-ingest up`, `scheduler` or waiting `load` is running"
    held = [lease for lease in situation.leases if lease.of_documents]
    if held:
        names = ", ".join(sorted({lease.owner for lease in held})[:3])
        loads = any(worker.starting and lease.owner.startswith(f"{worker.name}/") for worker in situation.workers for lease in held)
        why = ", because it is loading a model" if loads else ""
        return f"{names} holds documents and shows no progress{why}; the documents are taken back after KB_LEASE_S"
    if any(worker.starting for worker in situation.workers):
        return "a worker is taking very long to load its model"
    for stage, depth in situation.queues.items():
        if depth:
            return f"{waiting(depth, 'message')} in the {stage} queue, and its workers fetch none; check their logs"
    return "the documents' messages were lost, or fetched but not started; they are resent after KB_REQUEUE_S"


def _paused(situation: Situation) -> str:
    behind = {stage: situation.at(stage) for stage in Stage}
    behind[Stage.PARSE] -= situation.unqueued
    narrow = max(behind, key=lambda stage: behind[stage])
    return (
        f"by backpressure: {plural(situation.in_flight, 'document')} in flight (KB_MAX_IN_FLIGHT {situation.max_in_flight}), "
        f"{situation.unqueued} waiting their turn; the {narrow} stage is the bottleneck"
    )
