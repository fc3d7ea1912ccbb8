"""The chunks of many files, estimated from a random sample of them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

#: Half the width of the range, in standard errors: about 95 of 100 ranges contain the true number.
STANDARD_ERRORS = 2.0

#: Fewest files of a kind that are sampled where there are more: one file says nothing about how much files differ.
MIN_SAMPLE = 2

#: Seed of the choice, so that a plan that is made again gives the same numbers.
SEED = 0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sampled:
    """A file that was parsed; one that could not be has no chunks."""

    size: int  #: bytes
    chunks: int
    tokens: int
    variance: float = 0.0  #: of the chunks, where they are themselves an estimate


@dataclass(frozen=True, slots=True)
class Estimate:
    """The chunks of all files of a kind."""

    chunks: float
    tokens: float
    variance: float  #: of the chunks; 0 where every file was parsed
    parsed: int  #: chunks that were counted, below which no range goes


def draw(files: Sequence[T], count: int) -> list[T]:
    """`count` files at random, at least MIN_SAMPLE; all where there are no more."""
    count = max(MIN_SAMPLE, count)
    return list(files) if len(files) <= count else random.Random(SEED).sample(files, count)


def extrapolate(sample: Sequence[Sampled], files: int, size: int) -> Estimate:
    """Estimate the chunks of `files` files of `size` bytes in total, by the chunks per byte of a sample of them.

    This is the ratio estimator for a simple random sample without replacement (Cochran, Sampling Techniques, 1977, chapter 6),
    and in two stages where the chunks of a file are an estimate (chapter 11).
    """
    chunks, tokens, parsed = (sum(values) for values in zip(*((one.chunks, one.tokens, one.size) for one in sample), strict=True))
    if not parsed:
        return Estimate(0.0, 0.0, 0.0, 0)
    ratio, count = chunks / parsed, len(sample)
    variance = files / count * sum(one.variance for one in sample)
    if count < files:
        spread = sum((one.chunks - ratio * one.size) ** 2 for one in sample) / (count - 1)
        variance += files**2 * (1 - count / files) / count * spread
    return Estimate(ratio * size, tokens / parsed * size, variance, sum(one.chunks for one in sample if not one.variance))


def likely(estimates: Sequence[Estimate]) -> tuple[int, int]:
    """The range that is likely to contain the number of chunks of all kinds together."""
    total = sum(one.chunks for one in estimates)
    margin = STANDARD_ERRORS * math.sqrt(sum(one.variance for one in estimates))
    return round(max(sum(one.parsed for one in estimates), total - margin)), round(total + margin)
