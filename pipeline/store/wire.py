"""How processes write what they ask each other about a shard, and the answers: JSON, whose arrays begin with the kind of value.

Nothing but values comes out of it, unlike pickle: a kind that is not listed here is an error on either side. A filter is
therefore read as the one that was written, or not at all.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import numpy as np

from pipeline.filters import All, Condition, Either, Limit, Node, Not, Op
from pipeline.store.bm25 import SparseVector
from pipeline.store.points import Payload
from pipeline.store.query import QueryPlan
from pipeline.types import Embedding


@dataclass(frozen=True, slots=True)
class Chosen:
    """Points of a shard."""

    matching: Node  #: the bound filter that they pass
    document_id: str | None = None  #: the document that they are of
    ordinals: list[int] | None = None  #: their places in it


@dataclass(frozen=True, slots=True)
class Page:
    """A page of points in the order of their ids."""

    chosen: Chosen
    offset: str | None  #: id of its first point; None: from the beginning
    limit: int
    payload: bool | list[str]  #: whether points come with payload, or the names of its fields
    vectors: list[str]  #: names of the vectors that points come with


@dataclass(frozen=True, slots=True)
class Found:
    """A point of a page."""

    id: str
    payload: Payload
    embedding: Embedding


@dataclass(frozen=True, slots=True)
class NewPoint:
    """A point to be written."""

    id: str
    embedding: Embedding  #: with vectors of parts if the collection has them
    weights: SparseVector | None  #: None: none
    payload: Payload


@dataclass(frozen=True, slots=True)
class NewPayload:
    """Fields to be written to stored points."""

    id: str  #: of a point, or of the document whose points they are
    fields: Payload


_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (Condition, All, Either, Not, Limit, QueryPlan, SparseVector, Chosen, Page, Found, NewPoint, NewPayload)
}
_NAMES = {kind: (name, [field.name for field in dataclasses.fields(kind)]) for name, kind in _KINDS.items()}
_PLAIN = frozenset({str, int, float, bool, type(None)})


def written(value: object) -> bytes:
    """The value as JSON. Raises TypeError for one that has no form."""
    return json.dumps(_form(value), separators=(",", ":")).encode("ascii")


def read(message: bytes) -> Any:
    """The value that was written. Raises ValueError, TypeError or KeyError for anything else."""
    return _value(json.loads(message))


def _form(value: object) -> object:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return ["json", value]  # a payload, which came from JSON
    if kind is list or kind is tuple:
        items = cast("list[object]", value)
        if kind is list and {*map(type, items)} <= _PLAIN:
            return ["json", items]
        return [kind.__name__, *map(_form, items)]
    if kind in _NAMES:
        name, fields = _NAMES[kind]
        return [name, *(_form(getattr(value, field)) for field in fields)]
    if isinstance(value, Embedding):
        return ["Embedding", _numbers(value.vector), *map(_numbers, value.parts)]
    if isinstance(value, Op):
        return ["Op", value.value]
    if isinstance(value, datetime):
        return ["datetime", value.isoformat()]
    raise TypeError(f"a value of the type {kind.__name__} cannot be sent to another process")


def _value(form: object) -> Any:
    if not isinstance(form, list):
        return form
    name, *parts = form
    if name == "json":
        return parts[0]
    if name == "list":
        return [_value(part) for part in parts]
    if name == "tuple":
        return tuple(_value(part) for part in parts)
    if name == "Embedding":
        vector, *more = map(_vector, parts)
        return Embedding(vector, tuple(more))
    if name == "Op":
        return Op(parts[0])
    if name == "datetime":
        return datetime.fromisoformat(parts[0])
    return _KINDS[name](*map(_value, parts))


def _numbers(vector: list[float]) -> str:
    return base64.b64encode(np.asarray(vector, np.dtype("<f4")).tobytes()).decode("ascii")  # the precision that is stored


def _vector(text: str) -> list[float]:
    return cast("list[float]", np.frombuffer(base64.b64decode(text), np.dtype("<f4")).tolist())
