"""Translates a filter into the conditions of an engine, the same for server and embedded store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from pipeline.filters import (
    OWN_TYPES,
    All,
    Condition,
    FieldType,
    Filters,
    Limit,
    Node,
    Not,
    Op,
    Types,
    bind,
    conditions,
    each,
    tree_of,
)
from pipeline.metadata import written
from pipeline.store.points import FIELDS, clean

C = TypeVar("C")

#: The fields of all documents that a store can filter by.
STORED: Types = {**OWN_TYPES, "title": FieldType.KEYWORD, "content_hash": FieldType.KEYWORD}


class Engine(Protocol[C]):
    """The conditions of an engine."""

    def one_of(self, key: str, values: Sequence[str] | Sequence[int]) -> C:
        """The field has one of these values."""

    def is_true(self, key: str, value: bool) -> C:
        """The field is this truth value."""

    def begins(self, key: str, prefix: str) -> C:
        """The text begins like this."""

    def between(self, key: str, **bounds: float | str) -> C:
        """The number or time lies within bounds named gt, gte, lt and lte; times are texts of ISO 8601."""

    def is_empty(self, key: str) -> C:
        """The field is missing."""

    def group(self, must: Sequence[C] = (), should: Sequence[C] = (), must_not: Sequence[C] = ()) -> C:
        """All of `must`, one of `should` if there are any, and none of `must_not`."""


def bound(filters: Filters, types: Callable[[], Types]) -> Node:
    """The filters, bound to the fields of a collection; `types` is asked for its metadata's, if a filter names one.

    Raises FilterError.
    """
    tree = tree_of(filters)
    known = STORED if all(one.field in STORED for one in conditions(tree)) else {**types(), **STORED}
    return each(bind(tree, known), _storable)


def translated(node: Node, engine: Engine[C]) -> C:
    """The bound filter as a condition of this engine."""
    if isinstance(node, Condition):
        return _condition(node, engine)
    if isinstance(node, Not):
        return engine.group(must_not=[translated(node.part, engine)])
    if isinstance(node, Limit):
        return translated(node.part, engine)
    parts = [translated(part, engine) for part in node.parts]
    if isinstance(node, All):
        return engine.group(must=parts)
    return engine.group(should=parts) if parts else engine.group(must_not=[engine.group()])


def parts_of(node: Node, engine: Engine[C]) -> list[C]:
    """The conditions that must all be met."""
    return [translated(part, engine) for part in (node.parts if isinstance(node, All) else (node,))]


def _condition(wanted: Condition, engine: Engine[C]) -> C:
    key = wanted.field if wanted.field in STORED else f"{FIELDS}.{wanted.field}"
    if wanted.op is Op.EXISTS or (wanted.op is Op.BEGINS and wanted.values == ("",)):
        return engine.group(must_not=[engine.is_empty(key)])
    if wanted.op is Op.BEGINS:
        return engine.begins(key, str(wanted.values[0]))
    if wanted.op is not Op.IN:
        bound = {Op.LESS: "lt", Op.AT_MOST: "lte", Op.MORE: "gt", Op.AT_LEAST: "gte"}[wanted.op]
        return engine.between(key, **{bound: _bound(wanted.values[0])})
    # Engines match texts and whole numbers exactly; fractions and times only as ranges.
    texts = [value for value in wanted.values if isinstance(value, str)]
    numbers = [value for value in wanted.values if isinstance(value, int) and not isinstance(value, bool)]
    made = [engine.one_of(key, texts)] if texts else []
    made += [engine.one_of(key, numbers)] if numbers else []
    made += [engine.is_true(key, value) for value in wanted.values if isinstance(value, bool)]
    for value in wanted.values:
        if isinstance(value, (float, datetime)):
            made.append(engine.between(key, gte=_bound(value), lte=_bound(value)))
    return made[0] if len(made) == 1 else engine.group(should=made)


def _bound(value: object) -> float | str:
    return written(value) if isinstance(value, datetime) else value  # type: ignore[return-value]


def _storable(wanted: Condition) -> Condition:
    """Texts as they are stored."""
    values = tuple(clean(value) if isinstance(value, str) else value for value in wanted.values)
    return Condition(wanted.field, wanted.op, values, wanted.place)
