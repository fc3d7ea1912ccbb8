"""Comparison of documents' vectors: the plane of most variance, near-duplicate pairs, and outliers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Default minimum cosine of near-duplicates.
NEAR_COSINE = 0.97

#: Number of nearest neighbours whose distance measures how isolated a document is.
NEIGHBOURS = 5

#: Minimum number of documents for a meaningful usual distance.
FEWEST_FOR_OUTLIERS = 20

#: Minimum difference, in cosine, between the neighbours of an outlier and those of the median document.
MIN_GAP = 0.1

#: Rounding error of the cosine of equal vectors, or of a limit, in single precision.
ROUNDING = 1e-6

#: Cosines in memory at a time, 64 MB of them: documents are compared block by block.
CELLS = 16 << 20

#: Documents within this fraction of a unit vector are at one place.
SAME_PLACE = 1e-4


@dataclass(frozen=True, slots=True)
class Likeness:
    """Result of comparing each document with every other."""

    near: list[tuple[float, int, int]]  #: cosine and two rows, the smaller row first; the most similar pairs first
    near_total: int  #: all near-duplicate pairs, listed or not
    neighbours: NDArray[np.float32]  #: for each row, the mean cosine of its nearest neighbours; empty with fewer than two rows


def principal_plane(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """(n, dimension) to (n, 2) along the two directions of most variance, by PCA, and their share of the variance.

    Both axes begin at 0 and have the same scale; the longer one ends at 1. The same vectors give the same picture, because a
    direction's sign is chosen so that its largest number is positive. If all documents are at one place, they get (0.5, 0.5).
    """
    import torch

    if len(vectors) == 0:
        return np.zeros((0, 2), np.float32), 1.0
    data = torch.from_numpy(np.ascontiguousarray(vectors))
    mean = data.mean(0, dtype=torch.float64)
    covariance = torch.zeros((data.shape[1], data.shape[1]), dtype=torch.float64)
    for block in torch.split(data, 8192):  # in double precision, but never all rows at once
        centred = block.double() - mean
        covariance += centred.T @ centred
    values, directions = torch.linalg.eigh(covariance)
    axes = directions[:, -2:].flip(1)
    axes = axes * torch.sign(axes[axes.abs().argmax(0), torch.arange(2)])
    plane = torch.cat([(block.double() - mean) @ axes for block in torch.split(data, 8192)])
    low, high = plane.min(0).values, plane.max(0).values
    span = float((high - low).max())
    if span < SAME_PLACE:
        return np.full((len(vectors), 2), 0.5, np.float32), 1.0
    explained = float(values[-2:].sum() / values.sum())
    return ((plane - low) / span).float().numpy(), min(1.0, explained)


def compare(vectors: NDArray[np.float32], near_cosine: float, most_near: int) -> Likeness:
    """Compare (n, dimension) unit rows, each with every other: n * n * dimension multiplications, CELLS cosines in memory."""
    import torch

    data, count = torch.from_numpy(np.ascontiguousarray(vectors)), len(vectors)
    if count < 2:
        return Likeness([], 0, np.zeros(0, np.float32))
    near: list[tuple[float, int, int]] = []
    total, means = 0, []
    size = max(1, CELLS // count)
    for start in range(0, count, size):
        cosines = data[start : start + size] @ data.T
        rows = torch.arange(len(cosines))
        cosines[rows, rows + start] = -2.0  # itself
        means.append(cosines.topk(min(NEIGHBOURS, count - 1), 1).values.mean(1))
        later = cosines[:, start:].triu(1).flatten()  # each pair once
        found = int((later >= near_cosine).sum())
        if found:
            total += found
            # Only the best pairs are handled one by one: n documents that are all alike have n * n / 2 pairs.
            best = later.topk(min(found, most_near))
            for cosine, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                row, column = divmod(place, count - start)
                near.append((min(1.0, cosine), start + row, start + column))
            near = sorted(near, key=lambda pair: (-pair[0], pair[1:]))[:most_near]
    return Likeness(near, total, torch.cat(means).numpy())


def outliers(neighbours: NDArray[np.float32]) -> list[int]:
    """Rows whose neighbours are farther away than usual, the most isolated first.

    The limit is Tukey's fence: 1.5 times the interquartile range below the lower quartile.
    """
    if len(neighbours) < FEWEST_FOR_OUTLIERS:
        return []
    lower, middle, upper = np.quantile(neighbours, (0.25, 0.5, 0.75))
    fence = min(lower - 1.5 * (upper - lower), middle - MIN_GAP)
    return [int(row) for row in np.argsort(neighbours, kind="stable") if neighbours[row] < fence]


def written(cosine: float) -> str:
    """A cosine of a pair with three digits, rounded down, so that only equal vectors get 1.000."""
    return f"{math.floor((cosine + ROUNDING) * 1000) / 1000:.3f}"
