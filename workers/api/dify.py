"""`POST /retrieval`: what Dify asks of an external knowledge base. The knowledge id is the name of a collection."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from pipeline.filters import FILTER_KEYS, PREFIX_FIELDS
from pipeline.types import Hit, SearchMode
from workers.api import MAX_LIMIT
from workers.api.access import EngineOf, Reader
from workers.api.models import Plain
from workers.api.problems import ProblemResponse, Refusal
from workers.api.search import Found, ask

router = APIRouter(tags=["dify"])

#: Path of the endpoint; Dify appends it to the URL that it is given.
PATH = "/retrieval"

#: Dify's error codes, by ours.
CODES = {
    "bad_header": 1001,
    "unauthorized": 1002,
    "forbidden": 1002,
    "foreign_host": 1002,
    "foreign_origin": 1002,
    "collection_missing": 2001,
}

#: The code of other errors.
OTHER = 5000

#: Operators of conditions that both stores can apply, by the form of the filter they become.
_IS = ("is", "=")
_STARTS = "start with"


class Condition(BaseModel):
    """A condition on a field of the metadata."""

    name: Plain | list[Plain] = Field(description="a field; older versions of Dify send a list", examples=["folder"])
    comparison_operator: Plain = Field(description="`is`, `=` or `start with`", examples=["is"])
    value: Plain | float | list[Plain] | None = Field(None, examples=["/srv/handbook"])


class Conditions(BaseModel):
    """Conditions, joined by `and`."""

    logical_operator: Literal["and", "or"] | None = "and"
    conditions: list[Condition] = Field(default_factory=list, max_length=20)


class Setting(BaseModel):
    """How much is wanted."""

    top_k: int = Field(ge=1, le=MAX_LIMIT, examples=[5])
    score_threshold: float = Field(ge=0, le=1, examples=[0.5])


class Retrieval(BaseModel):
    """Dify's request."""

    knowledge_id: Plain = Field(min_length=1, description="name of a collection", examples=["documents"])
    query: str = Field(min_length=1, examples=["how long is the notice period"])
    retrieval_setting: Setting
    metadata_condition: Conditions | None = None


class Record(BaseModel):
    """A chunk as Dify reads it."""

    content: str
    score: float = Field(ge=0, le=1)
    title: str
    metadata: dict[str, Any]


class Records(BaseModel):
    """Dify's response."""

    records: list[Record]


class Fault(BaseModel):
    """An error as Dify shows it."""

    error_code: int = Field(examples=[2001])
    error_msg: str = Field(examples=["there is no collection 'letters'; existing: 'documents'"])


@router.post(PATH, responses={status: {"model": Fault, "description": "Refused"} for status in (400, 403, 404, 422, 429, 503, 504)})
async def retrieval(asked: Retrieval, engine: EngineOf, grant: Reader) -> Records:
    """Answer Dify's question from a collection."""
    setting = asked.retrieval_setting

    def read() -> Records:
        found = ask(engine, grant, asked.knowledge_id, asked.query, setting.top_k, _filters(asked.metadata_condition))
        records = [_record(hit, found) for hit in found.hits]
        return Records(records=[record for record in records if record.score >= setting.score_threshold])

    return await engine.run(read)


def relative(score: float, mode: SearchMode | None) -> float:
    """A score between 0 and 1, which Dify's thresholds are compared with; `mode` is None for a reranker's.

    dense: the cosine, 0 if it is negative. hybrid and a reranker's: as it is. sparse: BM25 has no upper bound, so half of the
    range is used up at a score of 10, which a few shared words give.
    """
    return score / (score + 10) if mode == "sparse" else min(1.0, max(0.0, score))


def fault(problem: ProblemResponse) -> Response:
    """Dify's form of a problem; it knows a wrong key by 403."""
    status = 403 if problem.status_code == 401 else problem.status_code
    body = Fault(error_code=CODES.get(problem.code, OTHER), error_msg=problem.detail)
    return JSONResponse(
        body.model_dump(), status, {name: value for name, value in problem.headers.items() if name == "retry-after"}
    )


def _record(hit: Hit, found: Found) -> Record:
    known = {
        "document_id": hit.document_id,
        "chunk_id": hit.chunk_id,
        "uri": hit.uri,
        "heading_path": list(hit.heading_path),
        "page_first": hit.page_first,
        "page_last": hit.page_last,
    }
    metadata = {name: value for name, value in known.items() if value not in (None, [])}
    return Record(
        content=hit.text,
        score=relative(hit.score, None if found.results.reranked else found.mode),
        title=hit.title,
        metadata=metadata,
    )


def _filters(wanted: Conditions | None) -> list[tuple[str, str]]:
    """The conditions as filters. Raises Refusal for those that the stores cannot apply: results without them would be wrong."""
    if wanted is None or not wanted.conditions:
        return []
    if wanted.logical_operator == "or" and len(wanted.conditions) > 1:
        raise Refusal(400, "unsupported", "conditions can be joined by `and` only")
    found = []
    for condition in wanted.conditions:
        names = condition.name if isinstance(condition.name, list) else [condition.name]
        operator, value = condition.comparison_operator, condition.value
        if len(names) != 1 or names[0] not in FILTER_KEYS:
            raise Refusal(400, "unsupported", f"cannot filter by {', '.join(names)!r}; use one of {', '.join(FILTER_KEYS)}")
        if not isinstance(value, str) or not (operator in _IS or (operator == _STARTS and names[0] in PREFIX_FIELDS)):
            raise Refusal(
                400, "unsupported", f"cannot compare {names[0]} by {operator!r}; use `is`, or `start with` for uri and folder"
            )
        found.append((names[0], value + "*" if operator == _STARTS else value))
    return found
