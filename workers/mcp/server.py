"""The protocol's server: requests of the SDK go to a source of answers."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server

from workers.mcp import TEMPLATE
from workers.mcp.source import Source

INSTRUCTIONS = """\
Documents that kb-ingest has loaded. Ask `search` in plain words, and cite what you use by title, page and uri. `read_document` has
the text around a hit, by its document_id; the resource kb://documents/{document_id} has the whole text.
"""

_Context = ServerRequestContext[Any, Any]


def make_server(source: Source) -> Server[Any]:
    """A server whose answers come from a source."""

    async def list_tools(_context: _Context, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return await source.tools()

    async def call_tool(_context: _Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        return await source.call(params.name, params.arguments or {})

    async def list_resources(_context: _Context, params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        return await source.resources(params.cursor if params else None)

    async def list_templates(_context: _Context, _params: types.PaginatedRequestParams | None) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(
            uri_template=TEMPLATE, name="document", title="Text of a document", mime_type="text/plain"
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(_context: _Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        return await source.read(params.uri)

    return Server(
        "kb-ingest",
        version=version("kb-ingest"),
        instructions=INSTRUCTIONS,
        # No argument of a tool is sent as a header too.
        get_tool_input_schema=lambda _name: None,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )
