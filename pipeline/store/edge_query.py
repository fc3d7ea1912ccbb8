"""Filters, indexes and queries as objects of Qdrant Edge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Literal, TypeAlias, cast
from uuid import UUID

import numpy as np
from qdrant_edge import (
    BoolIndexParams,
    DatetimeIndexParams,
    EdgeShard,
    FieldCondition,
    Filter,
    FloatIndexParams,
    HasIdCondition,
    IntegerIndexParams,
    IsEmptyCondition,
    KeywordIndexParams,
    MatchAny,
    MatchPrefix,
    MatchValue,
    PayloadSchemaType,
    Query,
    QueryRequest,
    RangeDateTime,
    RangeFloat,
    ScoredPoint,
    SparseVector,
)

from pipeline.filters import FieldType, Node, Types
from pipeline.store import graph
from pipeline.store.bm25 import SparseVector as Weights
from pipeline.store.conditions import parts_of
from pipeline.store.fusion import Ask, Scores, hybrid
from pipeline.store.points import FIELDS, SPARSE, Payload
from pipeline.store.query import QueryPlan

_Index: TypeAlias = KeywordIndexParams | IntegerIndexParams | FloatIndexParams | BoolIndexParams | DatetimeIndexParams
_Condition: TypeAlias = FieldCondition | IsEmptyCondition | Filter

#: Indexes by the type of the field.
INDEXES: Mapping[FieldType, _Index] = {
    FieldType.KEYWORD: KeywordIndexParams(prefix=True),
    FieldType.INTEGER: IntegerIndexParams(),
    FieldType.FLOAT: FloatIndexParams(),
    FieldType.BOOL: BoolIndexParams(),
    FieldType.DATETIME: DatetimeIndexParams(),
}

_TYPES = {
    PayloadSchemaType.Keyword: FieldType.KEYWORD,
    PayloadSchemaType.Integer: FieldType.INTEGER,
    PayloadSchemaType.Float: FieldType.FLOAT,
    PayloadSchemaType.Bool: FieldType.BOOL,
    PayloadSchemaType.Datetime: FieldType.DATETIME,
}


#: Parts of a point that was found, and of its id, which is a UUID, as those of chunks are.
_ID: Callable[[ScoredPoint], UUID] = attrgetter("id")
_NUMBER: Callable[[UUID], int] = attrgetter("int")
_SCORE: Callable[[ScoredPoint], float] = attrgetter("score")


class _Edge:
    """The conditions of Qdrant Edge."""

    def one_of(self, key: str, values: Sequence[str] | Sequence[int]) -> _Condition:
        return FieldCondition(key, match=MatchAny(cast("list[str]", list(values))))

    def is_true(self, key: str, value: bool) -> _Condition:
        # The binding takes Python's own truth values for numbers, which match none; those of numpy it knows.
        return FieldCondition(key, match=MatchValue(cast("bool", np.bool_(value))))

    def begins(self, key: str, prefix: str) -> _Condition:
        return FieldCondition(key, match=MatchPrefix(prefix))

    def between(self, key: str, **bounds: float | str) -> _Condition:
        if any(isinstance(value, str) for value in bounds.values()):
            return FieldCondition(key, range=RangeDateTime(**cast("dict[str, str]", bounds)))
        return FieldCondition(key, range=RangeFloat(**cast("dict[str, float]", bounds)))

    def is_empty(self, key: str) -> _Condition:
        return IsEmptyCondition(key)

    def group(
        self, must: Sequence[_Condition] = (), should: Sequence[_Condition] = (), must_not: Sequence[_Condition] = ()
    ) -> _Condition:
        return Filter(must=[*must] or None, should=[*should] or None, must_not=[*must_not] or None)


def edge_filter(wanted: Node, document_id: str | None = None, ordinals: Sequence[int] | None = None) -> Filter | None:
    """Points that pass a bound filter, of one document and at some of its places if these are given; None: all points."""
    must = parts_of(wanted, _Edge())
    if document_id is not None:
        must.append(FieldCondition("document_id", match=MatchValue(document_id)))
    if ordinals is not None:
        must.append(FieldCondition("ordinal", match=MatchAny(list(ordinals))))
    return Filter(must=[*must]) if must else None


def types_of(schema: Mapping[str, PayloadSchemaType]) -> Types:
    """The fields of metadata among a shard's indexes, by the paths of these."""
    prefix = f"{FIELDS}."
    return {
        path.removeprefix(prefix): _TYPES[kind]
        for path, kind in sorted(schema.items())
        if path.startswith(prefix) and kind in _TYPES
    }


def run_query(shard: EdgeShard, plan: QueryPlan) -> list[tuple[str, float, Payload]]:
    """Id, score and payload of the hits."""
    if plan.is_hybrid:
        candidates = _Candidates(shard, plan)
        scores = hybrid(candidates.scores, plan.depth, plan.limit)
        records = shard.retrieve([*candidates.ids(scores)], True, False)
        return [(str(one.id), scores[_NUMBER(cast("UUID", one.id))], one.payload or {}) for one in records]
    query = _nearest(plan, "dense" if plan.dense is not None else "sparse")
    request = QueryRequest(limit=plan.limit, query=query, filter=edge_filter(plan.matching), with_payload=True, params=graph.SEARCH)
    return [(str(point.id), point.score, point.payload or {}) for point in shard.query(request)]


class _Candidates:
    """The candidates of a hybrid search by the numbers of their ids. The engine makes each UUID anew."""

    def __init__(self, shard: EdgeShard, plan: QueryPlan) -> None:
        self._shard = shard
        self._plan = plan
        self._ids: dict[int, UUID] = {}

    def scores(self, asked: Sequence[Ask[int]]) -> list[Scores[int]]:
        """The scores of several searches. One batch of the engine took a little more time than a call for each."""
        found: list[Scores[int]] = []
        for one in asked:
            points = self._shard.query(self._request(one))
            ids = list(map(_ID, points))
            numbers = list(map(_NUMBER, ids))
            self._ids.update(zip(numbers, ids, strict=True))
            found.append(dict(zip(numbers, map(_SCORE, points), strict=True)))
        return found

    def ids(self, numbers: Iterable[int]) -> list[UUID]:
        """The ids with these numbers."""
        return [self._ids[number] for number in numbers]

    def _request(self, one: Ask[int]) -> QueryRequest:
        matches = Filter(must=[HasIdCondition(set(self.ids(one.among)))]) if one.among else edge_filter(self._plan.matching)
        params = graph.EXACT if one.among else graph.SEARCH
        return QueryRequest(limit=one.limit, query=_nearest(self._plan, one.by), filter=matches, params=params)


def _nearest(plan: QueryPlan, by: Literal["dense", "sparse"]) -> Query:
    if by == "dense" and plan.dense is not None:
        return Query.Nearest(plan.dense, using=plan.meaning)
    sparse = plan.sparse or Weights([], [])
    return Query.Nearest(SparseVector(sparse.indices, sparse.values), using=SPARSE)
