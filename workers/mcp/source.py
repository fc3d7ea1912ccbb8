"""Where answers come from; an engine of this process (`local.py`) or a running service (`remote.py`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import mcp_types as types
from mcp.shared.exceptions import MCPError


class Source(Protocol):
    """Answers the requests of one caller. Each method raises MCPError, with the sentence that the command line prints."""

    async def tools(self) -> types.ListToolsResult:
        """The tools that the caller may use."""
        ...

    async def call(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        """The result of a tool; what went wrong in it is a result too."""
        ...

    async def resources(self, cursor: str | None) -> types.ListResourcesResult:
        """A page of documents."""
        ...

    async def read(self, uri: str) -> types.ReadResourceResult:
        """The text of a document."""
        ...


def failed(sentence: str) -> types.CallToolResult:
    """The result of a tool that could not do what it was asked for."""
    return types.CallToolResult(content=[types.TextContent(type="text", text=sentence)], is_error=True)


def unknown_tool(name: str, known: Iterable[str]) -> MCPError:
    """The error of a tool that does not exist for the caller."""
    return MCPError(types.INVALID_PARAMS, f"there is no tool {name!r}; existing: {', '.join(known)}")
