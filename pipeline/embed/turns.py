"""Turns of plans at the load's own model calls: measures them, settles on the fastest, and notices when that has changed."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from pipeline.embed.plan import ComputePlan, Plans
from pipeline.embed.question import Question, Round
from pipeline.text import plural

log = logging.getLogger(__name__)

#: Seconds of counted calls before the first other plan is tried: a load that ends sooner would gain nothing.
FIRST_S = 4.0

#: Seconds of counted calls of a turn, about the time of a window of chunks.
TURN_S = 1.0

#: Turns whose median is compared with the remembered rate, and the factor, up or down, that opens the question again.
WATCHED, CHANGED = 60, 1.4


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier loads found out about the plans for a machine and a model."""

    settled: ComputePlan | None = None
    work_per_s: float = 0.0  #: of the settled plan
    texts_per_s: float = 0.0  #: of the settled plan
    rounds: tuple[Round, ...] = ()  #: of a question that is still open


class Turns:
    """Admits model calls under the plan whose turn it is; safe to use from several threads.

    A call counts if all streams of its plan were busy when it began and when it ended: the rate of a stream times their number
    is then the rate of the plan. Calls of two plans never run at the same time.
    """

    def __init__(
        self,
        plans: Plans,
        known: Known | None = None,
        remember: Callable[[Known], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begin with the settled plan or the first one. Without `remember`, nothing is tried, and the plan stays."""
        self._clock = clock
        self._remember = remember
        self._question = Question(plans, known.rounds if known else ())
        self._known = known or Known()
        self._plan = self._known.settled or self._question.left[0]  #: whose turn it is
        self._running = self._plan  #: of the calls in progress
        self._busy = 0
        self._changed = threading.Condition()
        self._order: list[ComputePlan] = []  #: turns left in this round
        self._round: dict[str, float] = {}
        self._rates: deque[float] = deque(maxlen=WATCHED)  #: of the turns of the settled plan
        self._work = self._texts = self._seconds = 0.0  #: counted in this turn
        self._skip = 0  #: first calls of a turn, which pay for set-up and follow an idle device
        self._turn_s = TURN_S if self._known.settled else FIRST_S
        self.streams = max(plan.streams for plan in (*plans, self._plan))

    @property
    def plan(self) -> ComputePlan:
        """The plan of the next call."""
        return self._plan

    @contextmanager
    def call(self, work: float, texts: int) -> Iterator[ComputePlan]:
        """Wait for a stream; yields the plan under which the call is to compute. `work`: in tokens, or any other measure."""
        with self._changed:
            while self._busy and (self._running != self._plan or self._busy >= self._plan.streams):
                self._changed.wait()
            plan = self._running = self._plan
            self._busy += 1
            full = self._busy == plan.streams
        began = self._clock()
        ended = False
        try:
            yield plan
            ended = True
        finally:
            seconds = self._clock() - began
            with self._changed:
                full = full and self._busy == plan.streams
                self._busy -= 1
                if self._remember is not None and ended and plan == self._plan:
                    self._count(work, texts, seconds, full=full)
                self._changed.notify_all()

    def _count(self, work: float, texts: int, seconds: float, *, full: bool) -> None:
        if self._skip:
            self._skip -= 1
            return
        if not full:
            return
        self._work += work
        self._texts += texts
        self._seconds += seconds / self._plan.streams
        if self._seconds >= self._turn_s:
            self._end_turn(self._work / self._seconds, self._texts / self._seconds)

    def _end_turn(self, rate: float, texts_per_s: float) -> None:
        self._work = self._texts = self._seconds = 0.0
        self._turn_s = TURN_S
        if self._known.settled is not None:
            self._watch(rate)
        elif self._order:  # otherwise it was the turn before the first round
            self._round[self._order.pop(0).name] = rate
            if not self._order:
                self._end_round(texts_per_s / rate)
        if self._known.settled is None:
            if not self._order:  # in both directions: work that grows or shrinks steadily favours no plan
                left = self._question.left
                self._order, self._round = list(left if len(self._question.rounds) % 2 == 0 else reversed(left)), {}
            self._take(self._order[0])

    def _end_round(self, texts_per_work: float) -> None:
        self._question.rounds.append(self._round)
        answer = self._question.answer
        if answer is None:
            self._learn(Known(rounds=tuple(self._question.rounds)))
            return
        rate = self._question.rate(answer)
        log.info("%s of %s: %.0f tokens/s", plural(answer.streams, "stream"), plural(answer.threads, "thread"), rate)
        self._learn(Known(answer, rate, rate * texts_per_work))
        self._take(answer)

    def _watch(self, rate: float) -> None:
        """Open the question again where the rate has been different from the remembered one for long."""
        self._rates.append(rate)
        if len(self._rates) < WATCHED:
            return
        now, before = median(self._rates), self._known.work_per_s
        if not before / CHANGED <= now <= before * CHANGED:
            log.info("%.0f instead of %.0f tokens/s: comparing the ways of embedding again", now, before)
            self._rates.clear()
            self._question = Question(self._question.plans)
            self._learn(Known())

    def _take(self, plan: ComputePlan) -> None:
        self._skip = plan.streams if plan != self._plan else 0
        self._plan = plan

    def _learn(self, known: Known) -> None:
        self._known = known
        if self._remember is not None:
            self._remember(known)
