"""The form that every filter is read into: conditions on fields, joined by and, or and not."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

#: Fields whose value may be a prefix followed by `*`, after `=` too.
PREFIX_FIELDS = ("uri", "folder")

#: The fields of every document that people and programs filter by.
FILTER_KEYS = ("uri", "folder", "media_type", "document_id")


class Op(StrEnum):
    """What is asked of a field. The other operators of the language are their negations: `!=`, `not in`, `missing`."""

    IN = "in"  # one of the values; of a list, that it has one of them. `=` is this with one value
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    BEGINS = "~"  # the value is a prefix, without its `*`
    EXISTS = "exists"  # without values


@dataclass(frozen=True, slots=True)
class Bare:
    """A value without quotation marks, whose type is that of the field it is compared with."""

    text: str


#: A value as it was written (Bare, or a value of JSON); once it is bound to the field's type, all but Bare.
Value: TypeAlias = "Bare | str | int | float | bool | datetime"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on one field. A document without the field does not pass, so it does pass the negation."""

    field: str
    op: Op
    values: tuple[Value, ...] = ()
    place: str = dataclasses.field(default="", compare=False)  #: where the filter has it, for errors


@dataclass(frozen=True, slots=True)
class All:
    """Passed if all parts are; without parts by every document."""

    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Either:
    """Passed if one of the parts is; without parts by no document."""

    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """Passed if the part is not."""

    part: Node


@dataclass(frozen=True, slots=True)
class Limit:
    """A token's filter. A field that a collection lacks is missing from its documents; nothing passes where types do not fit."""

    part: Node


Node: TypeAlias = "Condition | All | Either | Not | Limit"


def conditions(node: Node) -> Iterator[Condition]:
    """All conditions of a tree."""
    if isinstance(node, Condition):
        yield node
    elif isinstance(node, (Not, Limit)):
        yield from conditions(node.part)
    else:
        for part in node.parts:
            yield from conditions(part)


def each(node: Node, change: Callable[[Condition], Node]) -> Node:
    """The tree with every condition changed."""
    if isinstance(node, Condition):
        return change(node)
    if isinstance(node, (Not, Limit)):
        return replace(node, part=each(node.part, change))
    return replace(node, parts=tuple(each(part, change) for part in node.parts))


def field_name(text: str) -> str:
    """The one spelling of a field's name: small letters, composed, words joined by `_`."""
    return re.sub(r"\s+", "_", unicodedata.normalize("NFC", text.strip().lower()))


def equals(name: str, value: Value, place: str) -> Condition:
    """The condition of `=`. For a URI or folder without quotation marks, a `*` at the end makes it a prefix."""
    text = value.text if isinstance(value, Bare) else ""
    if name in PREFIX_FIELDS and text.endswith("*"):
        return Condition(name, Op.BEGINS, (text[:-1],), place)
    return Condition(name, Op.IN, (value,), place)
