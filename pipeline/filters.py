"""Filters of searches and listings: fields of a document and the values that they must have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pipeline.errors import ConfigError

#: Pairs of field and value that must all match; a sequence may name a field twice, as a caller's filter and a token's may.
Filters: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]]

#: Fields whose value may be a prefix followed by `*`.
PREFIX_FIELDS = ("uri", "folder")

#: The fields that people and programs filter by.
FILTER_KEYS = ("uri", "folder", "media_type", "document_id")


@dataclass(frozen=True, slots=True)
class Condition:
    """One filter."""

    field: str
    value: str
    prefix: bool  #: `value` is a prefix, not the whole value

    def met(self, value: str) -> bool:
        """Whether a field with this value passes."""
        return value.startswith(self.value) if self.prefix else value == self.value


def pairs(filters: Filters) -> list[tuple[str, str]]:
    """The filters as pairs."""
    return list(filters.items() if isinstance(filters, Mapping) else filters)


def conditions(filters: Filters, fields: Sequence[str]) -> list[Condition]:
    """The filters as conditions that must all be met. Raises ConfigError for a field that is not among `fields`."""
    found = []
    for field, value in pairs(filters):
        if field not in fields:
            raise ConfigError(f"cannot filter by {field!r}; use one of {', '.join(fields)}")
        prefix = field in PREFIX_FIELDS and value.endswith("*")
        if value != "*" or not prefix:
            found.append(Condition(field, value.removesuffix("*") if prefix else value, prefix))
    return found
