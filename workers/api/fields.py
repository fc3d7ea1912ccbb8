"""`GET /v1/fields`: what documents can be filtered by, and how many have which value."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Query

from pipeline.filters import Filter
from pipeline.ledger.tokens import Grant
from workers.api.access import EngineOf, Reader
from workers.api.engine import Engine
from workers.api.models import FacetResponse, FieldsResponse, FilterText, Plain
from workers.api.problems import RESPONSES, Refusal

router = APIRouter(tags=["search"], responses=RESPONSES)

#: Most values of a field in one response.
MAX_VALUES = 1000


@router.get("/v1/fields")
async def fields(
    engine: EngineOf,
    grant: Reader,
    collection: Annotated[Plain | None, Query()] = None,
    filter: Annotated[FilterText | None, Query()] = None,
) -> FieldsResponse:
    """List the fields of the documents that searches find."""
    return await engine.run(lambda: listed(engine, grant, collection, filter))


@router.get("/v1/fields/{field}")
async def field(
    engine: EngineOf,
    grant: Reader,
    field: Annotated[Plain, Path(examples=["media_type"])],
    collection: Annotated[Plain | None, Query()] = None,
    filter: Annotated[FilterText | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_VALUES)] = 20,
) -> FacetResponse:
    """Count the documents that searches find by the values of a field."""
    return await engine.run(lambda: counted(engine, grant, collection, field, filter, limit))


def listed(engine: Engine, grant: Grant, collection: str | None, wanted: Filter | None) -> FieldsResponse:
    """The fields of documents that exist for the caller. Raises CollectionMissing and FilterError."""
    found = engine.collection(grant, collection)
    filters = [*([] if wanted is None else [wanted]), *grant.filters]
    made = engine.ledger.facets.fields(found.name, filters)
    return FieldsResponse.model_validate({"collection": found.public, "fields": [asdict(one) for one in made]})


def counted(engine: Engine, grant: Grant, collection: str | None, field: str, wanted: Filter | None, limit: int) -> FacetResponse:
    """The values of a field in documents that exist for the caller. Raises Refusal, CollectionMissing and FilterError."""
    found = engine.collection(grant, collection)
    # That a field exists in other documents is not told.
    if not engine.ledger.facets.has(found.name, field, grant.filters):
        known = [one.name for one in engine.ledger.facets.fields(found.name, grant.filters)]
        raise Refusal(404, "field_missing", f"there is no field {field!r}; existing: {', '.join(known) or 'none'}")
    filters = [*([] if wanted is None else [wanted]), *grant.filters]
    return FacetResponse.model_validate(
        {"collection": found.public, **asdict(engine.ledger.facets.values(found.name, field, filters, limit))}
    )
