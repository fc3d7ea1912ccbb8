"""`/jobs` and `/upload`: files are sent, and loads are watched to their end."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from pipeline.filters import shown as texts_of
from workers.api.access import EngineOf
from workers.api.documents import received
from workers.api.jobs import JobId, cancelled, recent, stream, visible
from workers.api.page.render import PageRoute, made
from workers.api.page.visitor import Reading, Writing

router = APIRouter(route_class=PageRoute, include_in_schema=False)

#: Jobs in the list.
JOBS = 50


@router.get("/jobs")
async def jobs(request: Request, engine: EngineOf, grant: Reading) -> Response:
    """The form that sends files, and the last loads."""

    def read() -> dict[str, object]:
        return {
            "jobs": recent(engine, grant, JOBS),
            "collections": sorted(engine.collections(grant)),
            "default": engine.settings.collection,
            "filters": texts_of(grant.filters),
        }

    return await made(request, engine, "jobs.html", read)


@router.post("/upload")
async def upload(request: Request, response: Response, engine: EngineOf, grant: Writing) -> Response:
    """Load the files of a form, and show the job."""
    job = await received(request, response, engine, grant)
    return RedirectResponse(f"/jobs/{job.id}", 303)


@router.get("/jobs/{job}")
async def job(request: Request, engine: EngineOf, grant: Reading, job: JobId) -> Response:
    """A load; a script of the page asks for it again at each of its events."""
    return await made(request, engine, "job.html", lambda: {"job": visible(engine, grant, job)})


@router.get("/jobs/{job}/events")
async def events(request: Request, engine: EngineOf, grant: Reading, job: JobId) -> Response:
    """An event for each change of a load."""
    return await stream(request, engine, grant, job)


@router.post("/jobs/{job}/cancel")
async def cancel(engine: EngineOf, grant: Writing, job: JobId) -> Response:
    """Cancel a load."""
    await engine.run(lambda: cancelled(engine, grant, job))
    return RedirectResponse(f"/jobs/{job}", 303)
