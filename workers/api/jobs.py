"""`/v1/jobs`: loads that the service was asked for; each is a run in the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse

from pipeline.ledger.runs import RunRow
from pipeline.ledger.tokens import Grant
from pipeline.types import DocumentState
from workers.api.access import EngineOf, Reader, Writer
from workers.api.engine import Engine
from workers.api.models import JobOut
from workers.api.problems import RESPONSES, Refusal

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=RESPONSES)

JobId = Annotated[int, Path(ge=1, le=2**31 - 1)]

#: Seconds between two looks at a job that somebody waits for, and between two signs of life of a stream of events.
LOOK_EVERY_S, ALIVE_EVERY_S = 0.3, 15.0

#: Maximum seconds of `wait`.
MAX_WAIT_S = 60

#: Documents that a job names as failed.
FAILURES = 20


@router.get("")
async def jobs(engine: EngineOf, grant: Reader, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> list[JobOut]:
    """List the last jobs, the newest first."""

    return await engine.run(lambda: recent(engine, grant, limit))


@router.get("/{job}")
async def job(
    request: Request, engine: EngineOf, grant: Reader, job: JobId, wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0
) -> JobOut:
    """Read a job; with `wait`, as soon as it has ended, or after that many seconds."""
    until = time.monotonic() + wait
    while True:
        found = await engine.run(lambda: visible(engine, grant, job))
        left_s = until - time.monotonic()
        if found.status != "running" or left_s <= 0 or request.app.state.stopping.is_set():
            return found
        await asyncio.sleep(min(LOOK_EVERY_S, left_s))


@router.get(
    "/{job}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "An event for each change"}},
)
async def events(request: Request, engine: EngineOf, grant: Reader, job: JobId) -> StreamingResponse:
    """Follow a job: an event `job` with its data for each change, until it has ended."""
    return await stream(request, engine, grant, job)


@router.post("/{job}/cancel")
async def cancel(engine: EngineOf, grant: Writer, job: JobId) -> JobOut:
    """Cancel a job: documents that are not searchable yet are dropped; changed documents are finished."""

    return await engine.run(lambda: cancelled(engine, grant, job))


async def stream(request: Request, engine: Engine, grant: Grant, job: int) -> StreamingResponse:
    """The events of a job that exists for the caller; raises Refusal."""
    first = await engine.run(lambda: visible(engine, grant, job))
    return StreamingResponse(_follow(request, engine, first), media_type="text/event-stream")


def cancelled(engine: Engine, grant: Grant, job: int) -> JobOut:
    """Cancel a job that exists for the caller, unless it has ended; raises Refusal."""
    if visible(engine, grant, job).status == "running":
        engine.keeper.cancel(job)
    return shown(engine, job)


async def _follow(request: Request, engine: Engine, found: JobOut) -> AsyncIterator[str]:
    told, told_at = "", time.monotonic()
    look = partial(shown, engine, found.id)
    while True:
        said = found.model_dump_json()
        if said != told:
            told, told_at = said, time.monotonic()
            yield f"event: job\ndata: {said}\n\n"
        elif time.monotonic() - told_at > ALIVE_EVERY_S:
            told_at = time.monotonic()
            yield ": \n\n"
        if found.status != "running" or request.app.state.stopping.is_set():
            return
        await asyncio.sleep(LOOK_EVERY_S)
        found = await engine.run(look)


def recent(engine: Engine, grant: Grant, limit: int) -> list[JobOut]:
    """The last jobs that exist for the caller, the newest first."""
    return [_out(engine, run) for run in engine.ledger.runs.asked(limit * 5) if _is_visible(run, grant)][:limit]


def shown(engine: Engine, number: int) -> JobOut:
    """A job by the number of its run."""
    run = engine.ledger.runs.get(number)
    assert run is not None
    return _out(engine, run)


def visible(engine: Engine, grant: Grant, number: int) -> JobOut:
    """A job that exists for the caller; raises Refusal."""
    run = engine.ledger.runs.get(number)
    if run is None or not _is_visible(run, grant):
        raise Refusal(404, "job_missing", "there is no job with this id")
    return _out(engine, run)


def _is_visible(run: RunRow, grant: Grant) -> bool:
    """Whether a run is a job of the caller, or the caller may see all."""
    if not run.token or run.action != "load":
        return False
    is_own = run.token == grant.name and run.started_at >= grant.since
    return is_own or (grant.allows("admin") and grant.sees(run.collection))


def _out(engine: Engine, run: RunRow) -> JobOut:
    states = engine.ledger.report.progress(run.id).states
    states.pop(DocumentState.DELETED, None)
    failures: list[dict[str, str]] = []
    if states.get(DocumentState.QUARANTINED):
        found = engine.ledger.report.failures(run.id, limit=FAILURES)
        failures = [{"uri": one.uri, "reason": one.reason, "detail": one.detail} for one in found]
    status: Any = run.outcome if run.finished_at is not None else "running"
    return JobOut(
        id=run.id,
        collection=run.collection,
        status=status,
        detail=run.detail,
        started_at=run.started_at,
        finished_at=run.finished_at,
        documents=sum(states.values()),
        states=states,
        failures=failures,
    )
