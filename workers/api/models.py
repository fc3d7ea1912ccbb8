"""What requests and responses of the service look like, with the examples of its OpenAPI description."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pipeline.filters import FieldType
from pipeline.filters.language import MAX_CHARACTERS
from pipeline.types import Refinement, SearchMode
from workers.api import MAX_LIMIT

#: A name or value that can be stored: no NUL, which ends texts in PostgreSQL.
Plain = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]

#: Parts of a hit that a search can be limited to.
HitField = Literal[
    "score",
    "text",
    "title",
    "uri",
    "heading_path",
    "page_first",
    "page_last",
    "char_start",
    "char_end",
    "document_id",
    "chunk_id",
    "ordinal",
    "metadata",
    "matched_words",
    "highlights",
    "copies",
    "before",
    "after",
]

#: Maximum number of neighbours on either side of a hit.
MAX_NEIGHBOURS = 10


class Strict(BaseModel):
    """A request: what is misspelt is an error."""

    model_config = ConfigDict(extra="forbid")


#: A filter as the command line has it.
FilterText = Annotated[
    str,
    StringConstraints(max_length=MAX_CHARACTERS, pattern=r"^[^\x00]*$"),
    Field(
        description="a condition, or several joined by and, or and not", examples=["year >= 2020 and folder ~ '/srv/handbook/*'"]
    ),
]

#: A filter as a text, or as an object.
FilterIn = Annotated[
    FilterText | dict[str, Any],
    Field(
        description="which documents may be found; see docs/filters.md",
        examples=[{"folder": "/srv/handbook*", "year": {">=": 2020}}, "year >= 2020 and folder ~ '/srv/handbook/*'"],
    ),
]


class SearchRequest(Strict):
    """A question."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "how long is the notice period", "limit": 5, "filter": {"folder": "/srv/handbook*"}}]
        }
    )

    query: str = Field(min_length=1, description="the question; up to KB_SERVE_QUERY_CHARS characters")
    collection: Plain | None = Field(None, description="default: KB_COLLECTION, or the only one")
    limit: int = Field(10, ge=1, le=MAX_LIMIT)
    mode: SearchMode | None = Field(None, description="by meaning, by words, or by both (default: KB_SEARCH_MODE)")
    filter: FilterIn | None = None
    fields: list[HitField] | None = Field(None, max_length=20, description="parts of each hit; default: all")
    neighbours: int = Field(0, ge=0, le=MAX_NEIGHBOURS, description="chunks before and after each hit")
    per_document: int | None = Field(None, ge=1, description="maximum number of hits of one document")
    min_score: float | None = Field(None, allow_inf_nan=False, description="leave out hits with a lower score")
    diversity: float = Field(0, ge=0, le=1, description="0: best first; up to 1: hits that differ from each other")
    rerank: bool = Field(True, description="use the reranker, if one is configured")

    def refinement(self) -> Refinement:
        """What is to be done with the best chunks."""
        return Refinement(**{name: getattr(self, name) for name in Refinement.__dataclass_fields__})


class HitOut(BaseModel):
    """A chunk that answers the question."""

    score: float | None = Field(None, description="of the mode, see docs/search.md; comparable within one response only")
    text: str | None = None
    title: str | None = None
    uri: str | None = Field(None, examples=["file:///srv/handbook/leaving.pdf"])
    heading_path: list[str] | None = Field(None, examples=[["Leaving", "Notice"]])
    page_first: int | None = None
    page_last: int | None = None
    char_start: int | None = Field(None, description="offset into the document's text, where its format has one")
    char_end: int | None = None
    document_id: str | None = None
    chunk_id: str | None = None
    ordinal: int | None = Field(None, description="place of the chunk in its document, from 0")
    metadata: dict[str, Any] | None = Field(None, description="of the document", examples=[{"year": 2024, "team": ["law"]}])
    matched_words: list[str] | None = Field(None, description="words of the question that the chunk contains")
    highlights: list[tuple[int, int]] | None = Field(None, description="start and end of each word of the question in `text`")
    copies: list[str] | None = Field(None, description="uris of other documents with the same text, which are no hits of their own")
    before: list[str] | None = Field(None, description="texts of the chunks before, in their order")
    after: list[str] | None = None


