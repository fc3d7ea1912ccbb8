"""`/v1/documents`: list, read, upload and delete documents."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from pipeline.filters import Filter
from pipeline.ledger import Ledger
from pipeline.ledger.browse import Listing
from pipeline.ledger.tokens import Grant
from pipeline.sources.discover import Patterns
from pipeline.sources.uris import root_of
from pipeline.steps.scope import Scope
from pipeline.store.names import check_name
from workers.api.access import EngineOf, Reader, Writer
from workers.api.engine import Engine
from workers.api.jobs import shown
from workers.api.models import (
    ChunkOut,
    DocumentOut,
    DocumentResponse,
    DocumentsResponse,
    FilterText,
    JobOut,
    LoadRequest,
    LossOut,
    Plain,
)
from workers.api.problems import RESPONSES, Refusal
from workers.api.uploads import Upload
from workers.jobs.crew import delete_now
from workers.jobs.sources import Job

router = APIRouter(tags=["documents"], responses=RESPONSES)

#: An id of a document, as in hits.
DocumentId = Annotated[str, Path(max_length=64, pattern=r"^[0-9a-fA-F-]+$")]

#: States in which documents can be listed.
State = Literal["pending", "parsing", "parsed", "embedding", "indexed", "quarantined", "skipped"]


@router.get("/v1/documents")
async def documents(
    engine: EngineOf,
    grant: Reader,
    collection: Annotated[Plain | None, Query()] = None,
    state: State | None = None,
    uri: Annotated[Plain | None, Query()] = None,
    folder: Annotated[Plain | None, Query()] = None,
    media_type: Annotated[Plain | None, Query()] = None,
    filter: Annotated[FilterText | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str, Query(max_length=64, pattern=r"^[0-9a-fA-F-]*$")] = "",
) -> DocumentsResponse:
    """List documents page by page, in the order of their ids."""
    named = {"uri": uri, "folder": folder, "media_type": media_type}
    wanted: list[Filter] = [(name, value) for name, value in named.items() if value is not None]
    wanted += [] if filter is None else [filter]
    return await engine.run(lambda: listing(engine, grant, collection, wanted, state or "", limit, after))


@router.get("/v1/documents/{document}")
async def document(
    engine: EngineOf,
    grant: Reader,
    document: DocumentId,
    chunk_limit: Annotated[int, Query(ge=0, le=1000)] = 100,
    chunk_after: Annotated[int, Query(ge=-1, le=10**9)] = -1,
) -> DocumentResponse:
    """Read a document: its state, what of it could not be read, and its chunks."""

    return await engine.run(lambda: described(engine, grant, document, chunk_limit, chunk_after))


@router.delete("/v1/documents/{document}", status_code=204, response_class=Response)
async def delete(engine: EngineOf, grant: Writer, document: DocumentId) -> Response:
    """Delete a document with its chunks. A file that it was loaded from stays, and another load brings it back."""

    def remove() -> None:
        found, public = existing(engine, grant, document)
        settings = engine.settings.model_copy(update={"collection": public, "delete_grace": 0.0})
        delete_now(settings, engine.ledger, found.collection, [found.id], engine.store, grant.name)

    await engine.run(remove)
    return Response(status_code=204)


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1},
                        "collection": {"type": "string", "maxLength": 200},
                        "folder": {"type": "string", "maxLength": 200},
                    },
                },
            },
            "application/json": {"schema": LoadRequest.model_json_schema(), "example": {"uri": "/srv/handbook"}},
        },
    }
}


@router.post("/v1/documents", status_code=202, openapi_extra=_BODY, responses={200: {"model": JobOut, "description": "Repeated"}})
async def add(
    request: Request,
    response: Response,
    engine: EngineOf,
    grant: Writer,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> JobOut:
    """Load files: uploaded ones (multipart/form-data), or those at a URI that the service can read (application/json)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await received(request, response, engine, grant, idempotency_key)
    if kind != "application/json":
        raise Refusal(415, "unsupported", "send files as multipart/form-data, or a URI as application/json")
    try:
        asked = LoadRequest.model_validate_json(await request.body())
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
    return await _once(engine, grant, response, idempotency_key, lambda: _named(engine, grant, asked))


async def received(request: Request, response: Response, engine: Engine, grant: Grant, key: str | None = None) -> JobOut:
    """The job that loads the files of a multipart request; raises Refusal."""
    with Upload(engine.staging) as upload:
        return await _once(engine, grant, response, key, lambda: _uploaded(engine, grant, upload, request))


def listing(
    engine: Engine, grant: Grant, collection: str | None, filters: Sequence[Filter], state: str, limit: int, after: str
) -> DocumentsResponse:
    """A page of the documents that exist for the caller; raises CollectionMissing."""
    found = engine.collection(grant, collection)
    page = engine.ledger.browse.page(found.name, [*filters, *grant.filters], state=state, after=after, limit=limit + 1)
    following = page[limit - 1].id if len(page) > limit else None
    return DocumentsResponse(collection=found.public, documents=[_out(one) for one in page[:limit]], next=following)


