"""The protocol's own client, over both transports of `kb-ingest`."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from tests.embed_server import WORDS_MODEL
from tests.services import REPOSITORY, Cli, embed_server
from tests.serving import PATIENCE_S, TEXTS, Service

T = TypeVar("T")

#: Makes a client of one of the transports.
Connect = Callable[[], Client]

#: Tools that every caller has.
READING = {"search", "read_document", "list_collections", "list_fields", "status"}


@contextmanager
def library(place: Path) -> Iterator[Cli]:
    """A data folder with the documents of two folders in one collection, and one of them in another."""
    model = embed_server(place / "model")
    model.start()
    for name, text in TEXTS.items():
        (place / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "docs" / name).write_text(text)
    cli = Cli(
        place / "data", KB_EMBED_URL=f"http://127.0.0.1:{model.port}", KB_EMBED_API="openai", KB_EMBED_MODEL=WORDS_MODEL,
        KB_CHUNK_TOKENS="64",
    )  # fmt: skip
    cli.run("load", str(place / "docs"))
    cli.run("load", str(place / "docs" / "a" / "soil.txt"), "--collection", "other")
    yield cli
    model.stop()


def by_stdio(cli: Cli, *arguments: str, **environment: str) -> Connect:
    """Clients that start `kb-ingest mcp` over a data folder."""
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "workers", "mcp", *arguments],
        env={**cli.environment, **environment},
        cwd=REPOSITORY,
    )
    return lambda: Client(parameters, read_timeout_seconds=PATIENCE_S)


def by_http(service: Service, token: str = "", mode: str = "auto") -> Connect:
    """Clients of `/mcp` of a service, which send a token unless it is empty."""

    @asynccontextmanager
    async def transport() -> AsyncIterator[Any]:
        sent = {"authorization": f"Bearer {token}"} if token else {}
        async with (
            httpx2.AsyncClient(headers=sent, timeout=PATIENCE_S, trust_env=False) as http,
            streamable_http_client(f"{service.url}/mcp", http_client=http) as streams,
        ):
            yield streams

    return lambda: Client(transport(), mode=mode, read_timeout_seconds=PATIENCE_S)


def asked(connect: Connect, work: Callable[[Client], Awaitable[T]]) -> T:
    """What is done with one connected client."""

    async def run() -> T:
        async with connect() as client:
            return await work(client)

    return anyio.run(run)


def names(connect: Connect) -> set[str]:
    """The tools that are offered."""
    return {tool.name for tool in asked(connect, lambda client: client.list_tools()).tools}


async def value(client: Client, tool: str, /, **arguments: Any) -> Any:
    """The value that a tool answers with, which its text says too."""
    found = await client.call_tool(tool, arguments)
    assert not found.is_error, found
    (content,) = found.content
    assert isinstance(content, types.TextContent)
    assert json.loads(content.text) == found.structured_content
    return found.structured_content


async def sentence(client: Client, tool: str, /, **arguments: Any) -> str:
    """What a tool says that cannot do what it is asked for."""
    found = await client.call_tool(tool, arguments)
    assert found.is_error, found
    (content,) = found.content
    assert isinstance(content, types.TextContent)
    return content.text


def call(connect: Connect, tool: str, /, **arguments: Any) -> Any:
    """The value that a tool answers a client with that asks nothing else."""
    return asked(connect, lambda client: value(client, tool, **arguments))


def refused(connect: Connect, tool: str, /, **arguments: Any) -> str:
    """The sentence that a tool refuses such a client with."""
    return asked(connect, lambda client: sentence(client, tool, **arguments))


async def documents(client: Client) -> list[types.Resource]:
    """All documents, page by page."""
    found: list[types.Resource] = []
    cursor: str | None = None
    while True:
        page = await client.list_resources(cursor=cursor)
        found += page.resources
        cursor = page.next_cursor
        if cursor is None:
            return found


async def text_of(client: Client, uri: str) -> str:
    """The text of a resource."""
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, types.TextResourceContents)
    return content.text


async def fault(request: Awaitable[object]) -> str:
    """The sentence of the protocol's error that a request ends with."""
    with pytest.raises(MCPError) as raised:
        await request
    return raised.value.message
