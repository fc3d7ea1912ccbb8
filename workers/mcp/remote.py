"""Answers of a running service, asked over HTTP."""

from __future__ import annotations

from typing import Any, TypeVar

import mcp_types as types
from anyio import to_thread
from mcp.shared.exceptions import MCPError
from mcp_types.version import LATEST_HANDSHAKE_VERSION
from pydantic import BaseModel

from pipeline.errors import ServiceUnavailable
from workers.api import MCP_PATH
from workers.api.asking import Service
from workers.mcp import INGEST, READING
from workers.mcp.source import unknown_tool

T = TypeVar("T", bound=BaseModel)


class Remote:
    """A `Source` that asks a service over HTTP."""

    def __init__(self, service: Service, *, may_write: bool) -> None:
        self._service = service
        self._may_write = may_write

    async def tools(self) -> types.ListToolsResult:
        """See Source."""
        found = await self._ask("tools/list", {}, types.ListToolsResult)
        return found.model_copy(update={"tools": [one for one in found.tools if self._may_write or one.name != INGEST]})

    async def call(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        """See Source."""
        if name == INGEST and not self._may_write:
            raise unknown_tool(name, READING)
        return await self._ask("tools/call", {"name": name, "arguments": arguments}, types.CallToolResult)

    async def resources(self, cursor: str | None) -> types.ListResourcesResult:
        """See Source."""
        return await self._ask("resources/list", {} if cursor is None else {"cursor": cursor}, types.ListResourcesResult)

    async def read(self, uri: str) -> types.ReadResourceResult:
        """See Source."""
        return await self._ask("resources/read", {"uri": uri}, types.ReadResourceResult)

    async def _ask(self, method: str, params: dict[str, Any], answer: type[T]) -> T:
        """One request. Raises ServiceUnavailable and ServiceRefused."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": LATEST_HANDSHAKE_VERSION}
        said = await to_thread.run_sync(self._service.post, MCP_PATH, message, headers, abandon_on_cancel=True)
        if not isinstance(said, dict) or not said.keys() & {"error", "result"}:
            raise ServiceUnavailable(f"the service at {self._service.url} does not speak the Model Context Protocol")
        if "error" in said:
            raise MCPError(said["error"]["code"], said["error"]["message"], said["error"].get("data"))
        return answer.model_validate(said["result"])
