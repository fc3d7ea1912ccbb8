"""The outermost part of the service: ids and log lines of requests, and limits of their number, size and time."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pipeline.settings import Settings
from pipeline.telemetry.context import about
from pipeline.text import size
from workers.api.problems import ProblemResponse, Refusal, of_error, of_refusal

log = logging.getLogger("workers.api")

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Requests that are always let in, so that an overloaded service is not taken for a dead one.
ALWAYS = ("/livez", "/readyz", "/metrics")

#: Maximum bytes of a body that is not an upload.
BODY_BYTES = 1 << 20

#: Methods and paths of uploads, which have a limit of their own and no limit of time, but one for each wait for more bytes.
UPLOADS = (("POST", "/v1/documents"), ("POST", "/upload"))

#: Paths whose requests wait for work to be done, and therefore hold no place among the requests that are worked on.
_WAITING = re.compile(r"/v1/jobs/[^/]+(?:/events)?|/jobs/[^/]+/events")

#: Waiting requests per place for other ones.
WAITERS_A_PLACE = 4

#: Header of a request's id; a caller may give its own.
REQUEST_ID = "x-request-id"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Meters:
    """The figures of one service process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels, registry = ["route", "status"], self.registry
        seconds = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30)
        self.requests = Counter("kb_ingest_http_requests", "Requests by route and status", labels, registry=registry)
        self.seconds = Histogram(
            "kb_ingest_http_request_seconds", "Time of requests", labels[:1], buckets=seconds, registry=registry
        )
        self.running = Gauge("kb_ingest_http_requests_running", "Requests that are worked on", registry=registry)
        self.together = Histogram(
            "kb_ingest_query_batch_size", "Questions in one call of the model", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )


class Gate:
    """An ASGI application around the service's own."""

    def __init__(self, app: App, settings: Settings, meters: Meters) -> None:
        self._app = app
        self._settings = settings
        self._meters = meters
        self._running = self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._settings)
        began = time.monotonic()
        with about(request=exchange.id):
            try:
                await self._limited(exchange)
            finally:
                took_s = time.monotonic() - began
                self._meters.requests.labels(exchange.route, exchange.status).inc()
                self._meters.seconds.labels(exchange.route).observe(took_s)
                level = logging.DEBUG if scope["path"] in ALWAYS else logging.INFO
                token = scope.get("state", {}).get("token", "")
                log.log(
                    level,
                    "%s %s %s in %.0f ms%s, request %s",
                    scope["method"],
                    scope["path"],
                    exchange.status,
                    1000 * took_s,
                    f" for {token}" if token else "",
                    exchange.id,
                )

    async def _limited(self, exchange: _Exchange) -> None:
        path = exchange.scope["path"]
        waits = _WAITING.fullmatch(path) is not None and exchange.scope["method"] == "GET"
        if path in ALWAYS:
            await self._timed(exchange, self._settings.serve_timeout_s)
            return
        places = self._settings.serve_requests * (WAITERS_A_PLACE if waits else 1)
        if (self._waiting if waits else self._running) >= places:
            detail = f"{places} requests are being worked on, more than KB_SERVE_REQUESTS allows; repeat it in a second"
            await exchange.answer(ProblemResponse(429, "too_many_requests", detail, {"Retry-After": "1"}))
            return
        self._count(1, waits=waits)
        try:
            await self._timed(exchange, None if waits or exchange.is_upload else self._settings.serve_timeout_s)
        finally:
            self._count(-1, waits=waits)

    def _count(self, change: int, *, waits: bool) -> None:
        if waits:
            self._waiting += change
        else:
            self._running += change
            self._meters.running.set(self._running)

    async def _timed(self, exchange: _Exchange, timeout_s: float | None) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._app(exchange.scope, exchange.receive, exchange.send)
        except TimeoutError:
            detail = f"this took longer than {timeout_s:g} s (KB_SERVE_TIMEOUT_S)"
            await exchange.answer(ProblemResponse(504, "timeout", detail, {"Retry-After": "5"}))
        except Refusal as refusal:  # by our own receive, inside of the application
            await exchange.answer(of_refusal(refusal))
        except Exception as error:  # answered and logged by the application, unless it came from around it
            if not exchange.started:
                await exchange.answer(of_error(error))


class _Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: Settings) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._timeout_s = settings.serve_timeout_s
        headers = dict(scope["headers"])
        given = headers.get(REQUEST_ID.encode(), b"").decode("latin-1")
        self.id = given if _ID.fullmatch(given) else uuid.uuid4().hex[:16]
        is_form = headers.get(b"content-type", b"").startswith(b"multipart/")
        self.is_upload = is_form and (scope["method"], scope["path"]) in UPLOADS
        self._most = settings.serve_upload_bytes if self.is_upload else BODY_BYTES
        self._read = 0
        self._complete = False
        self._declared = headers.get(b"content-length", b"0")
        self.status = 499  # unless something is sent: the client has gone
        self.started = False

    @property
    def route(self) -> str:
        """The path as the application declares it, without the ids in it; one name for all unknown paths."""
        route = self.scope.get("route")
        return str(getattr(route, "path", "other"))

    async def receive(self) -> Message:
        """The next message of the client. Raises Refusal for too much, or too slow."""
        if self._declared.isdigit() and int(self._declared) > self._most:
            raise self._too_large()
        if self._complete:  # what comes now is the end of the connection
            return await self._receive()
        try:
            async with asyncio.timeout(self._timeout_s):
                message = await self._receive()
        except TimeoutError as error:
            raise Refusal(408, "timeout", f"no byte of the body came for {self._timeout_s:g} s (KB_SERVE_TIMEOUT_S)") from error
        self._read += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._read > self._most:
            raise self._too_large()
        return message

    def _too_large(self) -> Refusal:
        limit = "KB_SERVE_UPLOAD_BYTES allows" if self.is_upload else "a request may have"
        return Refusal(413, "too_large", f"the body has more than the {size(self._most)} that {limit}", {"Connection": "close"})

    async def send(self, message: Message) -> None:
        """Send a message to the client."""
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", []),
                (REQUEST_ID.encode(), self.id.encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
            ]
        await self._send(message)

    async def answer(self, response: ProblemResponse) -> None:
        """Send a response, unless another one has begun."""
        if not self.started:
            await response(self.scope, self._receive, self.send)
