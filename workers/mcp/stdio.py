"""`kb-ingest mcp`: the protocol on stdin and stdout, answered by the service of the data folder if one runs."""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import mcp_types as types
from anyio import to_thread
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from pipeline.errors import ConfigError, ServiceRefused, ServiceUnavailable
from pipeline.ledger.tokens import SCOPES, Grant
from pipeline.settings import Settings
from workers.api.asking import Service, named_service, own_service
from workers.mcp.remote import Remote
from workers.mcp.server import make_server
from workers.mcp.source import Source, failed

if TYPE_CHECKING:
    from workers.api.engine import Engine

log = logging.getLogger(__name__)

T = TypeVar("T")


def serve(settings: Settings, url: str | None, *, allow_write: bool) -> None:
    """Serve one client until it closes stdin. Raises ConfigError for a token in KB_TOKEN that is wrong."""
    nearest = Nearest(settings, url, allow_write=allow_write)
    try:
        nearest.check()
        anyio.run(_serve, nearest)
    finally:
        nearest.close()


async def _serve(nearest: Nearest) -> None:
    server = make_server(nearest)
    async with anyio.create_task_group() as around:
        around.start_soon(_end_by_signal, nearest)
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
        around.cancel_scope.cancel()


async def _end_by_signal(nearest: Nearest) -> None:
    """End the process at SIGTERM or Ctrl-C. Its other end would be that of the thread which waits for stdin: nothing wakes that."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            nearest.close()
            os._exit(128 + number)


class Nearest:
    """A `Source` that asks the service, if one runs, at each request: a client may stay for days, and services come and go."""

    def __init__(self, settings: Settings, url: str | None, *, allow_write: bool) -> None:
        self._settings = settings
        self._url = url
        self._allow_write = allow_write
        self._engine: Engine | None = None
        self._opening = threading.Lock()

    def check(self) -> None:
        """Open what is needed if no service runs, so that a wrong configuration ends the command and not the first request."""
        if self._service() is None:
            self._local()

    def close(self) -> None:
        """Release the engine, if one was opened."""
        if self._engine is not None:
            self._engine.close()

    async def tools(self) -> types.ListToolsResult:
        """See Source."""
        return await self._ask(lambda source: source.tools())

    async def call(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        """See Source."""
        try:
            return await self._ask(lambda source: source.call(name, arguments))
        except _Failed as error:
            return failed(error.message)

    async def resources(self, cursor: str | None) -> types.ListResourcesResult:
        """See Source."""
        return await self._ask(lambda source: source.resources(cursor))

    async def read(self, uri: str) -> types.ReadResourceResult:
        """See Source."""
        return await self._ask(lambda source: source.read(uri))

    async def _ask(self, ask: Callable[[Source], Awaitable[T]]) -> T:
        service = self._service()
        try:
            if service is not None:
                try:
                    return await ask(Remote(service, may_write=self._allow_write))
                except ServiceUnavailable:
                    if not service.is_ours:  # ours may have been killed a moment ago
                        raise
            return await ask(await to_thread.run_sync(self._local))
        except (ServiceUnavailable, ServiceRefused, ConfigError) as error:
            raise _Failed(types.INTERNAL_ERROR, str(error)) from error

    def _service(self) -> Service | None:
        if self._url is not None:
            return named_service(self._settings, self._url)
        service, token = own_service(self._settings), self._settings.token.get_secret_value()
        return dataclasses.replace(service, token=token) if service is not None and token else service

    def _local(self) -> Source:
        # Imported here: while a service answers, its parts are not needed.
        from workers.api.access import LOCAL, UNKNOWN, Keys
        from workers.api.engine import Engine
        from workers.mcp.local import Local

        with self._opening:
            if self._engine is None:
                self._engine = Engine(self._settings)
                if self._allow_write:
                    self._engine.keeper.start()
                threading.Thread(target=self._engine.warm, name="warm-up", daemon=True).start()
        engine, secret = self._engine, self._settings.token.get_secret_value()
        if not secret:
            may_write = self._allow_write and not engine.ledger.tokens.any()
            return Local(engine, Grant(LOCAL, SCOPES), may_write=may_write)
        grant = Keys(engine, secrets.token_urlsafe(32)).grant(secret)
        if grant is None:
            raise ConfigError(f"KB_TOKEN: {UNKNOWN}")
        if not grant.allows("search"):
            raise ConfigError(f"KB_TOKEN: the token {grant.name!r} lacks the scope search")
        return Local(engine, grant, may_write=self._allow_write and grant.allows("ingest"))


class _Failed(MCPError):
    """No source could be asked."""
