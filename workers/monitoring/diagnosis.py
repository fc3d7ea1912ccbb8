"""Whether work goes on, and why not: starved, stalled and paused by backpressure are told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.ledger.flow import Lease
from pipeline.ledger.registry import WorkerRow
from pipeline.types import DocumentState, Stage

#: Nothing has moved for so long. A worker shows progress every 5 s or so, as long as calls of its model or of a server end.
QUIET_S = 30.0

#: The same where those who should work say what keeps them from it.
QUIET_WITH_REASON_S = 15.0

#: A model that takes longer to load has a reason of its own; it may be downloaded first.
STARTING_S = 600.0

#: Share of KB_MAX_IN_FLIGHT from which the bound is what holds documents back: between two sweeps some of them end.
FULL = 0.5


class Verdict(StrEnum):
    """How work stands."""

    IDLE = "idle"  # no document has work ahead of it
    STARTING = "starting"  # workers are there and load their model
    WORKING = "working"  # something moved a moment ago
    PAUSED = "paused"  # it goes on, and as many documents are in flight as may be: the others wait their turn
    STARVED = "starved"  # documents wait for a stage that no worker serves
    STALLED = "stalled"  # nothing moves, although somebody should


#: Verdicts that ask for a person.
STUCK = (Verdict.STARVED, Verdict.STALLED)


@dataclass(frozen=True, slots=True)
class Situation:
    """What a diagnosis is made from."""

    states: Mapping[str, int]  #: documents by state; of a run, or of everything
    queues: Mapping[Stage, int | None]  #: messages that nobody has fetched; None: the broker does not answer
    workers: Sequence[WorkerRow]
    leases: Sequence[Lease]
    unqueued: int  #: documents that wait and are in no message
    in_flight: int
    max_in_flight: int
    quiet_s: float | None  #: seconds since something moved; None: nothing ever did
    own_workers: bool = False  #: whoever asks has just started workers, which may not have said so yet
    trouble: str = ""  #: what the asking process itself could not do; workers' own words are in their rows

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
        """Whether as many documents are in flight as may be, so that the others wait their turn."""
        return bool(self.unqueued) and self.in_flight >= FULL * self.max_in_flight

    def to_do(self) -> list[Stage]:
        """Stages whose workers have something to do: not those whose documents all wait their turn."""
        turns = {Stage.PARSE: self.unqueued if self.full else 0, Stage.EMBED: 0}
        return [stage for stage in Stage if self.at(stage) > turns[stage]]

    @property
    def idle_hands_s(self) -> float:
        """Seconds for which nothing has moved although each stage with something to do had a worker that was ready."""
        ready_s = [
            max((worker.up_s for worker in self.serving(stage) if not worker.starting), default=float("inf"))
            for stage in self.to_do()
        ]
        return min([self.quiet_s or 0.0, *ready_s])


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A verdict, and what it rests on."""

    verdict: Verdict
    words: str  #: one line

    @property
    def stuck(self) -> bool:
        """Whether a person has to do something."""
        return self.verdict in STUCK

    def __str__(self) -> str:
        return f"{self.verdict}: {self.words}"


def diagnose(situation: Situation) -> Diagnosis:
    """How work stands, the worst first."""
    open_documents = sum(situation.at(stage) for stage in Stage)
    if not open_documents:
        failed = situation.states.get(DocumentState.QUARANTINED, 0)
        also = f"; {failed} are quarantined, see `kb-ingest quarantine list`" if failed else ""
        return Diagnosis(Verdict.IDLE, f"no document has work ahead of it{also}")
    reason = " ".join(_reason(situation).split())  # errors of libraries may have several lines
    quiet_s = situation.quiet_s or 0.0
    # Without their broker workers give no signs of life: it is what must be mended, and no worker need be started.
    unserved = [stage for stage in Stage if situation.waiting(stage) and not situation.serving(stage)]
    if unserved and not situation.own_workers and None not in situation.queues.values():
        return Diagnosis(Verdict.STARVED, _starved(situation, unserved))
    starting = all(_starts(situation, stage) for stage in situation.to_do() or Stage)
    if situation.idle_hands_s >= (QUIET_WITH_REASON_S if reason else QUIET_S) and not starting:
        return Diagnosis(Verdict.STALLED, f"nothing has moved for {quiet_s:.0f} s: {reason or _cause(situation)}")
    if starting:
        return Diagnosis(Verdict.STARTING, f"{open_documents} documents wait until the workers are ready")
    if situation.full:
        return Diagnosis(Verdict.PAUSED, _paused(situation))
    ago = f", the last step {quiet_s:.0f} s ago" if quiet_s >= 1 else ""
    return Diagnosis(Verdict.WORKING, f"{open_documents} documents have work ahead of them{ago}")


def _starved(situation: Situation, stages: Sequence[Stage]) -> str:
    waiting = " and ".join(f"{situation.waiting(stage)} documents wait for the stage {stage}" for stage in stages)
    which = "".join(f" --stage {stage}" for stage in stages) if len(stages) < len(Stage) else ""
    return f"{waiting}, and no worker serves it; start one with `kb-ingest worker{which}` or `kb-ingest up`"


def _starts(situation: Situation, stage: Stage) -> bool:
    """Whether a stage has workers and none of them is ready yet; with own workers, also before they are known."""
    serving = situation.serving(stage)
    return all(worker.starting and worker.up_s < STARTING_S for worker in serving) and (bool(serving) or situation.own_workers)


def _reason(situation: Situation) -> str:
    """What keeps work from going on, as those say who know; nothing where somebody can work."""
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
    """The likely cause of a silence that nobody explains."""
    if situation.unqueued and not situation.full:
        return f"{situation.unqueued} documents are in no queue, as no `kb-ingest up`, `scheduler` or waiting `load` fills them"
    held = [lease for lease in situation.leases if lease.of_documents]
    if held:
        names = ", ".join(sorted({lease.owner for lease in held})[:3])
        loads = any(worker.starting and lease.owner.startswith(f"{worker.name}/") for worker in situation.workers for lease in held)
        why = ", as it loads a model" if loads else ""
        return f"{names} holds documents and shows no progress{why}; they are taken back after KB_LEASE_S"
    if any(worker.starting for worker in situation.workers):
        return "a worker loads its model, and takes very long"
    for stage, depth in situation.queues.items():
        if depth:
            return f"{depth} messages wait in the queue {stage}, and its workers fetch none; look at their logs"
    return "the documents' messages are lost, or were fetched and not begun; they are sent again after KB_REQUEUE_S"


def _paused(situation: Situation) -> str:
    behind = {stage: situation.at(stage) for stage in Stage}
    behind[Stage.PARSE] -= situation.unqueued
    narrow = max(behind, key=lambda stage: behind[stage])
    return (
        f"by backpressure: {situation.in_flight} documents are in flight (KB_MAX_IN_FLIGHT {situation.max_in_flight}), "
        f"{situation.unqueued} wait their turn; the stage {narrow} sets the pace"
    )
