"""Plans compared at a load's own calls: which one is kept, what a disturbance changes, when the question is opened again."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from pipeline.embed.plan import ComputePlan
from pipeline.embed.question import CLOSE, MAX_ROUNDS, MIN_GAIN, MIN_ROUNDS, Question, Round
from pipeline.embed.turns import CHANGED, FIRST_S, TURN_S, WATCHED, Known, Turns

WIDE, MIDDLE, NARROW = PLANS = (ComputePlan(4, 1), ComputePlan(2, 2), ComputePlan(1, 4))

#: Tokens of a simulated call.
WORK = 1000.0


class Machine:
    """A machine on which plans have rates; its time passes only while it computes."""

    def __init__(self, rates: dict[ComputePlan, float]) -> None:
        self.rates = rates
        self.now = 0.0
        self.spent: dict[ComputePlan, float] = dict.fromkeys(rates, 0.0)
        self.disturbance: Callable[[], float] = lambda: 1.0
        self.kept: list[Known] = []

    def turns(self, known: Known | None = None, plans: tuple[ComputePlan, ...] = PLANS) -> Turns:
        return Turns(plans, known, self.kept.append, lambda: self.now)

    def work(self, turns: Turns, seconds: float, streams: int = 99) -> None:
        """Make calls for so long, as many at once as the plan allows, or `streams`."""
        until, calls = self.now + seconds, deque[tuple[ComputePlan, ExitStack]]()
        while self.now < until or calls:
            if self.now < until and (not calls or (calls[0][0] == turns.plan and len(calls) < min(streams, turns.plan.streams))):
                stack = ExitStack()
                calls.append((stack.enter_context(turns.call(WORK, 10)), stack))
                continue
            plan, stack = calls.popleft()
            passed = WORK / self.rates[plan] * self.disturbance()
            self.now += passed
            self.spent[plan] += passed
            stack.close()


def settled(machine: Machine, known: Known | None = None, seconds: float = 100.0) -> ComputePlan | None:
    machine.work(machine.turns(known), seconds)
    return machine.kept[-1].settled


@pytest.mark.parametrize("best", PLANS)
def test_the_fastest_plan_is_kept_whichever_it_is(best: ComputePlan) -> None:
    machine = Machine({plan: 20_000.0 if plan == best else 10_000.0 for plan in PLANS})
    assert settled(machine) == best
    known = machine.kept[-1]
    assert known.work_per_s == pytest.approx(20_000)
    assert known.texts_per_s == pytest.approx(200)
    assert len(machine.kept) == MIN_ROUNDS
    # The others had their turns, and no more.
    for plan in PLANS:
        assert plan == best or machine.spent[plan] < FIRST_S + MIN_ROUNDS * (TURN_S + 2.0)


def test_a_short_load_runs_as_the_machine_suggests() -> None:
    machine = Machine({WIDE: 10_000.0, MIDDLE: 40_000.0, NARROW: 10_000.0})
    machine.work(machine.turns(), FIRST_S)
    assert machine.spent == {WIDE: pytest.approx(FIRST_S, rel=0.2), MIDDLE: 0.0, NARROW: 0.0}
    assert machine.kept == []


def test_short_loads_add_up() -> None:
    machine, known, loads = Machine({WIDE: 10_000.0, MIDDLE: 20_000.0, NARROW: 10_000.0}), None, 0
    while not (known and known.settled):
        machine.work(machine.turns(known), FIRST_S + 3 * (TURN_S + 1.0))
        known, loads = machine.kept[-1], loads + 1
    assert (known.settled, loads) == (MIDDLE, MIN_ROUNDS)


def test_what_is_settled_is_not_tried_again() -> None:
    machine = Machine({WIDE: 10_000.0, MIDDLE: 20_000.0, NARROW: 10_000.0})
    machine.work(machine.turns(Known(WIDE, 10_000.0, 100.0)), 3 * WATCHED * TURN_S)
    assert machine.spent[MIDDLE] == machine.spent[NARROW] == 0.0
    assert machine.kept == []


def test_of_twenty_starts_on_a_disturbed_machine_none_is_slow() -> None:
    """Other work takes up to half of the machine, for seconds at a time."""
    rates = {WIDE: 100.0, MIDDLE: 97.0, NARROW: 70.0}
    for seed in range(20):
        chance = random.Random(seed)
        machine = Machine({plan: 100 * rate for plan, rate in rates.items()})
        phase = [0.0, 1.0]

        def disturbance(machine: Machine = machine, phase: list[float] = phase, chance: random.Random = chance) -> float:
            if machine.now > phase[0]:
                phase[:] = machine.now + chance.uniform(0.2, 6.0), chance.choice((1.0, 1.0, 1.3, 2.0))
            return phase[1]

        machine.disturbance = disturbance
        kept = settled(machine)
        assert kept is not None
        assert rates[kept] >= 90.0, seed


@pytest.mark.parametrize("factor", [1.5, 0.6])
def test_a_lasting_change_of_the_rate_opens_the_question_again(factor: float) -> None:
    assert not 1 / CHANGED < factor < CHANGED
    machine = Machine({WIDE: 10_000.0 * factor, MIDDLE: 5_000.0, NARROW: 20_000.0})
    machine.work(machine.turns(Known(WIDE, 10_000.0, 100.0)), WATCHED * TURN_S / 2)
    assert machine.kept == []
    assert settled(machine, Known(WIDE, 10_000.0, 100.0), 2 * WATCHED * TURN_S) == NARROW
    assert machine.kept[0] == Known()


def test_a_rate_is_found_out_where_there_is_one_plan() -> None:
    machine = Machine({NARROW: 10_000.0})
    machine.work(machine.turns(plans=(NARROW,)), FIRST_S + 3 * TURN_S)
    (known,) = machine.kept
    assert known.settled == NARROW
    assert known.work_per_s == pytest.approx(10_000)
    assert known.texts_per_s == pytest.approx(100)


def test_calls_that_leave_streams_idle_prove_nothing() -> None:
    machine = Machine(dict.fromkeys(PLANS, 10_000.0))
    turns = machine.turns()
    machine.work(turns, 10 * FIRST_S, streams=WIDE.streams - 1)
    assert (turns.plan, machine.kept) == (WIDE, [])


def test_without_a_memory_nothing_is_tried() -> None:
    machine = Machine(dict.fromkeys(PLANS, 10_000.0))
    turns = Turns(PLANS, None, None, lambda: machine.now)
    machine.work(turns, 20 * FIRST_S)
    assert machine.spent[MIDDLE] == machine.spent[NARROW] == 0.0


def test_a_call_that_fails_does_not_count_and_frees_its_stream() -> None:
    turns = Machine({NARROW: 1.0}).turns(plans=(NARROW,))
    for _ in range(3):
        with pytest.raises(ValueError, match="no"), turns.call(1.0, 1):
            raise ValueError("no")
    with turns.call(1.0, 1) as plan:
        assert plan == NARROW


def test_calls_of_two_plans_never_run_together() -> None:
    running: list[ComputePlan] = []
    lock, mixed, most = threading.Lock(), threading.Event(), 0
    times = iter(range(10**6))
    turns = Turns(PLANS, None, lambda known: None, lambda: float(next(times)))  # every call is a turn

    def call(_: int) -> None:
        nonlocal most
        with turns.call(1.0, 1) as plan:
            with lock:
                running.append(plan)
                most = max(most, len(running) - plan.streams)
                if set(running) != {plan}:
                    mixed.set()
            with lock:
                running.remove(plan)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(500)))
    assert not mixed.is_set()
    assert most <= 0


def rounds(*rates: Sequence[float]) -> list[Round]:
    return [{plan.name: rate for plan, rate in zip(PLANS, one, strict=False)} for one in rates]


def test_a_small_gain_does_not_leave_what_the_machine_suggests() -> None:
    small, large = (1 + MIN_GAIN) / 2, MIN_GAIN * 1.01
    assert Question(PLANS, rounds(*[(100, 100 * small, 99)] * MAX_ROUNDS)).answer == WIDE
    assert Question(PLANS, rounds(*[(100, 100 * large, 99)] * MAX_ROUNDS)).answer == MIDDLE


def test_one_close_round_keeps_a_plan_in_the_question() -> None:
    slow = (100, 100 * CLOSE - 1, 10)
    assert Question(PLANS, rounds(*[slow] * MIN_ROUNDS)).left == (WIDE,)
    assert Question(PLANS, rounds((100, 100 * CLOSE + 1, 10), *[slow] * MIN_ROUNDS)).left == (WIDE, MIDDLE)


def test_rounds_of_other_plans_are_ignored() -> None:
    assert Question(PLANS, [{"8x1": 5.0}, {}, {plan.name: -1.0 for plan in PLANS}]).rounds == []
