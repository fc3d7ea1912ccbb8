"""The gate around the service: ids of requests, and limits of their number, size and time; with an application of the test's."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest

from pipeline.errors import StoreUnavailable
from pipeline.settings import Settings
from workers.api.limits import BODY_BYTES, App, Gate, Message, Meters, Receive, Scope, Send


def gate(app: App, **settings: Any) -> httpx.AsyncClient:
    around = Gate(app, Settings(**settings), Meters())
    return httpx.AsyncClient(transport=httpx.ASGITransport(around), base_url="http://localhost")


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the number of bytes of the body."""
    count, more = 0, True
    while more:
        message = await receive()
        count, more = count + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(count).encode()})


def problem(response: httpx.Response, status: int, code: str) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    assert body["request"] == response.headers["x-request-id"]
    return str(body["detail"])


def test_a_request_has_an_id_which_the_caller_may_give(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> list[str]:
        async with gate(echo) as client:
            answers = [
                await client.get("/x", headers=headers) for headers in ({}, {"x-request-id": "mine-7"}, {"x-request-id": "a b"})
            ]
            return [answer.headers["x-request-id"] for answer in answers]

    with caplog.at_level(logging.INFO, "workers.api"):
        first, second, third = asyncio.run(run())
    assert second == "mine-7"
    assert len(first) == len(third) == 16
    assert first != third
    assert "GET /x 200" in caplog.text
    assert "request mine-7" in caplog.text


def test_a_body_that_is_too_large_is_refused_declared_or_not() -> None:
    async def stream() -> Any:
        for _ in range(3):
            yield b"x" * (BODY_BYTES // 2)

    async def run() -> list[httpx.Response]:
        async with gate(echo, serve_upload_bytes=2 * BODY_BYTES) as client:
            form = {"content-type": "multipart/form-data; boundary=b"}
            return [
                await client.post("/v1/search", content=b"x" * BODY_BYTES),
                await client.post("/v1/search", content=b"x" * (BODY_BYTES + 1)),
                await client.post("/v1/search", content=stream()),
                await client.post("/v1/documents", content=stream(), headers=form),
                await client.post("/v1/documents", content=b"x" * (2 * BODY_BYTES + 1), headers=form),
            ]

    fits, declared, streamed, upload, large_upload = asyncio.run(run())
    assert (fits.text, upload.text) == (str(BODY_BYTES), str(BODY_BYTES // 2 * 3))
    assert "1.0 MB" in problem(declared, 413, "too_large")
    problem(streamed, 413, "too_large")
    assert "KB_SERVE_UPLOAD_BYTES" in problem(large_upload, 413, "too_large")


def test_more_requests_than_allowed_are_told_to_come_back() -> None:
    async def run() -> list[httpx.Response]:
        release, entered = asyncio.Event(), asyncio.Event()

        async def wait(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/slow":
                entered.set()
                await release.wait()
            await echo(scope, receive, send)

        async with gate(wait, serve_requests=1) as client:
            first = asyncio.create_task(client.get("/slow"))
            await entered.wait()
            others = [await client.get(path) for path in ("/v1/collections", "/livez", "/v1/jobs/3?wait=5")]
            release.set()
            return [await first, *others, await client.get("/v1/collections")]

    first, refused, alive, waiting, afterwards = asyncio.run(run())
    assert {first.status_code, alive.status_code, waiting.status_code, afterwards.status_code} == {200}
    assert "KB_SERVE_REQUESTS" in problem(refused, 429, "too_many_requests")
    assert refused.headers["retry-after"] == "1"


def test_a_request_that_takes_too_long_is_given_up_but_not_one_that_waits_for_a_job() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.2)
        await echo(scope, receive, send)

    async def run() -> list[httpx.Response]:
        async with gate(slow, serve_timeout_s=0.05) as client:
            return [await client.get("/v1/collections"), await client.get("/v1/jobs/1")]

    given_up, waited = asyncio.run(run())
    assert "KB_SERVE_TIMEOUT_S" in problem(given_up, 504, "timeout")
    assert waited.status_code == 200


def test_a_client_that_sends_nothing_more_is_given_up() -> None:
    async def run() -> list[Message]:
        sent: list[Message] = []

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/documents", "headers": [(b"content-type", b"multipart/form-data")]}
        await Gate(echo, Settings(serve_timeout_s=0.05), Meters())(scope, receive, send)
        return sent

    start, body = asyncio.run(run())
    assert start["status"] == 408
    assert json.loads(body["body"])["code"] == "timeout"


def test_an_error_outside_of_the_application_is_a_problem_too(caplog: pytest.LogCaptureFixture) -> None:
    async def run(error: Exception) -> httpx.Response:
        async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
            raise error

        async with gate(fail) as client:
            return await client.get("/v1/collections")

    away = asyncio.run(run(StoreUnavailable("Qdrant at http://x does not answer")))
    assert problem(away, 503, "store_unavailable") == "Qdrant at http://x does not answer"
    assert int(away.headers["retry-after"]) > 0
    broken = asyncio.run(run(RuntimeError("secret detail")))
    assert "secret detail" not in problem(broken, 500, "internal")
    assert "secret detail" in caplog.text
