"""Folds a run's events into figures one by one: memory grows only with the failures, not with the documents."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from pipeline.ledger.retrospect import Step
from pipeline.types import DocumentState, Stage

#: Maximum number and minimum length of throughput bins: chunks that are embedded together finish together after some seconds.
MAX_BINS, MIN_BIN_S = 60, 5.0

#: Documents of a ranking.
TOP = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Documents that became searchable in a part of the run."""

    start_s: float  #: since the start of the run
    seconds: float
    documents: int
    chunks: int  #: embedded chunks; a document's chunks count once the whole document is searchable
    bytes: int  #: size of the documents


@dataclass(frozen=True, slots=True)
class StageTime:
    """Documents' time in a stage; sums over documents, many of which wait or are processed at once."""

    stage: str
    documents: int  #: documents that a worker took
    waited_s: float  #: until a worker took them
    longest_wait_s: float  #: longest wait of one document
    work_s: float  #: workers' time for documents that became searchable
    beside_s: float  #: held by a worker that processed others of the same batch, or failed


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document that became searchable."""

    document: str  #: id
    bytes: int
    chunks: int
    parse_s: float
    embed_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A document that did not become searchable."""

    document: str  #: id
    reason: str
    detail: str


class Top:
    """The documents with the greatest keys; of equal ones, those that came first."""

    def __init__(self, size: int, key: Callable[[Ranked], float]) -> None:
        self._size = size
        self._key = key
        self._heap: list[tuple[float, int, Ranked]] = []
        self._seen = 0

    def add(self, one: Ranked) -> None:
        """Keep it if its key is great enough."""
        self._seen += 1
        entry = (self._key(one), -self._seen, one)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def items(self) -> list[Ranked]:
        """The documents, greatest first."""
        return [one for _, _, one in sorted(self._heap, reverse=True)]


@dataclass(slots=True)
class _Spent:
    """Time spent in a stage so far."""

    taken: int = 0  #: documents
    waited: float = 0.0
    longest: float = 0.0
    held: float = 0.0  #: by workers
    worked: float = 0.0


#: Final states: a document leaves them only on request.
_ENDS = (DocumentState.INDEXED, DocumentState.QUARANTINED, DocumentState.SKIPPED, DocumentState.DELETED)

#: The stage of a state, and whether a worker holds the document in it.
_PARTS = {stage.waiting.value: (stage, False) for stage in Stage} | {stage.running.value: (stage, True) for stage in Stage}


class Fold:
    """Figures of a run: `add` its events document by document, then `close`, then read."""

    def __init__(self, started_at: float, seconds: float, most_named: int, ended_at: float = float("inf")) -> None:
        self._started_at = started_at
        self._ended_at = ended_at
        self._most_named = most_named
        count = max(1, min(MAX_BINS, int(seconds / MIN_BIN_S)))
        self._bin_s = seconds / count
        self._bins = [[0, 0, 0] for _ in range(count)]
        self._steps: list[Step] = []  #: of the current document
        self._spent = {stage: _Spent() for stage in Stage}
        self.documents = 0
        self.indexed = 0
        self.bare = 0  #: documents of whose way to their end no event is left
        self.tokens = 0
        self.bytes = 0
        self.largest = Top(TOP, lambda one: one.bytes)
        self.longest = Top(TOP, lambda one: one.chunks)
        self.slowest = Top(TOP, lambda one: one.parse_s + one.embed_s)
        self.refused: set[str] = set()  #: ids of documents that ended as quarantined or skipped
        self.named: dict[str, list[Failed]] = {DocumentState.QUARANTINED: [], DocumentState.SKIPPED: []}
        self.counts: dict[str, dict[str, int]] = {DocumentState.QUARANTINED: {}, DocumentState.SKIPPED: {}}  #: by reason

    def add(self, step: Step) -> None:
        """Add an event."""
        if self._steps and self._steps[0].document != step.document:
            self._end()
        self._steps.append(step)

    def close(self) -> None:
        """Finish after the last event."""
        if self._steps:
            self._end()

    def bins(self) -> tuple[Bin, ...]:
        """Documents that became searchable, by time."""
        width = self._bin_s
        return tuple(Bin(round(number * width, 3), round(width, 3), *counts) for number, counts in enumerate(self._bins))

    def stages(self) -> tuple[StageTime, ...]:
        """Time spent, by stage."""
        return tuple(
            StageTime(
                stage=stage.value,
                documents=s.taken,
                waited_s=round(s.waited, 3),
                longest_wait_s=round(s.longest, 3),
                work_s=round(s.worked, 3),
                beside_s=round(max(0.0, s.held - s.worked), 3),
            )
            for stage, s in self._spent.items()
        )

    def _end(self) -> None:
        steps, self._steps = self._of_run(self._steps), []
        self.documents += 1
        self._time(steps)
        last = steps[-1]
        # A document may be compared again after it was indexed: it counts once, with its last result.
        done = next((step for step in reversed(steps) if step.state == DocumentState.INDEXED), None)
        if last.state in self.counts:
            self._refuse(last)
        elif done is not None:
            # An adopted document has the parser's time of the run that parsed it. Once its steps are forgotten, nobody knows.
            parsed = len(steps) == 1 or any(step.state == DocumentState.PARSING for step in steps)
            self.bare += len(steps) == 1
            self._index(done, done.parse_s if parsed else 0.0, sum(step.embed_s for step in steps))

    def _of_run(self, steps: list[Step]) -> list[Step]:
        """The steps without those that restarted a finished document after the run, which still have the run's number.

        Other steps are not cut by time: the run waited for them, and the workers' clocks differ from the clock of its end.
        """
        for number, (before, step) in enumerate(pairwise(steps), 1):
            if before.state in _ENDS and step.at > self._ended_at:
                return steps[:number]
        return steps

    def _time(self, steps: list[Step]) -> None:
        waits = dict.fromkeys(Stage, 0.0)
        taken = set()
        for step, after in pairwise(steps):
            stage, held = _PARTS.get(step.state, (None, False))
            if stage is None:
                continue
            spent = max(0.0, after.at - step.at)
            if held:
                self._spent[stage].held += spent
                taken.add(stage)
            else:
                waits[stage] += spent
        for stage, waited in waits.items():
            of_stage = self._spent[stage]
            of_stage.taken += stage in taken
            of_stage.waited += waited
            of_stage.longest = max(of_stage.longest, waited)

    def _index(self, done: Step, parse_s: float, embed_s: float) -> None:
        self.indexed += 1
        self.tokens += done.tokens
        self.bytes += done.size
        self._spent[Stage.PARSE].worked += parse_s
        self._spent[Stage.EMBED].worked += embed_s
        ranked = Ranked(document=done.document, bytes=done.size, chunks=done.chunks, parse_s=parse_s, embed_s=embed_s)
        for top in (self.largest, self.longest, self.slowest):
            top.add(ranked)
        place = int((done.at - self._started_at) / self._bin_s) if self._bin_s else 0
        counts = self._bins[max(0, min(len(self._bins) - 1, place))]
        for number, value in enumerate((1, done.embedded, done.size)):
            counts[number] += value

    def _refuse(self, last: Step) -> None:
        self.refused.add(last.document)
        reasons = self.counts[last.state]
        reasons[last.reason] = reasons.get(last.reason, 0) + 1
        if reasons[last.reason] <= self._most_named:
            self.named[last.state].append(Failed(last.document, last.reason, last.detail))
