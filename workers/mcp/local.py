"""Answers of an engine of this process, for one grant."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import mcp_types as types
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from pipeline.errors import KbError
from pipeline.ledger.browse import Listing
from pipeline.ledger.tokens import Grant
from workers.api.engine import Engine
from workers.api.problems import Refusal, of, told
from workers.mcp.resources import page, text_of, uri_of
from workers.mcp.source import failed, unknown_tool
from workers.mcp.tools import TOOLS, Tool


class Local:
    """A `Source` over an engine of this process, for one grant."""

    def __init__(self, engine: Engine, grant: Grant, *, may_write: bool) -> None:
        self._engine = engine
        self._grant = grant
        self._tools = {tool.name: tool for tool in TOOLS if may_write or not tool.writes}

    async def tools(self) -> types.ListToolsResult:
        """See Source."""
        return types.ListToolsResult(tools=[_described(tool) for tool in self._tools.values()])

    async def call(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        """See Source."""
        tool = self._tools.get(name)
        if tool is None:
            raise unknown_tool(name, self._tools)
        try:
            found = await tool.call(self._engine, self._grant, tool.arguments.model_validate(arguments))
        except ValidationError as error:
            return failed(told([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]))
        except Exception as error:
            return failed(of(error).detail)
        # Of a hit all parts may be missing; other answers have values that are null, and their schemas want them.
        body = found.model_dump(mode="json", by_alias=True, exclude_none=name == "search")
        text = found.model_dump_json(by_alias=True, exclude_none=name == "search")
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)], structured_content=body)

    async def resources(self, cursor: str | None) -> types.ListResourcesResult:
        """See Source."""
        try:
            found, following = await self._engine.run(lambda: page(self._engine.ledger, self._grant, cursor))
        except Exception as error:
            raise _fault(error) from error
        return types.ListResourcesResult(resources=[_listed(one) for one in found], next_cursor=following)

    async def read(self, uri: str) -> types.ReadResourceResult:
        """See Source."""
        try:
            found = await self._engine.run(lambda: text_of(self._engine, self._grant, uri))
        except Exception as error:
            raise _fault(error) from error
        rest = {"next": found.next} if found.next else None
        text = found.text + (f"\n\n[continued at {found.next}]" if found.next else "")
        contents = types.TextResourceContents(uri=uri, mime_type="text/plain", text=text, _meta=rest)
        return types.ReadResourceResult(contents=[contents])


def _described(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.arguments.model_json_schema(),
        output_schema=tool.answer.model_json_schema(mode="serialization"),
        annotations=types.ToolAnnotations(
            read_only_hint=not tool.writes,
            destructive_hint=tool.writes,  # a document of the same name is replaced
            idempotent_hint=True,
            open_world_hint=False,
        ),
    )


def _listed(found: Listing) -> types.Resource:
    name = unquote(found.uri.rpartition("/")[2])
    return types.Resource(uri=uri_of(found.id), name=name, title=found.title or name, description=found.uri, mime_type="text/plain")


def _fault(error: Exception) -> MCPError:
    """The protocol's error for one of ours."""
    code = types.INVALID_PARAMS if isinstance(error, (Refusal, KbError)) else types.INTERNAL_ERROR
    return MCPError(code, of(error).detail)