class SearchResponse(BaseModel):
    """The best chunks, best first."""

    collection: str
    mode: SearchMode
    reranked: bool = Field(description="whether the scores are a reranker's")
    note: str = Field(description="what could not be done, such as reranking; else empty")
    hits: list[HitOut]


class CollectionOut(BaseModel):
    """A collection, as far as the caller sees it."""

    name: str
    model: str
    dimension: int
    documents: int = Field(description="in any state but deleted")
    states: dict[str, int] = Field(examples=[{"indexed": 12, "quarantined": 1}])
    chunks: int = Field(description="that searches find")


class FieldOut(BaseModel):
    """A field of the documents of a collection."""

    name: str
    type: FieldType
    documents: int = Field(description="that have it")


class FieldsResponse(BaseModel):
    """What documents can be filtered by."""

    collection: str
    fields: list[FieldOut]


class ValueOut(BaseModel):
    """A value of a field."""

    value: str | bool | int | float
    documents: int = Field(description="that have it, alone or in a list")


class FacetResponse(BaseModel):
    """The values of a field, the most frequent first."""

    collection: str
    field: str
    type: FieldType
    values: list[ValueOut]
    distinct: int = Field(description="number of different values, of which `values` may be the first")
    least: str | int | float | None = Field(description="of numbers and times")
    greatest: str | int | float | None


class DocumentOut(BaseModel):
    """A document."""

    id: str
    uri: str
    title: str
    media_type: str
    size: int = Field(description="bytes")
    state: str = Field(description="pending, parsing, parsed, embedding, indexed, quarantined or skipped")
    reason: str = Field(description="why it is quarantined or skipped, as a code")
    detail: str
    searchable: bool = Field(description="whether searches find a version of it")
    chunks: int
    metadata: dict[str, Any] = Field(description="of the version that searches find", examples=[{"year": 2024, "team": ["law"]}])
    parent: str = Field(description="id of the document that contains this file; empty for others")
    updated_at: float = Field(description="seconds since the epoch")


class DocumentsResponse(BaseModel):
    """A page of documents, in the order of their ids."""

    collection: str
    documents: list[DocumentOut]
    next: str | None = Field(description="`after` of the next page; null at the end")


class LossOut(BaseModel):
    """Something in a document that did not become text."""

    kind: str
    place: str
    detail: str
    count: int


class ChunkOut(BaseModel):
    """A chunk of a document."""

    id: str
    ordinal: int
    text: str
    heading_path: list[str]
    page_first: int | None
    page_last: int | None
    char_start: int | None
    char_end: int | None


class DocumentResponse(DocumentOut):
    """A document with what is stored of it."""

    collection: str
    losses: list[LossOut]
    chunk_list: list[ChunkOut] = Field(description="chunks from `chunk_after` on, in order")


class LoadRequest(Strict):
    """Files to load from where the service can read them."""

    uri: Plain = Field(
        min_length=1, examples=["s3://bucket/folder"], description="a folder or file of the service's host, or a URL"
    )
    collection: Plain | None = Field(None, description="default: KB_COLLECTION; made if it does not exist")


class JobOut(BaseModel):
    """A load that the service was asked for."""

    id: int
    collection: str
    status: Literal["running", "done", "partly", "failed", "refused", "cancelled"] = Field(
        description="partly: some documents are quarantined"
    )
    detail: str
    started_at: float
    finished_at: float | None
    documents: int = Field(description="that it contains")
    states: dict[str, int] = Field(examples=[{"pending": 3, "indexed": 9}])
    failures: list[dict[str, str]] = Field(description="the first quarantined documents: uri, reason and detail")


class Health(BaseModel):
    """Whether the service can answer."""

    status: Literal["ready", "not ready"]
    parts: dict[str, str] = Field(examples=[{"ledger": "ok", "store": "ok", "broker": "ok", "model": "ok"}])
