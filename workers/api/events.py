"""`/v1/events`: notifications of object stores, by which single objects of a source are loaded or removed at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response

from pipeline.errors import SourceError
from pipeline.filters import OWN_TYPES, bind, meets, tree_of
from pipeline.ledger.sources import Source
from pipeline.ledger.tokens import Grant
from pipeline.sources.discover import look
from pipeline.sources.events import Named, named
from pipeline.sources.uris import folder_of, is_remote, object_uri, root_uri, split_url
from pipeline.steps.scope import Scope, lies_below
from workers.api.access import EngineOf, Writer
from workers.api.engine import Engine
from workers.api.jobs import shown
from workers.api.models import JobOut, Plain
from workers.api.problems import RESPONSES, Refusal
from workers.jobs.sources import Job, source_job

router = APIRouter(tags=["documents"], responses=RESPONSES)

#: Objects that a store is asked for at once.
LOOKS = 16

_EXAMPLE = {
    "Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "company"}, "object": {"key": "handbook/leave.md"}}}]
}


@router.post(
    "/v1/events",
    status_code=202,
    response_model=JobOut,
    responses={204: {"description": "The notification names no object of the source", "model": None}},
)
async def events(
    engine: EngineOf,
    grant: Writer,
    source: Annotated[Plain, Query(min_length=1, description="name of a source in an object store")],
    body: Annotated[dict[str, Any], Body(examples=[_EXAMPLE])],
) -> JobOut | Response:
    """Load or remove the objects of a source that a notification of S3, MinIO or Google Cloud Storage names.

    The store is asked what there is now, so a notification may come twice, late or out of order.
    """
    try:
        found = named(body)
    except ValueError as error:
        raise Refusal(422, "invalid", f"the body is no notification of an object store: {error}") from error

    def load() -> JobOut | Response:
        known, job = _source(engine, grant, source)
        uris = _wanted(grant, job, found)
        if not uris:
            return Response(status_code=204)
        return shown(engine, engine.keeper.load(known.collection, _job(grant, known, uris)))

    return await engine.run(load)


def _source(engine: Engine, grant: Grant, name: str) -> tuple[Source, Job]:
    """A source in an object store that exists for the caller, and the job of a sync of it. Raises Refusal."""
    known = engine.ledger.sources.get(name)
    if known is None or not grant.sees(known.collection):
        raise Refusal(404, "source_missing", f"there is no source {name!r}; `kb-ingest source add` makes one")
    known, job = source_job(engine.ledger, engine.settings, name)
    root = job.scope.roots[0]
    if not isinstance(root, str) or is_remote(root):
        raise Refusal(422, "invalid", f"the source {name!r} is in no object store; sync it, or watch it if it is a folder")
    return known, job


def _wanted(grant: Grant, job: Job, found: Sequence[Named]) -> list[str]:
    """URIs of the named objects that a sync of the source would load. Raises Refusal for one outside of the caller's filter."""
    scope, location = job.scope, str(job.scope.roots[0])
    protocol, root = split_url(location)[0], root_uri(location)
    uris = dict.fromkeys(object_uri(protocol, one.path) for one in found if protocol in one.protocols)
    wanted = [
        uri
        for uri in uris
        if lies_below(uri, root)
        and not scope.is_elsewhere(uri)
        and (uri == root or scope.patterns.wants(uri.removeprefix(f"{root}/")))
    ]
    for uri in wanted:
        if not meets(bind(tree_of(grant.filters), OWN_TYPES), {"uri": uri, "folder": folder_of(uri)}):
            raise Refusal(403, "forbidden", f"the token {grant.name!r} may not write {uri}, which its filter leaves out")
    return wanted


def _job(grant: Grant, known: Source, uris: Sequence[str]) -> Job:
    """The job that loads those of these objects that exist, and removes the documents of the others. Raises Refusal."""
    try:
        with ThreadPoolExecutor(min(LOOKS, len(uris)), "look") as pool:
            found = list(pool.map(look, uris))
    except SourceError as error:
        raise Refusal(503, "store_unavailable", str(error), {"Retry-After": "10"}) from error
    files = [file for file in found if file is not None]
    gone = [uri for uri, file in zip(uris, found, strict=True) if file is None]
    return Job(Scope([], files=files, gone=gone), source=known.name, records=known.records, token=grant.name)
