"""Fusion of a hybrid search: the candidates of both rankings are scored by both, and the scores added on a common scale.

Scores say more than ranks: a hit that is far ahead in one ranking stays ahead. Measured in docs/retrieval.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import neg
from typing import Generic, Literal, TypeAlias, TypeVar

#: Share of the words in a fused score; the rest is that of the meaning.
SHARE_OF_WORDS = 0.55

#: Point id, as a number where the store gives no text: a search looks up a thousand, and Python computes the hash of a UUID anew
#: each time.
Key = TypeVar("Key", str, int)

#: Point id -> score.
Scores: TypeAlias = dict[Key, float]


@dataclass(frozen=True, slots=True)
class Ask(Generic[Key]):
    """A search by one of the vectors, without payload."""

    by: Literal["dense", "sparse"]
    limit: int
    among: tuple[Key, ...] = ()  #: only these points; empty: those that match the filter


def hybrid(ask: Callable[[Sequence[Ask[Key]]], list[Scores[Key]]], depth: int, limit: int) -> Scores[Key]:
    """The best `limit` points, best first, and their fused scores; `ask` answers several searches together.

    The first `depth` points of either ranking are candidates. Each is then scored by the other ranking too.
    """
    dense, sparse = ask([Ask("dense", depth), Ask("sparse", depth)])
    asked: list[Ask[Key]] = []
    for by, known, other in (("dense", dense, sparse), ("sparse", sparse, dense)):
        if lacking := tuple(key for key in other if key not in known):
            asked.append(Ask(by, len(lacking), lacking))  # type: ignore[arg-type]
    for one, found in zip(asked, ask(asked) if asked else [], strict=True):
        (dense if one.by == "dense" else sparse).update(found)
    scores = fused(dense, sparse)
    best = sorted(zip(map(neg, scores.values()), scores, strict=True))
    return {key: scores[key] for _, key in best[:limit]}


def fused(dense: Scores[Key], sparse: Scores[Key]) -> Scores[Key]:
    """The candidates' fused scores, 0 to 1.

    A cosine counts by its place between the lowest and the highest of all candidates, as the range differs between models. A
    BM25 score counts by its share of the highest: without a common word it is 0.
    """
    if not dense:
        return {}
    low, high = min(dense.values()), max(dense.values())
    most = max(sparse.values(), default=0.0)
    if high > low:
        scores = {key: (1 - SHARE_OF_WORDS) * ((cosine - low) / (high - low)) for key, cosine in dense.items()}
    else:
        scores = dict.fromkeys(dense, 1 - SHARE_OF_WORDS)
    if most > 0:
        for key in scores.keys() & sparse.keys():
            scores[key] += SHARE_OF_WORDS * (max(0.0, sparse[key]) / most)
    return scores
