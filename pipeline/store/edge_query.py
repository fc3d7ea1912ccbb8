"""Filters and indexes as objects of Qdrant Edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

import numpy as np
from qdrant_edge import (
    BoolIndexParams,
    DatetimeIndexParams,
    FieldCondition,
    Filter,
    FloatIndexParams,
    IntegerIndexParams,
    IsEmptyCondition,
    KeywordIndexParams,
    MatchAny,
    MatchPrefix,
    MatchValue,
    PayloadSchemaType,
    RangeDateTime,
    RangeFloat,
)

from pipeline.filters import FieldType, Node, Types
from pipeline.store.conditions import parts_of
from pipeline.store.points import FIELDS

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
