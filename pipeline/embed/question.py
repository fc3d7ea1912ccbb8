"""The question which plan is the fastest, answered by rounds in which each plan has had its turn at the same work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from pipeline.embed.plan import ComputePlan, Plans

#: Work per second of each plan, by its name, in turns that followed each other.
Round = Mapping[str, float]

#: Rounds before a plan may be dropped, and rounds after which the question is answered in any case.
MIN_ROUNDS, MAX_ROUNDS = 3, 6

#: A plan is dropped if it has not come this close to the fastest one in any round.
CLOSE = 0.95

#: The plan that the machine suggests is kept unless another one is this many times as fast.
MIN_GAIN = 1.05


class Question:
    """Compares plans by the medians of their ratios. What else runs on the machine changes all rates of a round alike."""

    def __init__(self, plans: Plans, rounds: Sequence[Round] = ()) -> None:
        """Continue a question of which some rounds are known; rounds of other plans are ignored."""
        self.plans = plans
        self.rounds: list[Round] = []
        for known in rounds:
            if self.answer is None and all(known.get(plan.name, 0.0) > 0 for plan in self.left):
                self.rounds.append({plan.name: known[plan.name] for plan in self.left})

    @property
    def left(self) -> Plans:
        """The plans that can still be the answer."""
        left = self.plans
        for number in range(MIN_ROUNDS, len(self.rounds) + 1):
            rounds = self.rounds[:number]
            best = _fastest(left, rounds)
            left = tuple(plan for plan in left if plan == best or any(one[plan.name] >= CLOSE * one[best.name] for one in rounds))
        return left

    @property
    def answer(self) -> ComputePlan | None:
        """The plan to keep; None while the question is open."""
        if len(self.plans) == 1:
            return self.plans[0]
        left = self.left
        if len(left) == 1:
            return left[0]
        if len(self.rounds) < MAX_ROUNDS:
            return None
        best = _fastest(left, self.rounds)
        suggested = left[0]
        gain = median(one[best.name] / one[suggested.name] for one in self.rounds)
        return best if gain >= MIN_GAIN else suggested

    def rate(self, plan: ComputePlan) -> float:
        """Work per second of a plan, the median of its rounds; 0 without a round."""
        rates = [one[plan.name] for one in self.rounds if plan.name in one]
        return median(rates) if rates else 0.0


def _fastest(plans: Plans, rounds: Sequence[Round]) -> ComputePlan:
    """The plan with the highest median of its ratios to the first one."""
    return max(plans, key=lambda plan: median(one[plan.name] / one[plans[0].name] for one in rounds))
