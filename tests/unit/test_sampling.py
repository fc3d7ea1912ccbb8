"""Estimates from a random sample: unbiased, with a range that usually contains the truth, and exact without a sample."""

from __future__ import annotations

import random
import statistics

import pytest

from pipeline.steps import sampling
from pipeline.steps.sampling import Sampled, draw, extrapolate, likely


def folder(rng: random.Random) -> list[Sampled]:
    """Files in the order of a listing: small ones first, and each with as many chunks as its size and chance say."""
    sizes = sorted(rng.randint(100, 50_000) for _ in range(800))
    return [Sampled(size, round(size / 900 * rng.uniform(0.3, 1.7)), size // 4) for size in sizes]


def test_the_range_usually_contains_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, errors = 0, []
    for seed in range(100):
        monkeypatch.setattr(sampling, "SEED", seed)
        files = folder(random.Random(seed))
        truth = sum(file.chunks for file in files)
        estimate = extrapolate(draw(files, 64), len(files), sum(file.size for file in files))
        low, high = likely([estimate])
        inside += low <= truth <= high
        errors.append(estimate.chunks / truth - 1)
    assert inside >= 88  # 95 are expected; with a right formula fewer than 88 have a probability of 0.4 %
    assert abs(statistics.mean(errors)) < 0.02


def test_the_first_files_are_no_sample() -> None:
    files = list(range(1000))
    chosen = draw(files, 64)
    assert len(set(chosen)) == 64
    assert max(chosen) > 800
    assert draw(files, 64) == chosen  # a plan that is made again says the same


def test_everything_that_was_parsed_is_exact() -> None:
    files = [Sampled(100, 3, 90), Sampled(1000, 1, 30)]
    estimate = extrapolate(draw(files, 64), 2, 1100)
    assert (round(estimate.chunks), round(estimate.tokens), likely([estimate])) == (4, 120, (4, 4))


def test_no_range_goes_below_what_was_counted() -> None:
    estimate = extrapolate([Sampled(10, 0, 0), Sampled(10, 40, 900)], 100, 1000)
    assert likely([estimate])[0] >= 40
    assert likely([extrapolate([Sampled(0, 0, 0), Sampled(0, 0, 0)], 9, 0)]) == (0, 0)


def test_kinds_of_files_are_added_up() -> None:
    one = extrapolate([Sampled(10, 1, 9), Sampled(10, 3, 20)], 100, 1000)
    low, high = likely([one, one])
    alone_low, alone_high = likely([one])
    assert high - low < 2 * (alone_high - alone_low)  # errors of two kinds partly cancel out
