"""The application: its endpoints, its errors, and what stands around them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.metadata import version

from fastapi import APIRouter, FastAPI

from workers.api import dify, documents, events, fields, health, jobs, search
from workers.api.access import Keys
from workers.api.engine import Engine
from workers.api.limits import App, Gate
from workers.api.page import loads, views, visitor
from workers.api.problems import Problem, install

DESCRIPTION = """\
Search what kb-ingest has loaded, load more, and watch it being loaded.

Errors are problems (RFC 9457, `application/problem+json`) whose `detail` is the sentence that the command line prints.
"""


def make_app(engine: Engine, local_key: str, stopping: asyncio.Event, more: Sequence[APIRouter] = ()) -> App:
    """The service over an engine. `local_key` opens everything to commands of the user who runs it.

    `more` are endpoints of rooms above this one. `stopping` is set when the service is about to stop: requests that wait for
    something end then.
    """
    app = FastAPI(title="kb-ingest", version=version("kb-ingest"), description=DESCRIPTION, docs_url=None, redoc_url=None)
    app.state.engine = engine
    app.state.keys = Keys(engine, local_key)
    app.state.stopping = stopping
    install(app, {dify.PATH: dify.fault})
    rooms = (search, fields, documents, events, jobs, dify, health, views, loads, visitor)
    for router in (*(room.router for room in rooms), *more):
        app.include_router(router)
    _describe_problems(app)
    return Gate(app, engine.settings, engine.meters)


def _describe_problems(app: FastAPI) -> None:
    """Add the problem's schema, which responses name but no endpoint returns, to the OpenAPI description."""
    made = app.openapi

    def described() -> dict[str, object]:
        found = made()
        schemas = found.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        return found

    app.openapi = described  # type: ignore[method-assign]
