"""Filters of searches and listings: one language, read from text or JSON into one tree, which every store answers by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    Node,
    Not,
    Op,
    conditions,
    each,
    equals,
    field_name,
)

#: One filter: text, a pair of field and value as tokens of old ledgers have it, the object form of JSON, or the tree itself.
Filter: TypeAlias = "str | tuple[str, str] | Mapping[str, object] | Node"

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
    return ["=".join(str(part) for part in one) if isinstance(one, tuple) else str(one) for one in filters]


def _one(one: Filter) -> Node:
    if isinstance(one, str):
        return parse(one)
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
]  # fmt: skip