def described(engine: Engine, grant: Grant, document: str, chunk_limit: int, chunk_after: int) -> DocumentResponse:
    """A document that exists for the caller, with up to `chunk_limit` chunks after `chunk_after`; raises Refusal."""
    found, public = existing(engine, grant, document)
    generation = engine.ledger.collections.get(found.collection)
    chunks = []
    if chunk_limit and found.indexed_hash and generation is not None:
        wanted = range(chunk_after + 1, chunk_after + 1 + chunk_limit)
        chunks = engine.store.document_chunks(generation.physical, found.id, grant.filters, list(wanted))
    return DocumentResponse(
        **_out(found).model_dump(),
        collection=public,
        losses=[
            LossOut(kind=one.kind, place=one.place, detail=one.detail, count=one.count) for one in engine.ledger.losses.of(found.id)
        ],
        chunk_list=[
            ChunkOut(
                id=one.id,
                ordinal=one.ordinal,
                text=one.text,
                heading_path=list(one.heading_path),
                page_first=one.page_first,
                page_last=one.page_last,
                char_start=one.char_start,
                char_end=one.char_end,
            )
            for one in chunks
        ],
    )


#: What a request asks for: a hash of it, and the call that makes its run.
_Asked = tuple[str, Callable[[], int]]


async def _uploaded(engine: Engine, grant: Grant, upload: Upload, request: Request) -> _Asked:
    await upload.receive(request, engine)
    collection = target(engine, grant, upload.fields.get("collection"))
    files = upload.files(grant)
    return upload.digest(), lambda: engine.keeper.load(collection, Job(Scope([], files=files), token=grant.name))


async def _named(engine: Engine, grant: Grant, asked: LoadRequest) -> _Asked:
    collection, job = named(engine, grant, asked)
    return hashlib.sha256(repr((asked.uri, collection)).encode()).hexdigest(), lambda: engine.keeper.begin(collection, job)


def named(engine: Engine, grant: Grant, asked: LoadRequest) -> tuple[str, Job]:
    """The collection and the job of a request to load from a URI. Raises Refusal."""
    if not grant.allows("admin"):
        raise Refusal(
            403, "forbidden", f"the token {grant.name!r} lacks the scope admin: a URI reaches every file of the service's host"
        )
    patterns = Patterns(ignore=engine.settings.ignore, hidden=engine.settings.hidden)
    return target(engine, grant, asked.collection), Job(Scope([root_of(asked.uri)], patterns), token=grant.name)


async def _once(
    engine: Engine, grant: Grant, response: Response, key: str | None, asking: Callable[[], Awaitable[_Asked]]
) -> JobOut:
    """The job of a request; with a key that was used before, the job of that time."""
    ledger = engine.ledger
    if key is None:
        _, make = await asking()
        return await engine.run(lambda: shown(engine, make()))
    ident, earlier = await engine.run(lambda: ledger.submissions.begin(f"{grant.name}\n{grant.since}", key))
    if earlier is not None:
        if earlier.run is None:
            raise Refusal(409, "in_progress", "a request with this Idempotency-Key is being received", {"Retry-After": "2"})
        digest, _ = await asking()
        if digest != earlier.digest:
            raise Refusal(422, "key_reused", "this Idempotency-Key was used for another request; use a new one")
        response.status_code, run = 200, earlier.run
        return await engine.run(lambda: shown(engine, run))
    try:
        digest, make = await asking()
    except BaseException:
        ledger.submissions.failed(ident)
        raise
    # In one call, which goes on if the request is given up: a repeated one then finds what this one has made.
    return await engine.run(lambda: shown(engine, _made(ledger, ident, digest, make)))


def _made(ledger: Ledger, ident: str, digest: str, make: Callable[[], int]) -> int:
    """Make a run and record it under its key."""
    try:
        run = make()
    except BaseException:
        ledger.submissions.failed(ident)
        raise
    ledger.submissions.made(ident, digest, run)
    return run


def target(engine: Engine, grant: Grant, name: str | None) -> str:
    """The collection to load into, which may be new. Raises Refusal and ConfigError."""
    name = check_name(name or engine.settings.collection)
    if not grant.sees(name):
        raise Refusal(403, "forbidden", f"the token {grant.name!r} may not load into the collection {name!r}")
    return name


def existing(engine: Engine, grant: Grant, document: str) -> tuple[Listing, str]:
    """A document that exists for the caller, and its collection."""
    found = engine.ledger.browse.get(document.lower(), grant.filters)
    if found is None or not grant.sees(found[1]):
        raise Refusal(404, "document_missing", "there is no document with this id")
    return found


def _out(found: Listing) -> DocumentOut:
    return DocumentOut(
        id=found.id,
        uri=found.uri,
        title=found.title,
        media_type=found.media_type,
        size=found.size,
        state=found.state,
        reason=found.reason,
        detail=found.detail,
        searchable=bool(found.indexed_hash),
        chunks=found.chunks,
        metadata=dict(found.metadata),
        parent=found.parent,
        updated_at=found.updated_at,
    )
