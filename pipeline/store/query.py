"""The plan of a search, the same for server and embedded store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from pipeline.errors import CollectionMismatch, ConfigError
from pipeline.filters import Node
from pipeline.store.bm25 import SparseVector, query_weights
from pipeline.store.points import DENSE, PARTS


@dataclass(frozen=True, slots=True)
class Shape:
    """The vectors of a collection."""

    dimension: int
    sparse: bool  #: whether its points carry BM25 weights; points of old collections do not
    parts: bool = False  #: whether its points carry vectors of the parts of their texts

    @property
    def meaning(self) -> str:
        """Name of the vector that a question is compared with by meaning."""
        return PARTS if self.parts else DENSE

    @property
    def embedded(self) -> list[str]:
        """Names of the vectors that the model made."""
        return [DENSE, PARTS] if self.parts else [DENSE]


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """A search by one of the vectors, or by both, fused."""

    dense: list[float] | None
    sparse: SparseVector | None
    matching: Node  #: the bound filter
    limit: int
    meaning: str = DENSE  #: name of the vector that `dense` is compared with

    @property
    def is_hybrid(self) -> bool:
        """Whether two rankings are fused."""
        return self.dense is not None and self.sparse is not None

    @property
    def depth(self) -> int:
        """Length of each ranking that is fused: the same for all usual limits, as the scores depend on it.

        Fusion promotes points from the middle of both rankings, so they are longer than the result; 100 points cost nothing.
        """
        return max(self.limit, 100)


def query_plan(name: str, shape: Shape, vector: Sequence[float] | None, text: str, limit: int, wanted: Node) -> QueryPlan | None:
    """The plan of `VectorStore.search` with a bound filter; None if nothing can be found."""
    dense = check_query(vector, shape.dimension, name) if vector is not None else None
    if dense is None and not shape.sparse:
        raise ConfigError(
            f"collection {name!r} has no word weights, or those of an older kb-ingest: `kb-ingest reindex` makes new ones, without "
            "embedding anything again; until then search it with --mode dense"
        )
    weights = query_weights(text) if shape.sparse else SparseVector([], [])
    sparse = weights if weights.indices else None
    if limit < 1 or (dense is None and sparse is None):
        return None
    return QueryPlan(dense, sparse, wanted, limit, shape.meaning)


def check_query(vector: Sequence[float], dimension: int, name: str) -> list[float]:
    """The query as a list. Raises CollectionMismatch for another dimension, ValueError for NaN or infinity."""
    if len(vector) != dimension:
        raise CollectionMismatch(
            f"collection {name!r} holds vectors of {dimension} numbers, the query has {len(vector)}: "
            "it was made with another model; set KB_MODEL to that one, or load into another collection"
        )
    with np.errstate(over="ignore"):
        query = np.asarray(vector, dtype=np.float32)
    if not np.isfinite(query).all():
        raise ValueError("the query's vector contains NaN or infinity")
    return cast("list[float]", query.tolist())
