"""Errors as `application/problem+json` (RFC 9457), with the sentences that the command line prints."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from pipeline import errors
from pipeline.telemetry.context import current
from pipeline.text import one_line, well_formed

log = logging.getLogger(__name__)

#: Seconds after which a client may repeat a request that a temporary error has ended.
RETRY_AFTER_S = 2

#: Statuses of our errors, the most special class first; others are ours to fix.
STATUSES: Sequence[tuple[type[errors.KbError], HTTPStatus]] = (
    (errors.CollectionMissing, HTTPStatus.NOT_FOUND),
    (errors.CollectionMismatch, HTTPStatus.CONFLICT),
    (errors.SourceBusy, HTTPStatus.CONFLICT),
    (errors.NoSpace, HTTPStatus.INSUFFICIENT_STORAGE),
    (errors.TransientError, HTTPStatus.SERVICE_UNAVAILABLE),
    (errors.FilterError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.ConfigError, HTTPStatus.BAD_REQUEST),
    (errors.SourceError, HTTPStatus.BAD_REQUEST),
    (errors.DocumentError, HTTPStatus.UNPROCESSABLE_ENTITY),
)


class Problem(BaseModel):
    """What went wrong."""

    type: str = "about:blank"
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no collection 'letters'; existing: 'documents'"])
    code: str = Field(examples=["collection_missing"], description="stable name of the error, for programs")
    request: str = Field("", examples=["7f2c1d90a3b64e0f"], description="id of the request, as in the service's log lines")


class Refusal(HTTPException):
    """A request that is refused; made where the reason is known. FastAPI lets no other exception pass while it reads a body."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.code = code


class ProblemResponse(Response):
    """A response with a problem."""

    media_type = "application/problem+json"

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        body = Problem(
            title=HTTPStatus(status).phrase, status=status, detail=well_formed(detail), code=code, request=current().request or ""
        )
        super().__init__(json.dumps(body.model_dump()), status, dict(headers or {}))
        self.code = code
        self.detail = detail


def of_refusal(refusal: Refusal) -> ProblemResponse:
    """The response to a refused request."""
    return ProblemResponse(refusal.status_code, refusal.code, refusal.detail, refusal.headers)


def of_error(error: Exception) -> ProblemResponse:
    """The response to an error of the library, or to a fault of the service, whose text stays in the log."""
    for kind, status in STATUSES:
        if isinstance(error, kind):
            headers = {"Retry-After": str(RETRY_AFTER_S)} if isinstance(error, errors.TransientError) else {}
            if status >= 500:
                log.warning("%s", error)
            return ProblemResponse(status, code_of(error), one_line(str(error)), headers)
    if isinstance(error, errors.KbError):
        log.error("%s", error)
        return ProblemResponse(500, code_of(error), one_line(str(error)))
    log.error("%s: %s", type(error).__name__, error, exc_info=error)
    return ProblemResponse(500, "internal", "the service failed at this; its log has the reason, under this request's id")


def of(error: Exception) -> ProblemResponse:
    """The response to any exception that an endpoint raises."""
    if isinstance(error, Refusal):
        return of_refusal(error)
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
    return _of_http(error) if isinstance(error, HTTPException) else of_error(error)


def code_of(error: Exception) -> str:
    """`CollectionMissing` as `collection_missing`; a filter that does not fit is `invalid`, as other parts of a request are."""
    if isinstance(error, errors.FilterError):
        return "invalid"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()


def install(app: FastAPI, forms: Mapping[str, Callable[[ProblemResponse], Response]]) -> None:
    """Answer all errors of the application as problems; on some paths in another form."""

    def handle(kind: type[Exception]) -> None:
        async def handler(request: Request, error: Exception) -> Response:
            found = of(error)
            form = forms.get(request.url.path)
            return found if form is None else form(found)

        app.add_exception_handler(kind, handler)

    for kind in (Refusal, errors.KbError, Exception, RequestValidationError, HTTPException):
        handle(kind)


def _of_validation(error: RequestValidationError) -> ProblemResponse:
    return ProblemResponse(422, "invalid", told(error.errors()))


def _of_http(error: HTTPException) -> ProblemResponse:
    """The response to an error of the framework, such as an unknown path."""
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    return ProblemResponse(error.status_code, code, str(error.detail), error.headers)


def told(faults: Sequence[Any]) -> str:
    """`query: Field required; limit: Input should be less than or equal to 100`."""
    places = ("body", "query", "path", "header", "cookie")
    lines = []
    for fault in faults[:5]:
        place = ".".join(str(part) for number, part in enumerate(fault["loc"]) if number or part not in places)
        lines.append(f"{place}: {fault['msg']}" if place else str(fault["msg"]))
    return one_line("; ".join(lines))


#: The errors that any endpoint may answer with, for the OpenAPI description.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for status, text in (
        (400, "The request contradicts the configuration or itself"),
        (401, "A token is missing or wrong"),
        (403, "The token may not do this"),
        (404, "There is no such thing, or none for this token"),
        (409, "Something else stands in the way"),
        (413, "The body is too large"),
        (422, "A value is not as it should be"),
        (429, "Too many requests at once"),
        (503, "A part of the service does not answer now"),
        (504, "It took too long"),
    )
}
