"""`kb-ingest mcp` as a process, asked over stdin and stdout: by the protocol's own client, and with garbage."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.mcp_client import READING, asked, by_stdio, call, documents, fault, library, names, refused, sentence, text_of, value
from tests.services import Cli, free_port
from tests.serving import PATIENCE_S, Service, token

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: The first message of a client.
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}},
}


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with library(tmp_path_factory.mktemp("stdio")) as loaded:
        yield loaded


def test_tools_and_resources(cli: Cli) -> None:
    async def work(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools.keys() == READING
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools.values())

        found = await value(client, "search", query="nectar for bees", collection="documents", limit=2, neighbours=1)
        hit = found["hits"][0]
        command = cli.answer("search", "nectar for bees", "--limit", "2", "-c", "documents")
        parts = ("chunk_id", "document_id", "title", "uri", "text", "heading_path", "char_start", "char_end", "ordinal")
        assert [[one[part] for part in parts] for one in found["hits"]] == [[one[part] for part in parts] for one in command]
        assert (hit["heading_path"], hit["matched_words"]) == (["Bees", "Food"], ["nectar", "bees"])
        assert hit["after"]

        await _is_read_page_by_page(client, hit["document_id"])

        collections = {one["name"]: one for one in (await value(client, "list_collections"))["collections"]}
        assert (collections["documents"]["documents"], collections["other"]["states"]) == (3, {"indexed": 1})
        status = await value(client, "status")
        assert (status["states"], status["parts"]["store"], status["jobs"]) == ({"indexed": 4}, "ok", [])

        listed = await documents(client)
        assert sorted(one.name for one in listed) == ["bees.md", "soil.txt", "soil.txt", "wages.txt"]
        bees = next(one for one in listed if one.name == "bees.md")
        text = await text_of(client, bees.uri)
        assert text.startswith("# Bees > Food\n\nBees visit flowers")
        assert text.endswith("# Bees > Home\n\nA hive holds many bees.")
        (template,) = (await client.list_resource_templates()).resource_templates
        assert template.uri_template == "kb://documents/{document_id}{?chunk_after}"
        rest = await text_of(client, f"{bees.uri}?chunk_after=1")
        assert len(rest) < len(text)
        assert text.endswith(rest.removeprefix("# Bees > Food\n\n"))

    asked(by_stdio(cli), work)


async def _is_read_page_by_page(client: Client, document: str) -> None:
    """A document that is read by pages of two chunks is the one that is read at once."""
    whole = await value(client, "read_document", document_id=document, chunk_limit=1000)
    assert whole["next"] is None
    assert [chunk["ordinal"] for chunk in whole["chunk_list"]] == list(range(whole["chunks"]))
    assert whole["chunks"] > 4
    pages: list[list[Any]] = []
    after: int | None = -1
    while after is not None:
        page = await value(client, "read_document", document_id=document, chunk_limit=2, chunk_after=after)
        pages.append(page["chunk_list"])
        after = page["next"]
    assert [chunk for page in pages for chunk in page] == whole["chunk_list"]
    assert len(pages) == (whole["chunks"] + 1) // 2


def test_requests_that_cannot_be_answered(cli: Cli) -> None:
    async def work(client: Client) -> None:
        assert await sentence(client, "search", query=" ", collection="documents") == "the query is empty"
        assert "KB_SERVE_QUERY_CHARS" in await sentence(client, "search", query="x" * 4001, collection="documents")
        assert (await sentence(client, "search", query="x", limit=1000)).startswith("limit: ")
        assert (await sentence(client, "search", query="x", colour="red")).startswith("colour: ")
        assert (await sentence(client, "search")).startswith("query: ")
        missing = "there is no collection 'letters'; existing: 'documents', 'other'"
        assert await sentence(client, "search", query="x", collection="letters") == missing
        assert await sentence(client, "read_document", document_id="0" * 8) == "there is no document with this id"
        assert await sentence(client, "status", job=999) == "there is no job with this id"
        known = "there is no tool 'ingest'; existing: search, read_document, list_collections, list_fields, status"
        assert await fault(client.call_tool("ingest", {"text": "x", "name": "x.txt"})) == known
        assert await fault(client.read_resource("kb://documents/0000")) == "there is no document with this id"
        assert "resources have URIs like" in await fault(client.read_resource("file:///etc/passwd"))
        assert await fault(client.list_resources(cursor="garbage")) == "this cursor is not one of ours"

    asked(by_stdio(cli), work)


def test_what_is_ingested_is_found(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "ships").mkdir()
    (tmp_path / "ships" / "pilot.txt").write_text("Ships wait for the pilot.\n")

    async def work(client: Client) -> None:
        assert {tool.name for tool in (await client.list_tools()).tools} == READING | {"ingest"}
        for arguments in (
            {"name": "snails.md", "text": "# Snails\n\nSnails eat lettuce at night.", "folder": "garden"},
            {"uri": str(tmp_path / "ships")},
        ):
            job = await value(client, "ingest", collection="notes", wait_s=0, **arguments)
            while job["status"] == "running":
                job = (await value(client, "status", job=job["id"]))["jobs"][0]
            assert (job["status"], job["states"]) == ("done", {"indexed": 1})
        (hit,) = (await value(client, "search", query="lettuce", collection="notes", mode="sparse"))["hits"]
        assert (hit["uri"], hit["heading_path"]) == ("upload://garden/snails.md", ["Snails"])
        (hit,) = (await value(client, "search", query="pilot", collection="notes", mode="sparse"))["hits"]
        assert hit["uri"].endswith("/ships/pilot.txt")
        for wrong in ({}, {"text": "x"}, {"name": "x.txt"}, {"text": "x", "name": "x.txt", "uri": "/srv"}):
            assert "send a text with a name, or a uri" in await sentence(client, "ingest", **wrong)
        assert "cannot have the name" in await sentence(client, "ingest", text="x", name="../x.txt")
        job = await value(client, "ingest", uri=str(tmp_path / "nothing"))
        assert job["status"] == "failed"
        assert "No such file or directory" in job["detail"]

    try:
        asked(by_stdio(cli, "--allow-write"), work)
    finally:
        cli.run("delete", "--collection", "notes", "upload://garden/snails.md", status=None)


def test_a_token_limits_the_client(cli: Cli) -> None:
    folder = cli.data_dir.parent / "docs" / "a"
    reader = token(cli, "reader", "--collections", "documents", "--filter", f"folder={folder}*")
    writer = token(cli, "writer", "--scopes", "search,ingest")
    try:

        async def work(client: Client) -> None:
            hits = (await value(client, "search", query="wages nectar", limit=50))["hits"]
            assert {hit["uri"].rpartition("/")[2] for hit in hits} == {"bees.md", "soil.txt"}
            assert sorted(one.name for one in await documents(client)) == ["bees.md", "soil.txt"]
            assert (await value(client, "status"))["states"] == {"indexed": 2}

        asked(by_stdio(cli, KB_TOKEN=reader), work)
        assert names(by_stdio(cli, "--allow-write")) == READING
        assert names(by_stdio(cli, "--allow-write", KB_TOKEN=reader)) == READING
        assert names(by_stdio(cli, "--allow-write", KB_TOKEN=writer)) == READING | {"ingest"}
        wrong = Cli(cli.data_dir, **{**cli.environment, "KB_TOKEN": "wrong"})
        assert "KB_TOKEN: this token is unknown, revoked or expired" in wrong.run("mcp", status=1).stderr
    finally:
        for name in ("reader", "writer"):
            cli.run("token", "revoke", name)


def test_a_service_answers_while_it_runs(cli: Cli) -> None:
    async def work(client: Client) -> None:
        async def found() -> list[str]:
            asked_for = await value(client, "search", query="hive", collection="documents", mode="sparse")
            return [hit["heading_path"][-1] for hit in asked_for["hits"]]

        assert await found() == ["Home"]
        assert len(await documents(client)) >= 4
        assert await fault(client.read_resource("kb://documents/0000")) == "there is no document with this id"
        assert await sentence(client, "search", query=" ", collection="documents") == "the query is empty"
        assert {tool.name for tool in (await client.list_tools()).tools} == READING | {"ingest"}
        service.stop(signal.SIGKILL)
        assert await found() == ["Home"]

    with Service(cli) as service:
        asked(by_stdio(cli, "--allow-write"), work)
    assert "POST /mcp 200" in service.said
    assert "for local" in service.said


def test_a_named_service_is_asked(cli: Cli) -> None:
    secret = token(cli, "named", "--collections", "other")
    try:
        with Service(cli) as service:
            there = by_stdio(cli, "--allow-write", "--url", service.url, KB_TOKEN=secret)
            assert [one["name"] for one in call(there, "list_collections")["collections"]] == ["other"]
            assert names(there) == READING
            wrong = by_stdio(cli, "--url", service.url, KB_TOKEN="wrong")
            assert "this token is unknown, revoked or expired" in refused(wrong, "status")
    finally:
        cli.run("token", "revoke", "named")
    nobody = by_stdio(cli, "--url", f"http://127.0.0.1:{free_port()}")
    assert "does not answer" in refused(nobody, "status")


# Without a client.


def start(cli: Cli) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*cli.PROGRAM, "mcp"], env=cli.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_garbage_is_survived_and_stdout_has_messages_only(cli: Cli) -> None:
    garbage = b'garbage\n\xff\xfe\x00\n[]\n{}\n\n{"jsonrpc":"2.0"\n{"jsonrpc":"2.0","id":7,"method":"nothing"}\n'
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    search = {"name": "search", "arguments": {"query": "hive", "collection": "documents"}}
    question = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": search}
    lines = [garbage, HELLO, garbage, ready, garbage, question]
    sent = b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines)
    process = start(cli)
    assert process.stdin
    assert process.stdout
    process.stdin.write(sent)
    process.stdin.flush()
    messages: list[dict[str, Any]] = []
    while not messages or messages[-1].get("id") != 2:
        messages.append(json.loads(process.stdout.readline()))
    out, error = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, error) == (0, b"", b"")
    assert {one["jsonrpc"] for one in messages} == {"2.0"}
    assert messages[-1]["result"]["structuredContent"]["hits"]
    assert [one["error"]["code"] for one in messages if one.get("id") == 7] == [-32601] * 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_while_it_waits_for_stdin(cli: Cli, number: signal.Signals) -> None:
    process = start(cli)
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps(HELLO).encode() + b"\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "kb-ingest"
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == 128 + number
    process.communicate()
