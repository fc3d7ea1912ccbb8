"""Requests made from the service's own OpenAPI description: none of them is answered by a fault of the service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error

from tests.serving import Service, one_document, token

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: Requests of each endpoint.
EXAMPLES = 25


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with one_document(tmp_path_factory.mktemp("schema")) as cli, Service(cli) as running:
        yield running
    assert "Traceback" not in running.said


@pytest.fixture(scope="module")
def headers(service: Service) -> dict[str, str]:
    """Not an administrator's: made-up URIs must not load folders of this machine."""
    return {"Authorization": f"Bearer {token(service.cli, 'fuzzer', '--scopes', 'search,ingest')}"}


@pytest.fixture(scope="module")
def described(service: Service) -> Any:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


def test_no_request_breaks_the_service(described: Any, headers: dict[str, str]) -> None:
    for found in described.get_all_operations():
        operation = found.ok()

        @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            if case.query and "wait" in case.query:  # a test of minutes would find nothing more
                case.query["wait"] = 0
            case.call_and_validate(headers=headers, checks=[not_a_server_error], timeout=120)

        ask()


def test_every_endpoint_has_examples_and_problems(described: Any, service: Service) -> None:
    text = described.raw_schema
    for path, methods in text["paths"].items():
        for method, operation in methods.items():
            assert operation["description"] or operation["summary"], (method, path)
            if path.startswith("/v1/"):
                answer = operation["responses"]["404"]["content"]["application/problem+json"]
                assert answer["schema"]["$ref"].endswith("/Problem")
    shapes = text["components"]["schemas"]
    for name in ("SearchRequest", "Problem", "JobOut", "Retrieval"):
        assert "examples" in str(shapes[name]), name
