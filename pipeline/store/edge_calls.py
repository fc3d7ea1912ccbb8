"""What the process that has a shard of the embedded store open does with it, for itself and for others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from qdrant_edge import (
    CountRequest,
    EdgeShard,
    FieldCondition,
    Filter,
    HasIdCondition,
    MatchAny,
    MatchValue,
    PayloadSelector,
    ScrollRequest,
    SparseVector,
    UpdateOperation,
)
from qdrant_edge import Point as EdgePoint

from pipeline.filters import FieldType
from pipeline.store import graph
from pipeline.store import points as convert
from pipeline.store.edge_engine import Call
from pipeline.store.edge_query import INDEXES, edge_filter, run_query, types_of
from pipeline.store.points import DENSE, PARTS, SPARSE, Payload
from pipeline.store.query import QueryPlan
from pipeline.store.segments import freeze
from pipeline.store.space import points_of
from pipeline.store.wire import Chosen, Found, NewPayload, NewPoint, Page
from pipeline.types import Embedding

#: The types that the engine's annotations allow for a named vector.
_NamedVector = list[float] | SparseVector | list[list[float]]


def _count(shard: EdgeShard, chosen: Chosen) -> int:
    return shard.count(CountRequest(exact=True, filter=_filter(chosen)))


def _page(shard: EdgeShard, page: Page) -> tuple[list[Found], str | None]:
    selector = page.payload if isinstance(page.payload, bool) else PayloadSelector.Include(page.payload)
    request = ScrollRequest(
        offset=cast("int | UUID | str | None", page.offset),
        limit=page.limit,
        filter=_filter(page.chosen),
        with_payload=selector,
        with_vector=page.vectors or False,
    )
    records, offset = shard.scroll(request)
    found = [Found(str(one.id), one.payload or {}, convert.embedding_of(one.vector)) for one in records]
    return found, None if offset is None else str(offset)


def _vectors(shard: EdgeShard, ids: list[str]) -> list[tuple[str, Embedding]]:
    records = shard.retrieve(cast("list[int | UUID | str]", ids), False, True)
    return [(str(record.id), convert.embedding_of(record.vector)) for record in records]


def _fields(shard: EdgeShard, _: None) -> Payload:
    return dict(types_of({path: info.data_type for path, info in shard.info().payload_schema.items()}))


def _unindexed(shard: EdgeShard, sparse: bool) -> tuple[int, int]:
    points = points_of(shard)
    return graph.unindexed(shard, points, sparse=sparse), points


def _upsert(shard: EdgeShard, points: list[NewPoint]) -> None:
    shard.update(UpdateOperation.upsert_points([EdgePoint(one.id, _named(one), one.payload) for one in points]))
    freeze(shard)


def _set_meta(shard: EdgeShard, changes: list[NewPayload]) -> None:
    for change in changes:
        # By filter: when points are selected by id, the engine rejects ids that are not stored.
        _set_payload(shard, HasIdCondition({change.id}), change.fields)


def _set_document(shard: EdgeShard, change: NewPayload) -> None:
    _set_payload(shard, FieldCondition("document_id", match=MatchValue(change.id)), change.fields)


def _set_payload(shard: EdgeShard, chosen: HasIdCondition | FieldCondition, fields: Payload) -> None:
    for key, payload in convert.payload_changes(fields):
        shard.update(UpdateOperation.set_payload_by_filter(Filter(must=[chosen]), payload, key))


def _delete_points(shard: EdgeShard, ids: list[str]) -> None:
    shard.update(UpdateOperation.delete_points(cast("list[int | UUID | str]", ids)))


def _delete_documents(shard: EdgeShard, ids: list[str]) -> None:
    condition = FieldCondition("document_id", match=MatchAny(ids))
    shard.update(UpdateOperation.delete_points_by_filter(Filter(must=[condition])))


def _add_field(shard: EdgeShard, named: tuple[str, str]) -> None:
    name, kind = named
    shard.update(UpdateOperation.create_field_index(f"{convert.FIELDS}.{name}", INDEXES[FieldType(kind)]))


def _filter(chosen: Chosen) -> Filter | None:
    return edge_filter(chosen.matching, chosen.document_id, chosen.ordinals)


def _named(point: NewPoint) -> dict[str, _NamedVector]:
    vectors: dict[str, _NamedVector] = {DENSE: point.embedding.vector}
    if point.embedding.parts:
        vectors[PARTS] = list(point.embedding.parts)
    if point.weights is not None:
        vectors[SPARSE] = SparseVector(point.weights.indices, point.weights.values)
    return vectors


QUERY: Call[QueryPlan, list[tuple[str, float, Payload]]] = Call("query", run_query)  #: id, score and payload of the hits
COUNT: Call[Chosen, int] = Call("count", _count)
PAGE: Call[Page, tuple[list[Found], str | None]] = Call("page", _page)  #: its points, and the offset of the next page
VECTORS: Call[list[str], list[tuple[str, Embedding]]] = Call("vectors", _vectors)  #: ids and vectors of those that are stored
FIELDS: Call[None, Payload] = Call("fields", _fields)  #: names and types of fields of metadata
UNINDEXED: Call[bool, tuple[int, int]] = Call("unindexed", _unindexed)  #: numbers of points that are not frozen, and of all

UPSERT: Call[list[NewPoint], None] = Call("upsert", _upsert, changes=True)
SET_META: Call[list[NewPayload], None] = Call("set_meta", _set_meta, changes=True)  #: of points
SET_DOCUMENT: Call[NewPayload, None] = Call("set_document", _set_document, changes=True)  #: of all points of a document
DELETE_POINTS: Call[list[str], None] = Call("delete_points", _delete_points, changes=True)
DELETE_DOCUMENTS: Call[list[str], None] = Call("delete_documents", _delete_documents, changes=True)
ADD_FIELD: Call[tuple[str, str], None] = Call("add_field", _add_field, changes=True)  #: name and type

CALLS: Sequence[Call[Any, Any]] = (
    QUERY, COUNT, PAGE, VECTORS, FIELDS, UNINDEXED, graph.POINTS,
    UPSERT, SET_META, SET_DOCUMENT, DELETE_POINTS, DELETE_DOCUMENTS, ADD_FIELD,
)  # fmt: skip
