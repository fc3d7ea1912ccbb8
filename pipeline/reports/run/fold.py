"""A run's events, folded into figures one by one: memory grows with the failures only, not with the documents."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from pipeline.ledger.retrospect import Step
from pipeline.types import DocumentState, Stage

#: Bins of the throughput are so many at most, and no shorter: what is embedded together, for some seconds, ends together.
MOST_BINS, LEAST_BIN_S = 60, 5.0

#: Documents of a ranking.
TOP = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """What became searchable in a part of the run."""

    start_s: float  #: since the start of the run
    seconds: float
    documents: int
    chunks: int  #: that were embedded; those of a document count when the whole of it is searchable
    bytes: int  #: of the documents


@dataclass(frozen=True, slots=True)
class StageTime:
    """Where the time of documents went; sums over documents, many of which wait or are worked on at once."""

    stage: str
    documents: int  #: that a worker took
    waited_s: float  #: until a worker took them
    longest_wait_s: float  #: of one document
    work_s: float  #: workers' time for documents that became searchable
    beside_s: float  #: with a worker that worked on others of the same batch, or in vain


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
    """A document that did not."""

    document: str  #: id
    reason: str
    detail: str


class Top:
    """The documents with the greatest of something, and of equals those that came first."""

    def __init__(self, size: int, key: Callable[[Ranked], float]) -> None:
        self._size = size
        self._key = key
        self._heap: list[tuple[float, int, Ranked]] = []
        self._seen = 0

    def add(self, one: Ranked) -> None:
        """Take it in if it is great enough."""
        self._seen += 1
        entry = (self._key(one), -self._seen, one)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def items(self) -> list[Ranked]:
        """The greatest first."""
        return [one for _, _, one in sorted(self._heap, reverse=True)]


@dataclass(slots=True)
class _Spent:
    """Time in a stage, so far."""

    taken: int = 0  #: documents
    waited: float = 0.0
    longest: float = 0.0
    held: float = 0.0  #: by workers
    worked: float = 0.0


#: States in which nothing more happens to a document by itself.
_ENDS = (DocumentState.INDEXED, DocumentState.QUARANTINED, DocumentState.SKIPPED, DocumentState.DELETED)

#: The stage that a state is a part of, and whether a worker holds the document in it.
_PARTS = {stage.waiting.value: (stage, False) for stage in Stage} | {stage.running.value: (stage, True) for stage in Stage}


class Fold:
    """Add the events of a run document by document, then `close`, then read."""

    def __init__(self, started_at: float, seconds: float, most_named: int, ended_at: float = float("inf")) -> None:
        self._started_at = started_at
        self._ended_at = ended_at
        self._most_named = most_named
        count = max(1, min(MOST_BINS, int(seconds / LEAST_BIN_S)))
        self._bin_s = seconds / count
        self._bins = [[0, 0, 0] for _ in range(count)]
        self._steps: list[Step] = []  #: of the document that is being added
        self._spent = {stage: _Spent() for stage in Stage}
        self.documents = 0
        self.indexed = 0
        self.tokens = 0
        self.bytes = 0
        self.largest = Top(TOP, lambda one: one.bytes)
        self.longest = Top(TOP, lambda one: one.chunks)
        self.slowest = Top(TOP, lambda one: one.parse_s + one.embed_s)
        self.refused: set[str] = set()  #: ids of those that ended quarantined or skipped
        self.named: dict[str, list[Failed]] = {DocumentState.QUARANTINED: [], DocumentState.SKIPPED: []}
        self.counts: dict[str, dict[str, int]] = {DocumentState.QUARANTINED: {}, DocumentState.SKIPPED: {}}  #: by reason

    def add(self, step: Step) -> None:
        """Take in an event."""
        if self._steps and self._steps[0].document != step.document:
            self._end()
        self._steps.append(step)

    def close(self) -> None:
        """There are no more events."""
        if self._steps:
            self._end()

    def bins(self) -> tuple[Bin, ...]:
        """What became searchable when."""
        width = self._bin_s
        return tuple(Bin(round(number * width, 3), round(width, 3), *counts) for number, counts in enumerate(self._bins))

    def stages(self) -> tuple[StageTime, ...]:
        """Where the time went."""
        return tuple(
            StageTime(
                stage.value,
                s.taken,
                round(s.waited, 3),
                round(s.longest, 3),
                round(s.worked, 3),
                round(max(0.0, s.held - s.worked), 3),
            )
            for stage, s in self._spent.items()
        )

    def _end(self) -> None:
        steps, self._steps = self._of_run(self._steps), []
        self.documents += 1
        self._time(steps)
        last = steps[-1]
        # Points may be compared again after a document was indexed: it counts once, as it was in the end.
        done = next((step for step in reversed(steps) if step.state == DocumentState.INDEXED), None)
        if last.state in self.counts:
            self._refuse(last)
        elif done is not None:
            # A document that was adopted brings the parser's time of the run that parsed it.
            parsed = any(step.state == DocumentState.PARSING for step in steps)
            self._index(done, done.parse_s if parsed else 0.0, sum(step.embed_s for step in steps))

    def _of_run(self, steps: list[Step]) -> list[Step]:
        """The steps without those by which a document that had ended was begun again after the run, which still has its number.

        Others are not cut by time: the run waited for them, and workers' clocks are not the one that its end was read on.
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
        ranked = Ranked(done.document, done.size, done.chunks, parse_s, embed_s)
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
