"""Filters of searches and listings: one language, read from text or JSON into one tree, which every store answers by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pipeline.filters import objects
from pipeline.filters.binding import FieldType, Stored, Types, bind, meets
from pipeline.filters.language import parse
from pipeline.filters.tree import (
    FILTER_KEYS,
    PREFIX_FIELDS,
    All,
    Bare,
    Condition,
    Either,
    Limit,
    Node,
    Not,
    Op,
    conditions,
    each,
    equals,
    field_name,
)


@dataclass(frozen=True, slots=True)
class Granted:
    """A filter of a token, which holds in every collection, whatever its fields."""

    filter: str | tuple[str, str]


#: One filter: text, a pair of field and value as tokens of old ledgers have it, the object form of JSON, or the tree itself.
Filter: TypeAlias = "str | tuple[str, str] | Mapping[str, object] | Node | Granted"

#: Filters that must all be met.
Filters: TypeAlias = "Mapping[str, object] | Sequence[Filter]"

#: The fields that every document has.
OWN_TYPES: Types = dict.fromkeys(FILTER_KEYS, FieldType.KEYWORD)


def tree_of(filters: Filters) -> Node:
    """The filters as one tree. Raises FilterError for one that cannot be read."""
    if isinstance(filters, (str, Mapping)):
        return _one(filters)
    return All(tuple(_one(one) for one in filters))


def shown(filters: Sequence[Filter]) -> list[str]:
    """Filters of a token as people read them."""
    plain = [one.filter if isinstance(one, Granted) else one for one in filters]
    return ["=".join(one) if isinstance(one, tuple) else str(one) for one in plain]


def _one(one: Filter) -> Node:
    if isinstance(one, str):
        return parse(one)
    if isinstance(one, Granted):
        return Limit(_one(one.filter))
    if isinstance(one, tuple):
        return equals(one[0], Bare(one[1]), "")
    return objects.read(one) if isinstance(one, Mapping) else one


__all__ = [
    "FILTER_KEYS",
    "OWN_TYPES",
    "PREFIX_FIELDS",
    "All",
    "Bare",
    "Condition",
    "Either",
    "FieldType",
    "Filter",
    "Filters",
    "Granted",
    "Limit",
    "Node",
    "Not",
    "Op",
    "Stored",
    "Types",
    "bind",
    "conditions",
    "each",
    "equals",
    "field_name",
    "meets",
    "parse",
    "shown",
    "tree_of",
]
