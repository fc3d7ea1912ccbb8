"""Points, payload changes and searches as qdrant_client models."""

from __future__ import annotations

from collections.abc import Sequence

from qdrant_client import QdrantClient, models

from pipeline.filters import Condition
from pipeline.store.bm25 import document_weights
from pipeline.store.points import DENSE, SPARSE, Payload, payload_changes
from pipeline.store.query import RRF_K, QueryPlan, Shape
from pipeline.types import EmbeddedChunk


def vectors_of(embedded: EmbeddedChunk, shape: Shape, language: str) -> dict[str, models.Vector]:
    """The vectors of a chunk's point: its embedding, and its BM25 weights if the collection has them."""
    vectors: dict[str, models.Vector] = {DENSE: embedded.vector}
    if shape.sparse and (weights := document_weights(embedded.chunk.embed_text, language)).indices:
        vectors[SPARSE] = models.SparseVector(indices=weights.indices, values=weights.values)
    return vectors


def run_query(client: QdrantClient, physical: str, plan: QueryPlan) -> models.QueryResponse:
    """Send the search as one request."""
    matches = point_filter(plan.conditions)
    sparse = models.SparseVector(indices=plan.sparse.indices, values=plan.sparse.values) if plan.sparse is not None else None
    if plan.dense is None or sparse is None:
        using = DENSE if sparse is None else SPARSE
        return client.query_points(
            physical, query=sparse or plan.dense, using=using, limit=plan.limit, query_filter=matches, with_payload=True
        )
    # The filter is in both branches: applied after the fusion, it would leave fewer than `limit` hits.
    branches = [
        models.Prefetch(query=plan.dense, using=DENSE, limit=plan.prefetch_limit, filter=matches),
        models.Prefetch(query=sparse, using=SPARSE, limit=plan.prefetch_limit, filter=matches),
    ]
    fused = models.RrfQuery(rrf=models.Rrf(k=RRF_K))
    return client.query_points(physical, prefetch=branches, query=fused, limit=plan.limit, with_payload=True)


def document_filter(document_id: str) -> models.Filter:
    """All points of the document."""
    return models.Filter(must=[models.FieldCondition(key="document_id", match=models.MatchValue(value=document_id))])


def payload_operations(fields: Payload, chosen: models.Filter) -> list[models.UpdateOperation]:
    """The operations that set these fields in the payload of all chosen points."""
    return [
        models.SetPayloadOperation(set_payload=models.SetPayload(payload=payload, filter=chosen, key=key))
        for key, payload in payload_changes(fields)
    ]


def point_filter(
    wanted: Sequence[Condition], document_id: str | None = None, ordinals: Sequence[int] | None = None
) -> models.Filter | None:
    """Points that meet all conditions, of one document and at some of its places if these are given; None: all points."""
    must: list[models.Condition] = [
        models.FieldCondition(
            key=c.field, match=models.MatchPrefix(prefix=c.value) if c.prefix else models.MatchValue(value=c.value)
        )
        for c in wanted
    ]
    if document_id is not None:
        must.append(models.FieldCondition(key="document_id", match=models.MatchValue(value=document_id)))
    if ordinals is not None:
        must.append(models.FieldCondition(key="ordinal", match=models.MatchAny(any=list(ordinals))))
    return models.Filter(must=must) if must else None
