"""`POST /mcp` of the service: Streamable HTTP without sessions, so that every request is answered for its own token."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from starlette.types import Message, Receive, Scope, Send

from pipeline.ledger.tokens import EVERYTHING, Grant
from workers.api import MCP_PATH
from workers.api.access import LOCAL, EngineOf, Reader
from workers.api.engine import Engine
from workers.api.limits import BODY_BYTES

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

#: Names of this host; a caller without a token may use no other.
NAMES = ("localhost", "127.0.0.1", "[::1]")


def make_router(*, allow_write: bool) -> APIRouter:
    """The endpoint. `allow_write`: tokens with the scope ingest have the tool `ingest`."""
    router = APIRouter(include_in_schema=False)

    @router.post(MCP_PATH)
    async def mcp(request: Request, engine: EngineOf, grant: Reader) -> Response:
        body = await request.body()
        # In a thread: the first request imports the SDK, which takes a second.
        manager = await engine.run(lambda: _manager(engine, grant, request.headers.get("host", ""), allow_write=allow_write))
        return _Answered(manager, body)

    return router


def _manager(engine: Engine, grant: Grant, host: str, *, allow_write: bool) -> StreamableHTTPSessionManager:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings

    from workers.mcp.local import Local
    from workers.mcp.server import make_server

    hosts = [form for name in (*NAMES, engine.settings.host) for form in (name, f"{name}:*")]
    if grant.name != EVERYTHING.name:
        # A page whose name was made to point here has no token; a proxy in front of the service has a name of its own.
        hosts.append(host)
    return StreamableHTTPSessionManager(
        make_server(Local(engine, grant, may_write=_may_write(engine, grant, allow_write=allow_write))),
        json_response=True,
        stateless=True,
        security_settings=TransportSecuritySettings(
            allowed_hosts=hosts, allowed_origins=[f"{scheme}://{one}" for one in hosts for scheme in ("http", "https")]
        ),
        max_request_body_size=BODY_BYTES,
    )


def _may_write(engine: Engine, grant: Grant, *, allow_write: bool) -> bool:
    if grant.name == LOCAL:  # `kb-ingest mcp` of the service's own user, which has an option of its own
        return not engine.ledger.tokens.any()
    return allow_write and grant.name != EVERYTHING.name and grant.allows("ingest")


class _Answered(Response):
    """The SDK's response to a request whose body has been read."""

    def __init__(self, manager: StreamableHTTPSessionManager, body: bytes) -> None:
        super().__init__()
        self._manager = manager
        self._received = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the SDK answer. A manager serves this one request: it leaves nothing behind that another caller could meet."""
        async with self._manager.run():
            await self._manager.handle_request(scope, _again(self._received, receive), send)


def _again(body: bytes, receive: Receive) -> Callable[[], Any]:
    """What receives a body that has been read, and then the end of the connection."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return messages.pop() if messages else await receive()

    return received
