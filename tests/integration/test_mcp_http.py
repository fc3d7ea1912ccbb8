"""`/mcp` of `kb-ingest serve`, asked by the protocol's own client: with tokens, and on one host without them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from mcp import Client

from tests.mcp_client import READING, asked, by_http, call, documents, fault, library, names, refused, sentence, text_of, value
from tests.services import Cli
from tests.serving import Service, docs, problem, token

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: A request without the client, and the headers that every one must have.
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with library(tmp_path_factory.mktemp("http")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def service(cli: Cli) -> Iterator[Service]:
    with Service(cli, "--allow-write") as running:
        yield running
    assert "Traceback" not in running.said


def post(service: Service, secret: str = "", body: Any = LIST, **headers: str) -> httpx.Response:
    with service.client(secret) as client:
        return client.post("/mcp", json=body, headers=ACCEPT | headers)


# Without tokens. The first test that makes one closes the service, and ends with revoking it.


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_service_without_tokens_answers_this_host(service: Service, mode: str) -> None:
    async def work(client: Client) -> None:
        assert {tool.name for tool in (await client.list_tools()).tools} == READING  # writing needs a token
        hit = (await value(client, "search", query="hive", collection="documents", mode="sparse"))["hits"][0]
        with service.client() as http:
            asked_for = {"query": "hive", "collection": "documents", "mode": "sparse"}
            expected = http.post("/v1/search", json=asked_for).json()["hits"][0]
        assert hit == {name: part for name, part in expected.items() if part is not None}
        assert await text_of(client, f"kb://documents/{hit['document_id']}")

    asked(by_http(service, mode=mode), work)


def test_pages_of_other_sites_are_refused(service: Service) -> None:
    assert {tool["name"] for tool in post(service).json()["result"]["tools"]} == READING
    assert post(service, origin=service.url).status_code == 200
    for headers, code in (
        ({"host": "rebound.example"}, "foreign_host"),
        ({"origin": "http://evil.example"}, "foreign_origin"),
        ({"sec-fetch-site": "cross-site"}, "foreign_origin"),
    ):
        problem(post(service, **headers), 403, code)


def test_other_requests_than_messages_are_refused(service: Service) -> None:
    with service.client() as client:
        problem(client.get("/mcp", headers=ACCEPT), 405, "method_not_allowed")
        problem(client.delete("/mcp"), 405, "method_not_allowed")
        assert client.post("/mcp", content=b"garbage", headers=ACCEPT | {"content-type": "application/json"}).status_code == 400
        assert client.post("/mcp", content=b"garbage", headers=ACCEPT).status_code == 400
        problem(client.post("/mcp", content=b"x" * (2 << 20), headers=ACCEPT), 413, "too_large")
        assert "/mcp" not in client.get("/openapi.json").json()["paths"]


def test_a_missing_or_wrong_token_is_refused(service: Service) -> None:
    secret = token(service.cli, "one")
    try:
        assert problem(post(service), 401, "unauthorized").startswith("this service needs a token")
        refusal = post(service, "wrong")
        assert problem(refusal, 401, "unauthorized").startswith("this token is unknown, revoked or expired")
        assert refusal.headers["www-authenticate"] == "Bearer"
        with pytest.raises(ExceptionGroup):
            names(by_http(service, "wrong"))
        assert names(by_http(service, secret)) == READING
        # A proxy in front of the service has a name of its own; a page of another site is still refused.
        assert post(service, secret, host="kb.example").status_code == 200
        assert post(service, secret, host="kb.example", origin="https://kb.example").status_code == 200
        assert post(service, secret, host="kb.example", origin="https://evil.example").status_code == 403
        ingests = token(service.cli, "ingests", "--scopes", "ingest")
        assert "lacks the scope search" in problem(post(service, ingests), 403, "forbidden")
    finally:
        for name in ("one", "ingests"):
            service.cli.run("token", "revoke", name, status=None)


# With tokens: what a token's filter leaves out does not exist, in any tool or resource.


@pytest.fixture(scope="module")
def admin(service: Service) -> Iterator[str]:
    yield token(service.cli, "admin", "--scopes", "admin")
    service.cli.run("token", "revoke", "admin")


@pytest.fixture(scope="module")
def limited(service: Service, admin: str) -> Iterator[str]:
    """A token for which only the documents of folder `a` exist."""
    folder = service.cli.data_dir.parent / "docs" / "a"
    yield token(service.cli, "limited", "--collections", "documents", "--filter", f"folder={folder}*")
    service.cli.run("token", "revoke", "limited")


def test_a_limited_token_sees_nothing_else(service: Service, admin: str, limited: str) -> None:
    with service.client(admin) as http:
        every, other = docs(http), docs(http, "other")
    foreign, elsewhere, nothing = every["wages.txt"]["id"], other["soil.txt"]["id"], "00000000-0000-5000-8000-000000000000"
    own = {"bees.md", "soil.txt"}

    async def work(client: Client) -> None:
        for mode in ("hybrid", "dense", "sparse"):
            hits = (await value(client, "search", query="wages of gardeners nectar", mode=mode, limit=50, neighbours=10))["hits"]
            assert hits
            assert "wages of the gardeners" not in json.dumps(hits)
            assert {hit["uri"].rpartition("/")[2] for hit in hits} <= own
            assert (await value(client, "search", query="wages", mode=mode, document_id=foreign))["hits"] == []
        missing = "there is no collection 'other'; existing: 'documents'"
        assert await sentence(client, "search", query="x", collection="other") == missing
        (collection,) = (await value(client, "list_collections"))["collections"]
        assert (collection["name"], collection["states"]) == ("documents", {"indexed": 2})
        assert collection["chunks"] == sum(every[name]["chunks"] for name in own)
        status = await value(client, "status")
        assert (status["states"], status["jobs"]) == ({"indexed": 2}, [])
        listed = await documents(client)
        assert {one.name for one in listed} == own
        assert len(listed) == len(own)
        absent = "there is no document with this id"
        for one in (foreign, elsewhere, nothing):
            assert await sentence(client, "read_document", document_id=one) == absent
            assert await fault(client.read_resource(f"kb://documents/{one}")) == absent
            near = await client.list_resources(cursor=f"{one}.documents")
            assert {found.name for found in near.resources} <= own
        for cursor in (".other", ".e", f"{elsewhere}.other"):
            assert (await client.list_resources(cursor=cursor)).resources == []
        assert (await value(client, "read_document", document_id=every["bees.md"]["id"]))["title"]

    asked(by_http(service, limited), work)


def test_ingest_needs_the_scope_and_the_option(service: Service, admin: str, limited: str) -> None:
    cli = service.cli
    writer = token(cli, "writer", "--scopes", "search,ingest", "--collections", "notes", "--filter", "folder=upload://sea*")
    try:
        assert names(by_http(service, limited)) == READING
        there = by_http(service, writer)
        assert names(there) == names(by_http(service, admin)) == READING | {"ingest"}

        async def work(client: Client) -> None:
            arguments = {"name": "harbour.md", "text": "# Harbour\n\nShips wait for the pilot.", "collection": "notes"}
            job = await value(client, "ingest", folder="sea", **arguments)
            while job["status"] == "running":
                job = (await value(client, "status", job=job["id"]))["jobs"][0]
            assert job["status"] == "done"
            (hit,) = (await value(client, "search", query="pilot", collection="notes", mode="sparse"))["hits"]
            assert (hit["uri"], hit["heading_path"]) == ("upload://sea/harbour.md", ["Harbour"])
            assert "which its filter leaves out" in await sentence(client, "ingest", folder="land", **arguments)
            arguments["collection"] = "documents"
            assert "may not load into the collection" in await sentence(client, "ingest", folder="sea", **arguments)
            assert "lacks the scope admin" in await sentence(client, "ingest", uri="/etc", collection="notes")

        asked(there, work)
        assert call(by_http(service, limited), "status")["jobs"] == []  # another's
        (job,) = call(there, "status")["jobs"]
        assert refused(by_http(service, limited), "status", job=job["id"]) == "there is no job with this id"
        with Service(cli) as reading:
            assert names(by_http(reading, writer)) == READING
    finally:
        cli.run("token", "revoke", "writer")
