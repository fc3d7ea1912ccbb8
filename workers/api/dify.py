"""`POST /retrieval`: what Dify asks of an external knowledge base. The knowledge id is the name of a collection."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from pipeline.filters import All, Bare, Either, Node, Not, Op, equals, field_name, tree
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

#: Operators of a condition with one value, as conditions of ours.
_SIGNS = {
    "is": Op.IN,
    "=": Op.IN,
    "is not": Op.IN,
    "\u2260": Op.IN,
    "start with": Op.BEGINS,
    "<": Op.LESS,
    "\u2264": Op.AT_MOST,
    ">": Op.MORE,
    "\u2265": Op.AT_LEAST,
    "before": Op.LESS,
    "after": Op.MORE,
}


class Condition(BaseModel):
    """A condition on a field of the metadata."""

    name: Plain | list[Plain] = Field(description="a field; older versions of Dify send a list", examples=["folder"])
    comparison_operator: Plain = Field(description="such as `is`, `is not`, `start with`, `in`, `<`, `empty`", examples=["is"])
    value: Plain | float | list[Plain] | None = Field(None, examples=["/srv/handbook"])


class Conditions(BaseModel):
    """Conditions, joined by `and` or `or`."""

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
        found = ask(engine, grant, asked.knowledge_id, asked.query, setting.top_k, [_filter(asked.metadata_condition)])
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
        **hit.metadata,
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


def _filter(wanted: Conditions | None) -> Node:
    """The conditions as a filter. Raises Refusal for those that the stores cannot apply: results without them would be wrong."""
    if wanted is None:
        return All()
    parts = tuple(_condition(one) for one in wanted.conditions)
    return Either(parts) if wanted.logical_operator == "or" and parts else All(parts)


def _condition(wanted: Condition) -> Node:
    names = wanted.name if isinstance(wanted.name, list) else [wanted.name]
    sign, value = wanted.comparison_operator, wanted.value
    if len(names) != 1:
        raise Refusal(400, "unsupported", f"a condition names one field, not {', '.join(names)!r}")
    name = field_name(names[0])
    if sign in ("empty", "not empty"):
        test: Node = tree.Condition(name, Op.EXISTS, (), names[0])
        return Not(test) if sign == "empty" else test
    given = value if isinstance(value, list) else [] if value is None else [value]
    values = tuple(Bare(one) if isinstance(one, str) else one for one in given)
    if sign in ("in", "not in") and values:
        test = tree.Condition(name, Op.IN, values, names[0])
        return Not(test) if sign == "not in" else test
    if sign not in _SIGNS or isinstance(value, list) or not values:
        raise Refusal(400, "unsupported", f"cannot compare {names[0]} by {sign!r}; use {', '.join(_SIGNS)}, in, not in or empty")
    if sign in ("is not", "\u2260"):
        return Not(equals(name, values[0], names[0]))
    if _SIGNS[sign] is Op.BEGINS:
        return tree.Condition(name, Op.BEGINS, (str(value),), names[0])
    return equals(name, values[0], names[0]) if _SIGNS[sign] is Op.IN else tree.Condition(name, _SIGNS[sign], values, names[0])
