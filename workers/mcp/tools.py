"""The tools: their arguments, their answers, and the calls behind them, which are those of the service's endpoints."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, Field, model_validator

from pipeline.filters import FILTER_KEYS
from pipeline.ledger.tokens import Grant
from pipeline.steps.scope import Scope
from pipeline.text import well_formed
from pipeline.types import SearchMode, SourceFile
from workers.api import MAX_LIMIT
from workers.api.documents import described, named, target
from workers.api.engine import Engine
from workers.api.fields import MAX_VALUES, listed
from workers.api.fields import counted as field_counted
from workers.api.jobs import LOOK_EVERY_S, MAX_WAIT_S, recent, shown, visible
from workers.api.limits import BODY_BYTES
from workers.api.models import (
    MAX_NEIGHBOURS,
    CollectionOut,
    DocumentResponse,
    FacetResponse,
    FieldsResponse,
    FilterIn,
    JobOut,
    LoadRequest,
    Plain,
    SearchRequest,
    SearchResponse,
    Strict,
)
from workers.api.search import answer, counted
from workers.api.uploads import uri_of
from workers.jobs.sources import Job
from workers.mcp import INGEST

#: Jobs that `status` lists.
JOBS = 5

#: The share of KB_SERVE_TIMEOUT_S that `ingest` may wait: its answer must leave before the request is given up.
WAIT_SHARE = 0.5


class SearchArguments(Strict):
    """Arguments of `search`: those of `POST /v1/search`, with the fields of all documents beside its filter."""

    query: str = Field(min_length=1, description="the question, in plain words")
    collection: Plain | None = Field(None, description="a name of list_collections; default: the configured or only one")
    limit: int = Field(5, ge=1, le=MAX_LIMIT, description="maximum number of hits")
    mode: SearchMode | None = Field(None, description="dense: by meaning; sparse: by words; hybrid: by both")
    neighbours: int = Field(0, ge=0, le=MAX_NEIGHBOURS, description="chunks to add before and after each hit")
    per_document: int | None = Field(None, ge=1, description="maximum number of hits of one document; 1 shows more documents")
    uri: Plain | None = Field(None, description="the whole URI, or its beginning and `*`", examples=["file:///srv/handbook/*"])
    folder: Plain | None = Field(None, description="the whole folder, or its beginning and `*`", examples=["/srv/handbook"])
    media_type: Plain | None = Field(None, examples=["application/pdf"])
    document_id: Plain | None = Field(None, examples=["0a6f6f8e-3b9f-5b0e-9c39-7a1f0c1f5c11"])
    filter: FilterIn | None = None

    def request(self) -> SearchRequest:
        """The request that asks the same over HTTP."""
        wanted: list[object] = [{name: value} for name in FILTER_KEYS if (value := getattr(self, name)) is not None]
        wanted += [] if self.filter is None else [self.filter]
        return SearchRequest(
            query=self.query, collection=self.collection, limit=self.limit, mode=self.mode, filter={"and": wanted}, fields=None,
            neighbours=self.neighbours, per_document=self.per_document,
        )  # fmt: skip


class ReadArguments(Strict):
    """Arguments of `read_document`."""

    document_id: str = Field(max_length=64, pattern=r"^[0-9a-fA-F-]+$", description="document_id of a hit")
    chunk_after: int = Field(-1, ge=-1, le=10**9, description="`next` of the page before; -1: from the beginning")
    chunk_limit: int = Field(20, ge=1, le=1000, description="maximum number of chunks")


class NoArguments(Strict):
    """Arguments of `list_collections`."""


class FieldsArguments(Strict):
    """Arguments of `list_fields`."""

    field: Plain | None = Field(None, description="a field whose values are to be counted; default: list the fields")
    collection: Plain | None = Field(None, description="default: the configured or only one")
    filter: FilterIn | None = None
    limit: int = Field(50, ge=1, le=MAX_VALUES, description="maximum number of values")


class StatusArguments(Strict):
    """Arguments of `status`."""

    job: int | None = Field(None, ge=1, le=2**31 - 1, description="id of a job of `ingest`; without it the last ones are listed")


class IngestArguments(Strict):
    """Arguments of `ingest`: a text with a name, or a URI."""

    text: str | None = Field(None, min_length=1, max_length=BODY_BYTES, description="the document's text")
    name: Plain | None = Field(
        None, description="its file name, whose ending tells its format; the same name replaces the document", examples=["notes.md"]
    )
    folder: Plain | None = Field(None, description="a folder for it, such as meetings/2026")
    uri: Plain | None = Field(None, min_length=1, description="instead of a text: a folder, file or URL that the service can read")
    collection: Plain | None = Field(None, description="default: the configured one; made if it does not exist")
    wait_s: float = Field(10, ge=0, le=MAX_WAIT_S, description="seconds to wait for the end of the load")

    @model_validator(mode="after")
    def _one_of_both(self) -> IngestArguments:
        if (self.uri is None) == (self.text is None) or (self.text is None) != (self.name is None):
            raise ValueError("send a text with a name, or a uri")
        return self


class ReadAnswer(DocumentResponse):
    """A document with a page of its chunks."""

    next: int | None = Field(description="`chunk_after` of the next page; null at the end")


class CollectionsAnswer(BaseModel):
    """The collections that exist for the caller."""

    collections: list[CollectionOut]


class FieldsAnswer(FieldsResponse):
    """The fields of documents, or the values of one."""

    facet: FacetResponse | None = Field(description="values of the field that was asked for")


class StatusAnswer(BaseModel):
    """Whether the parts work, what is stored, and what is being loaded."""

    version: str
    parts: dict[str, str] = Field(description="ok, or what is wrong", examples=[{"ledger": "ok", "model": "is being loaded"}])
    states: dict[str, int] = Field(description="documents of all collections by state")
    jobs: list[JobOut]


async def _search(engine: Engine, grant: Grant, asked: SearchArguments) -> SearchResponse:
    return await engine.run(lambda: answer(engine, grant, asked.request()))


async def _read(engine: Engine, grant: Grant, asked: ReadArguments) -> ReadAnswer:
    found = await engine.run(lambda: described(engine, grant, asked.document_id, asked.chunk_limit, asked.chunk_after))
    last = asked.chunk_after + asked.chunk_limit
    return ReadAnswer(**found.model_dump(), next=last if last < found.chunks - 1 else None)


async def _collections(engine: Engine, grant: Grant, _asked: NoArguments) -> CollectionsAnswer:
    return CollectionsAnswer(collections=await engine.run(lambda: counted(engine, grant)))


async def _fields(engine: Engine, grant: Grant, asked: FieldsArguments) -> FieldsAnswer:
    def look() -> FieldsAnswer:
        found = listed(engine, grant, asked.collection, asked.filter)
        facet = None
        if asked.field is not None:
            facet = field_counted(engine, grant, asked.collection, asked.field, asked.filter, asked.limit)
        return FieldsAnswer(**dict(found), facet=facet)

    return await engine.run(look)


async def _status(engine: Engine, grant: Grant, asked: StatusArguments) -> StatusAnswer:
    def look() -> StatusAnswer:
        job = asked.job
        jobs = recent(engine, grant, JOBS) if job is None else [visible(engine, grant, job)]
        states: dict[str, int] = {}
        for one in engine.ledger.collections.live_ones():
            if grant.sees(one.public):
                for state, count in engine.ledger.browse.count(one.name, grant.filters).items():
                    states[state] = states.get(state, 0) + count
        return StatusAnswer(version=version("kb-ingest"), parts=engine.readiness(), states=states, jobs=jobs)

    return await engine.run(look)


async def _ingest(engine: Engine, grant: Grant, asked: IngestArguments) -> JobOut:
    run = await engine.run(lambda: _begun(engine, grant, asked))
    until = time.monotonic() + min(asked.wait_s, WAIT_SHARE * engine.settings.serve_timeout_s)
    while True:
        found = await engine.run(lambda: shown(engine, run))
        left_s = until - time.monotonic()
        if found.status != "running" or left_s <= 0:
            return found
        await asyncio.sleep(min(LOOK_EVERY_S, left_s))


def _begun(engine: Engine, grant: Grant, asked: IngestArguments) -> int:
    """The run of what is to be loaded; a text is staged when it is returned."""
    if asked.uri is not None:
        collection, job = named(engine, grant, LoadRequest(uri=asked.uri, collection=asked.collection))
        return engine.keeper.begin(collection, job)
    uri = uri_of(grant, asked.folder or "", asked.name or "")
    collection = target(engine, grant, asked.collection)
    path = engine.staging.scratch()
    try:
        data = well_formed(asked.text or "").encode()
        path.write_bytes(data)
        file = SourceFile(uri, path, len(data), time.time_ns())
        return engine.keeper.load(collection, Job(Scope([], files=[file]), token=grant.name))
    finally:
        path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Tool:
    """What clients can call."""

    name: str
    title: str
    description: str
    arguments: type[BaseModel]
    answer: type[BaseModel]
    call: Callable[[Engine, Grant, Any], Awaitable[BaseModel]]
    writes: bool = False


TOOLS: Sequence[Tool] = (
    Tool(
        "search",
        "Search documents",
        "Find the passages of the loaded documents that answer a question best. Each hit has the text and where it is from: title, "
        "uri, pages, heading path, chunk id and offsets. Cite them. Ask read_document for more of a document.",
        SearchArguments,
        SearchResponse,
        _search,
    ),
    Tool(
        "read_document",
        "Read a document",
        "Read a document by its id, as hits have it: its state, what of it could not be read, and its text in pages of chunks. "
        "Pass `next` as chunk_after to continue; it is null at the end.",
        ReadArguments,
        ReadAnswer,
        _read,
    ),
    Tool(
        "list_collections",
        "List collections",
        "List the collections that can be searched, with their documents by state and their chunks.",
        NoArguments,
        CollectionsAnswer,
        _collections,
    ),
    Tool(
        "list_fields",
        "List fields",
        "List the fields that a search's filter can use, with their types; with `field`, how many documents have which "
        "value of it.",
        FieldsArguments,
        FieldsAnswer,
        _fields,
    ),
    Tool(
        "status",
        "Status",
        "Tell whether all parts work, how many documents are in which state, and what is being loaded.",
        StatusArguments,
        StatusAnswer,
        _status,
    ),
    Tool(
        INGEST,
        "Load documents",
        "Load a text as a document, or the files of a folder or URL, so that searches find them. The answer is a job: if it is "
        "still running, ask status with its id.",
        IngestArguments,
        JobOut,
        _ingest,
        writes=True,
    ),
)
