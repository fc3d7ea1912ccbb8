"""Points, payload changes and searches as qdrant_client models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from qdrant_client import QdrantClient, models

from pipeline.filters import FieldType, Node, Types
from pipeline.settings import Quantization
from pipeline.store.bm25 import document_weights
from pipeline.store.conditions import parts_of
from pipeline.store.fusion import Ask, Scores, hybrid
from pipeline.store.points import DENSE, FIELDS, PARTS, SPARSE, Payload, part_vectors, payload_changes, payload_of
from pipeline.store.query import QueryPlan, Shape
from pipeline.types import DocumentInfo, EmbeddedChunk

#: Indexes by the type of the field.
INDEXES: Mapping[FieldType, models.PayloadSchemaParams] = {
    FieldType.KEYWORD: models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, prefix=True),
    FieldType.INTEGER: models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=True),
    FieldType.FLOAT: models.FloatIndexParams(type=models.FloatIndexType.FLOAT),
    FieldType.BOOL: models.BoolIndexParams(type=models.BoolIndexType.BOOL),
    FieldType.DATETIME: models.DatetimeIndexParams(type=models.DatetimeIndexType.DATETIME),
}


class _Server:
    """The conditions of a server."""

    def one_of(self, key: str, values: Sequence[str] | Sequence[int]) -> models.Condition:
        return models.FieldCondition(key=key, match=models.MatchAny(any=cast("list[str]", list(values))))

    def is_true(self, key: str, value: bool) -> models.Condition:
        return models.FieldCondition(key=key, match=models.MatchValue(value=value))

    def begins(self, key: str, prefix: str) -> models.Condition:
        return models.FieldCondition(key=key, match=models.MatchPrefix(prefix=prefix))

    def between(self, key: str, **bounds: float | str) -> models.Condition:
        is_time = any(isinstance(value, str) for value in bounds.values())
        made: dict[str, Any] = {"key": key, "range": (models.DatetimeRange if is_time else models.Range).model_validate(bounds)}
        return models.FieldCondition(**made)

    def is_empty(self, key: str) -> models.Condition:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))

    def group(
        self,
        must: Sequence[models.Condition] = (),
        should: Sequence[models.Condition] = (),
        must_not: Sequence[models.Condition] = (),
    ) -> models.Condition:
        return models.Filter(must=[*must] or None, should=[*should] or None, must_not=[*must_not] or None)


#: Twice as many candidates as wanted are scored again with the whole vectors; without quantization this changes nothing.
RESCORED = models.SearchParams(quantization=models.QuantizationSearchParams(rescore=True, oversampling=2.0))


def types_of(schema: Mapping[str, models.PayloadIndexInfo]) -> Types:
    """The fields of metadata among a collection's indexes."""
    prefix, kinds = f"{FIELDS}.", {str(kind): kind for kind in FieldType}
    found = {path.removeprefix(prefix): info.data_type.value for path, info in sorted(schema.items()) if path.startswith(prefix)}
    return {name: kinds[kind] for name, kind in found.items() if kind in kinds}


def vector_params(shape: Shape, quantization: Quantization, *, on_disk: bool) -> dict[str, models.VectorParams]:
    """The vectors that the model makes, for a new collection.

    `on_disk`: whole vectors are read from disk, and the graph, which stays in memory, is searched by quantized ones where there
    are any. Parts are halved numbers already.
    """
    quantized: models.QuantizationConfig | None = None
    if quantization == "int8":
        int8 = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        quantized = models.ScalarQuantization(scalar=int8)
    elif quantization == "binary":
        quantized = models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    common: dict[str, Any] = {"size": shape.dimension, "distance": models.Distance.COSINE, "on_disk": on_disk or None}
    params = {DENSE: models.VectorParams(**common, quantization_config=quantized)}
    if shape.parts:
        several = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
        params[PARTS] = models.VectorParams(**common, multivector_config=several, datatype=models.Datatype.FLOAT16)
    return params


def point_of(document: DocumentInfo, embedded: EmbeddedChunk, shape: Shape, language: str) -> models.PointStruct:
    """A chunk's point: its embedding, its BM25 weights if the collection has them, and its payload."""
    vectors: dict[str, models.Vector] = {DENSE: embedded.vector}
    if shape.parts:
        vectors[PARTS] = part_vectors(embedded)
    if shape.sparse and (weights := document_weights(embedded.chunk.embed_text, language)).indices:
        vectors[SPARSE] = models.SparseVector(indices=weights.indices, values=weights.values)
    return models.PointStruct(id=embedded.chunk.id, vector=vectors, payload=payload_of(document, embedded.chunk))


def run_query(client: QdrantClient, physical: str, plan: QueryPlan) -> list[tuple[str, float, Payload]]:
    """Id, score and payload of the hits."""
    if plan.is_hybrid:
        scores = hybrid(lambda asked: _scores(client, physical, plan, asked), plan.depth, plan.limit)
        records = client.retrieve(physical, list(scores), with_payload=True) if scores else []
        return [(str(one.id), scores[str(one.id)], one.payload or {}) for one in records]
    by: Literal["dense", "sparse"] = "dense" if plan.dense is not None else "sparse"
    query, using = _nearest(plan, by)
    answer = client.query_points(
        physical, query=query, using=using, limit=plan.limit, query_filter=point_filter(plan.matching), with_payload=True,
        search_params=RESCORED if by == "dense" else None,
    )  # fmt: skip
    return [(str(point.id), point.score, point.payload or {}) for point in answer.points]


def _scores(client: QdrantClient, physical: str, plan: QueryPlan, asked: Sequence[Ask[str]]) -> list[Scores[str]]:
    requests = []
    for one in asked:
        query, using = _nearest(plan, one.by)
        among = models.Filter(must=[models.HasIdCondition(has_id=list(one.among))]) if one.among else point_filter(plan.matching)
        params = RESCORED if one.by == "dense" else None
        requests.append(
            models.QueryRequest(query=query, using=using, limit=one.limit, filter=among, params=params, with_payload=False)
        )
    answers = client.query_batch_points(physical, requests)
    return [{str(point.id): point.score for point in answer.points} for answer in answers]


def _nearest(plan: QueryPlan, by: Literal["dense", "sparse"]) -> tuple[models.SparseVector | list[float], str]:
    if by == "dense" or plan.sparse is None:
        return plan.dense or [], plan.meaning
    return models.SparseVector(indices=plan.sparse.indices, values=plan.sparse.values), SPARSE


def document_filter(document_id: str) -> models.Filter:
    """All points of the document."""
    return models.Filter(must=[models.FieldCondition(key="document_id", match=models.MatchValue(value=document_id))])


def payload_operations(fields: Payload, chosen: models.Filter) -> list[models.UpdateOperation]:
    """The operations that set these fields in the payload of all chosen points."""
    return [
        models.SetPayloadOperation(set_payload=models.SetPayload(payload=payload, filter=chosen, key=key))
        for key, payload in payload_changes(fields)
    ]


def point_filter(wanted: Node, document_id: str | None = None, ordinals: Sequence[int] | None = None) -> models.Filter | None:
    """Points that pass a bound filter, of one document and at some of its places if these are given; None: all points."""
    must: list[models.Condition] = parts_of(wanted, _Server())
    if document_id is not None:
        must.append(models.FieldCondition(key="document_id", match=models.MatchValue(value=document_id)))
    if ordinals is not None:
        must.append(models.FieldCondition(key="ordinal", match=models.MatchAny(any=list(ordinals))))
    return models.Filter(must=must) if must else None
