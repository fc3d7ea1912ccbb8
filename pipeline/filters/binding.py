"""Binds a filter to the fields of a collection: which exist, and of which type their values are."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias

from pipeline.errors import FilterError
from pipeline.filters.tree import All, Bare, Condition, Either, Limit, Node, Not, Op, Value, each


class FieldType(StrEnum):
    """The type of a field's values."""

    KEYWORD = "keyword"  # a text, or a list of texts
    INTEGER = "integer"
    FLOAT = "float"
    BOOL = "bool"
    DATETIME = "datetime"


#: The fields of a collection.
Types: TypeAlias = Mapping[str, FieldType]

#: Value of a field that a document has: as a filter's, or a list of texts.
Stored: TypeAlias = "str | int | float | bool | datetime | Sequence[str]"

#: Integers that every store keeps exactly.
MAX_INTEGER = 2**53

_RANGES = (Op.LESS, Op.AT_MOST, Op.MORE, Op.AT_LEAST)

_EXPECTED = {
    FieldType.KEYWORD: "a text",
    FieldType.INTEGER: "a whole number",
    FieldType.FLOAT: "a number",
    FieldType.BOOL: "true or false",
    FieldType.DATETIME: "a date or time such as 2024-05-31 or 2024-05-31T12:00:00Z",
}


def bind(node: Node, types: Types) -> Node:
    """The filter with values of the fields' types. Raises FilterError for a field that is none of them and for a wrong type."""
    if isinstance(node, Limit):
        return _within(node.part, types)
    if isinstance(node, Not):
        return Not(bind(node.part, types))
    if isinstance(node, Condition):
        return _bound(node, types)
    return replace(node, parts=tuple(bind(part, types) for part in node.parts))


def meets(node: Node, document: Mapping[str, Stored]) -> bool:
    """Whether a document with these fields passes a bound filter."""
    if isinstance(node, All):
        return all(meets(part, document) for part in node.parts)
    if isinstance(node, Either):
        return any(meets(part, document) for part in node.parts)
    if isinstance(node, (Not, Limit)):
        return meets(node.part, document) is isinstance(node, Limit)
    stored = document.get(node.field)
    if stored is None:
        return False
    values = [stored] if isinstance(stored, (str, int, float, datetime)) else list(stored)
    return any(_passes(node, value) for value in values)


def instant(text: str) -> datetime:
    """A date or time of ISO 8601, in UTC where it names no zone. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _within(node: Node, types: Types) -> Node:
    """What a token's filter lets through in a collection."""
    known = each(node, lambda condition: condition if condition.field in types else Either())
    try:
        return bind(known, types)
    except FilterError:
        return Either()


def _passes(condition: Condition, stored: str | int | float | bool | datetime) -> bool:
    if condition.op is Op.EXISTS:
        return True
    if condition.op is Op.IN:
        return stored in condition.values
    wanted = condition.values[0]
    if condition.op is Op.BEGINS:
        return isinstance(stored, str) and stored.startswith(str(wanted))
    less, more = stored < wanted, stored > wanted  # type: ignore[operator]
    return {Op.LESS: less, Op.AT_MOST: not more, Op.MORE: more, Op.AT_LEAST: not less}[condition.op]


def _bound(condition: Condition, types: Types) -> Condition:
    kind = types.get(condition.field)
    if kind is None:
        raise _error(condition, f"there is no field {condition.field!r} to filter by; use one of {', '.join(types)}")
    if condition.op in _RANGES and kind in (FieldType.KEYWORD, FieldType.BOOL):
        expected = "=, !=, ~ or in" if kind is FieldType.KEYWORD else "= or !="
        raise _error(condition, f"{condition.field} is {_EXPECTED[kind]} and cannot be compared by {condition.op}; use {expected}")
    if condition.op is Op.BEGINS and kind is not FieldType.KEYWORD:
        raise _error(condition, f"{condition.field} is {_EXPECTED[kind]} and has no beginning; only texts can be compared by ~")
    return replace(condition, values=tuple(_typed(condition, value, kind) for value in condition.values))


def _typed(condition: Condition, value: Value, kind: FieldType) -> Value:
    found = typed(value.text if isinstance(value, Bare) else value, kind, reads_text=isinstance(value, Bare))
    # A range of whole numbers may end between two of them.
    if found is None and kind is FieldType.INTEGER and condition.op in _RANGES:
        found = typed(value.text if isinstance(value, Bare) else value, FieldType.FLOAT, reads_text=isinstance(value, Bare))
    if found is None:
        shown = value.text if isinstance(value, Bare) else value
        raise _error(condition, f"{condition.field} is {_EXPECTED[kind]}, and {shown!r} is not")
    return found


def typed(value: object, kind: FieldType, *, reads_text: bool) -> str | int | float | bool | datetime | None:
    """The value as one of this type; None if it is none. `reads_text`: whether a text may stand for a number or bool."""
    if kind is FieldType.KEYWORD:
        return value if isinstance(value, str) else None
    if kind is FieldType.DATETIME:
        return _instant(value)
    if isinstance(value, str):
        value = _read(value, kind) if reads_text else None
    if kind is FieldType.BOOL:
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        return None  # too large a number, or NaN
    if kind is FieldType.FLOAT:
        return float(value)
    return int(value) if value == int(value) and abs(value) <= MAX_INTEGER else None


def _instant(value: object) -> datetime | None:
    try:
        return instant(value.strip()) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _read(text: str, kind: FieldType) -> int | float | bool | None:
    text = text.strip()
    if kind is FieldType.BOOL:
        return {"true": True, "false": False}.get(text.lower())
    if not text.isascii() or "_" in text:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None


def _error(condition: Condition, why: str) -> FilterError:
    return FilterError(f"the filter is wrong at {condition.place}: {why}" if condition.place else f"cannot apply the filter: {why}")
