"""`/livez`, `/readyz` and `/metrics`: is the service alive, can it answer, and how much does it?"""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from workers.api.access import EngineOf, Reader
from workers.api.models import Health
from workers.api.problems import RESPONSES

router = APIRouter(tags=["health"])


@router.get("/livez", response_class=Response)
async def livez() -> Response:
    """Say that the process answers. A process that does not should be restarted."""
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz", responses={503: {"model": Health, "description": "Not ready"}})
async def readyz(engine: EngineOf, response: Response) -> Health:
    """Say whether each part can be used. A service that is not ready should get no requests, but not be restarted."""
    parts = await engine.run(engine.readiness)
    ready = all(state == "ok" for state in parts.values())
    response.status_code = 200 if ready else 503
    return Health(status="ready" if ready else "not ready", parts=parts)


@router.get("/metrics", response_class=Response, responses=RESPONSES)
async def metrics(engine: EngineOf, _grant: Reader) -> Response:
    """Give the figures of this process to Prometheus; those of the whole deployment are at `kb-ingest metrics`."""
    return Response(generate_latest(engine.meters.registry), media_type=CONTENT_TYPE_LATEST)
