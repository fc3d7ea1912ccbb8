"""`POST /v1/search` and `GET /v1/collections`: questions, and what can be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Response

from pipeline.errors import CollectionMissing
from pipeline.filters import Filter
from pipeline.ledger.generations import Collection
from pipeline.ledger.tokens import Grant
from pipeline.store.marks import Marks, marks
from pipeline.text import well_formed
from pipeline.types import PLAIN, Hit, Refinement, Results, SearchMode
from workers.api.access import EngineOf, Reader
from workers.api.engine import Engine
from workers.api.models import CollectionOut, HitOut, SearchRequest, SearchResponse
from workers.api.problems import RESPONSES, Refusal

router = APIRouter(responses=RESPONSES)


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a question, before it is written down."""

    collection: Collection
    mode: SearchMode
    results: Results

    @property
    def hits(self) -> list[Hit]:
        """The hits, best first."""
        return self.results.hits


def ask(
    engine: Engine,
    grant: Grant,
    collection: str | None,
    query: str,
    limit: int,
    filters: Sequence[Filter],
    mode: SearchMode | None = None,
    refinement: Refinement = PLAIN,
) -> Found:
    """Search as the caller of every endpoint does: in a collection that it sees, with its token's filter in the store's own filter.

    Raises Refusal for a question that cannot be asked, and what searches raise.
    """
    query, most = well_formed(query), engine.settings.serve_query_chars
    if not query.strip():
        raise Refusal(422, "invalid", "the query is empty")
    if len(query) > most:
        raise Refusal(422, "query_too_long", f"the query has {len(query):,} characters; KB_SERVE_QUERY_CHARS allows {most:,}")
    found = engine.collection(grant, collection)
    chosen = mode or engine.settings.search_mode
    try:
        results = engine.searcher.search(found.public, query, limit, [*filters, *grant.filters], chosen, refinement)
    except CollectionMissing:  # nothing of it is stored yet; the error's text names collections that the caller may not see
        results = Results([])
    return Found(found, chosen, results)


@router.post("/v1/search", tags=["search"], response_model=SearchResponse)
async def search(asked: SearchRequest, engine: EngineOf, grant: Reader) -> Response:
    """Find the chunks that answer a question best."""

    def written() -> Response:  # FastAPI would validate the answer once more
        return Response(answer(engine, grant, asked).model_dump_json(exclude_unset=True), media_type="application/json")

    return await engine.run(written)


def answer(engine: Engine, grant: Grant, asked: SearchRequest) -> SearchResponse:
    """The hits of a search, with what was asked of each. Raises what `ask` raises."""
    filters = [asked.filter] if asked.filter else []
    found = ask(engine, grant, asked.collection, asked.query, asked.limit, filters, asked.mode, asked.refinement())
    wanted = frozenset[str](HitOut.model_fields if asked.fields is None else asked.fields)
    return SearchResponse(
        collection=found.collection.public,
        mode=found.mode,
        reranked=found.results.reranked,
        note=found.results.note,
        hits=[_written(asked.query, hit, wanted) for hit in found.hits],
    )


def _written(query: str, hit: Hit, wanted: frozenset[str]) -> HitOut:
    """The wanted parts of a hit."""
    marked = marks(query, hit.text, hit.heading_path) if wanted & {"matched_words", "highlights"} else Marks([], [])
    parts = {
        "score": hit.score,
        "text": hit.text,
        "title": hit.title,
        "uri": hit.uri,
        "heading_path": list(hit.heading_path),
        "page_first": hit.page_first,
        "page_last": hit.page_last,
        "char_start": hit.char_start,
        "char_end": hit.char_end,
        "document_id": hit.document_id,
        "chunk_id": hit.chunk_id,
        "ordinal": hit.ordinal,
        "metadata": dict(hit.metadata),
        "matched_words": marked.words,
        "highlights": marked.places,
        "copies": list(hit.copies),
        "before": list(hit.before),
        "after": list(hit.after),
    }
    return HitOut.model_validate({name: value for name, value in parts.items() if name in wanted})


@router.get("/v1/collections", tags=["search"])
async def collections(engine: EngineOf, grant: Reader) -> list[CollectionOut]:
    """List the collections, with what the caller sees of each."""
    return await engine.run(lambda: counted(engine, grant))


def counted(engine: Engine, grant: Grant) -> list[CollectionOut]:
    """The collections that exist for the caller, with the documents and chunks that do."""
    stored = engine.store.collections()
    made = []
    for one in engine.collections(grant).values():
        states = engine.ledger.browse.count(one.name, grant.filters)
        chunks = engine.store.count(one.physical, filters=grant.filters) if one.physical in stored else 0
        made.append(
            CollectionOut(
                name=one.public,
                model=one.model,
                dimension=one.dimension,
                documents=sum(states.values()),
                states=states,
                chunks=chunks,
            )
        )
    return made
