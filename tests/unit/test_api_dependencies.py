"""What FastAPI does before an endpoint's own work."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from workers.api import dify, documents, events, fields, jobs, search
from workers.api.page import loads, views, visitor


@pytest.mark.parametrize("router", [one.router for one in (search, fields, documents, events, jobs, dify, views, loads, visitor)])
def test_no_dependency_takes_a_thread(router: APIRouter) -> None:
    """FastAPI runs plain functions in threads: each request would wait for one, and for the interpreter lock."""
    routes = [route for route in router.routes if isinstance(route, APIRoute)]
    assert routes
    found = [call for route in routes for call in _dependencies(route.dependant)]
    assert [
        call for call in found if not inspect.iscoroutinefunction(call if inspect.isfunction(call) else type(call).__call__)
    ] == []


def _dependencies(dependant: Dependant) -> Iterator[object]:
    for one in dependant.dependencies:
        yield one.call
        yield from _dependencies(one)
