"""`/` and `/documents`: search, documents with their chunks and losses, pages of PDFs as pictures."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from pipeline.filters import FILTER_KEYS
from pipeline.ledger.tokens import Grant
from pipeline.parse import MEDIA_TYPES
from pipeline.parse.kinds import PDF
from pipeline.sandbox.picture import draw
from pipeline.types import SearchMode
from workers.api import documents as api
from workers.api.access import EngineOf
from workers.api.documents import DocumentId, State
from workers.api.engine import Engine
from workers.api.models import DocumentResponse, Plain, SearchRequest
from workers.api.page.render import PageRoute, made
from workers.api.page.visitor import Reading
from workers.api.problems import Refusal
from workers.api.search import answer

router = APIRouter(route_class=PageRoute, include_in_schema=False)

#: Maximum characters of a question in an address; KB_SERVE_QUERY_CHARS holds too.
MAX_QUERY = 20_000

#: Numbers of hits to choose from.
LIMITS = (10, 25, 50)

#: Chunks on one page of a document, and how many of them come before the one that is asked for.
CHUNKS, BEFORE = 50, 5

#: Documents on one page of a list.
DOCUMENTS = 50

#: Files of the page; the only ones that are given out.
STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}

_FOLDER = FilePath(__file__).parent / "static"


class Question(BaseModel):
    """The search form; a field that is left empty is sent as an empty text."""

    q: str = Field("", max_length=MAX_QUERY)
    collection: Plain = ""
    mode: SearchMode | Literal[""] = ""
    folder: Plain = ""
    uri: Plain = ""
    media_type: Plain = ""
    document_id: Plain = ""
    filter: Plain = ""
    limit: int = Field(LIMITS[0], ge=1, le=LIMITS[-1])

    @property
    def has_filter(self) -> bool:
        """Whether any filter is set, so that the form shows them."""
        return bool(self.folder or self.uri or self.media_type or self.document_id or self.filter)

    def request(self) -> SearchRequest:
        """The same question for the API."""
        wanted: list[object] = [{name: value} for name in FILTER_KEYS if (value := getattr(self, name))]
        wanted += [self.filter] if self.filter.strip() else []
        return SearchRequest(
            query=self.q,
            collection=self.collection or None,
            mode=self.mode or None,
            limit=self.limit,
            filter={"and": wanted},
        )


@router.get("/")
async def search(request: Request, engine: EngineOf, grant: Reading, asked: Annotated[Question, Query()]) -> Response:
    """The search form, and the answer to a question."""

    def read() -> dict[str, object]:
        names, asked.collection = _collections(engine, grant, asked.collection)
        return {
            "asked": asked,
            "collections": names,
            "found": answer(engine, grant, asked.request()) if asked.q.strip() else None,
            "limits": LIMITS,
            "modes": get_args(SearchMode),
            "default_mode": engine.settings.search_mode,
            "media_types": sorted(MEDIA_TYPES),
        }

    return await made(request, engine, "search.html", read)


@router.get("/documents")
async def documents(
    request: Request,
    engine: EngineOf,
    grant: Reading,
    collection: Annotated[Plain, Query()] = "",
    state: State | Literal[""] = "",
    folder: Annotated[Plain, Query()] = "",
    after: Annotated[str, Query(max_length=64, pattern=r"^[0-9a-fA-F-]*$")] = "",
) -> Response:
    """The documents of a collection, page by page."""

    def read() -> dict[str, object]:
        names, chosen = _collections(engine, grant, collection)
        wanted = [("folder", folder)] if folder else []
        listed = api.listing(engine, grant, chosen, wanted, state, DOCUMENTS, after) if chosen else None
        asked = {"collection": chosen, "state": state, "folder": folder}
        return {"asked": asked, "states": get_args(State), "collections": names, "listed": listed}

    return await made(request, engine, "documents.html", read)


def _collections(engine: Engine, grant: Grant, asked: str) -> tuple[list[str], str]:
    """The collections to choose from, and the one that is chosen: the one asked for, the default, or any."""
    names = sorted(engine.collections(grant))
    default = engine.settings.collection
    if not asked and names:
        asked = default if default in names else names[0]
    return names, asked


@router.get("/documents/{document}")
async def document(
    request: Request,
    engine: EngineOf,
    grant: Reading,
    document: DocumentId,
    chunk: Annotated[int | None, Query(ge=0, le=10**9)] = None,
    after: Annotated[int, Query(ge=-1, le=10**9)] = -1,
    q: Annotated[str, Query(max_length=MAX_QUERY)] = "",
) -> Response:
    """A document: what is known of it, what of it did not become text, and its chunks, one of them marked."""
    first = after if chunk is None else max(-1, chunk - BEFORE - 1)

    def read() -> dict[str, object]:
        found = api.described(engine, grant, document, CHUNKS, first)
        earlier = max(-1, first - CHUNKS) if first >= 0 else None
        later = first + CHUNKS if first + CHUNKS + 1 < found.chunks else None
        return {**_chosen(found, chunk), "q": q, "earlier": earlier, "later": later}

    return await made(request, engine, "document.html", read)


def _chosen(found: DocumentResponse, chunk: int | None) -> dict[str, object]:
    """A document, its chunk that was asked for, and the pages to draw."""
    chosen = next((one for one in found.chunk_list if one.ordinal == chunk), None)
    pages: list[int] = []
    if found.media_type == PDF and found.searchable and chosen is not None and chosen.page_first is not None:
        pages = sorted({chosen.page_first, chosen.page_last or chosen.page_first})
    return {"document": found, "chosen": chosen, "pages": pages}


@router.get("/documents/{document}/pages/{number}")
async def picture(
    engine: EngineOf,
    grant: Reading,
    document: DocumentId,
    number: Annotated[int, Path(ge=1, le=10**6)],
    chunk: Annotated[int | None, Query(ge=0, le=10**9)] = None,
) -> Response:
    """A page of a PDF as PNG, with the text of a chunk marked on it."""
    drawn = await engine.run(lambda: _drawn(engine, grant, document, number, chunk))
    return Response(drawn, media_type="image/png")


def _drawn(engine: Engine, grant: Grant, document: str, number: int, chunk: int | None) -> bytes:
    found, _ = api.existing(engine, grant, document)
    if found.media_type != PDF or not found.indexed_hash:
        raise Refusal(404, "page_missing", "there is no picture of this document")
    chunks = api.described(engine, grant, document, 1, chunk - 1).chunk_list if chunk is not None else []
    lines = [line for one in chunks for line in one.text.split("\n")]
    with engine.staging.blob(found.indexed_hash) as path:
        return draw(path, number, lines)


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """A file of the page itself; nobody needs a token for it."""
    if name not in STATIC:
        raise Refusal(404, "not_found", "there is no such file")
    return Response((_FOLDER / name).read_bytes(), media_type=STATIC[name])
