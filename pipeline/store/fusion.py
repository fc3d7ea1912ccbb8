"""Fusion of a hybrid search: the candidates of both rankings are scored by both, and the scores added on a common scale.

Scores say more than ranks: a hit that is far ahead in one ranking stays ahead. Measured in docs/retrieval.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar
from uuid import UUID

#: Share of the words in a fused score; the rest is that of the meaning.
SHARE_OF_WORDS = 0.55

#: Point id as the store returns it: to write those of the embedded store as text takes 0.2 ms of a search.
Key = TypeVar("Key", str, UUID)

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
    best = sorted(scores, key=lambda key: (-scores[key], key))
    return {key: scores[key] for key in best[:limit]}


def fused(dense: Scores[Key], sparse: Scores[Key]) -> Scores[Key]:
    """The candidates' fused scores, 0 to 1.

    A cosine counts by its place between the lowest and the highest of all candidates, as the range differs between models. A
    BM25 score counts by its share of the highest: without a common word it is 0.
    """
    if not dense:
        return {}
    low, high = min(dense.values()), max(dense.values())
    most = max(sparse.values(), default=0.0)
    scores = {}
    for key, cosine in dense.items():
        meaning = (cosine - low) / (high - low) if high > low else 1.0
        words = max(0.0, sparse.get(key, 0.0)) / most if most > 0 else 0.0
        scores[key] = (1 - SHARE_OF_WORDS) * meaning + SHARE_OF_WORDS * words
    return scores
