"""Notifications of object stores over HTTP: the objects that they name are loaded or removed, and nothing else is listed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import boto3
import httpx
import pytest

from tests.embed_server import MODEL
from tests.pages import page
from tests.services import Cli, Server, embed_server, make_bucket, s3_environment, s3_server
from tests.serving import Service, problem, token

pytestmark = pytest.mark.integration

API_KEY = "key of a test"


class Bucket:
    """A bucket with a source in it, and a service that is told of its changes."""

    def __init__(self, client: Any, service: Service) -> None:
        self._s3 = client
        self.service = service
        self.cli = service.cli

    def put(self, key: str, text: str) -> None:
        self._s3.put_object(Bucket="pages", Key=key, Body=text.encode())

    def delete(self, key: str) -> None:
        self._s3.delete_object(Bucket="pages", Key=key)

    def tell(self, body: object, source: str = "handbook", secret: str = API_KEY) -> httpx.Response:
        with self.service.client(secret) as client:
            return client.post("/v1/events", params={"source": source}, json=body)

    def told(self, *keys: str) -> dict[str, Any]:
        """The ended job of a notification of S3 about these keys."""
        answer = self.tell(notification(*keys))
        assert answer.status_code == 202, answer.text
        with self.service.client(API_KEY) as client:
            return dict(client.get(f"/v1/jobs/{answer.json()['id']}", params={"wait": 60}).json())

    def names(self) -> set[str]:
        hits = self.cli.answer("search", "page", "--limit", "1000")
        return {hit["uri"].removeprefix("s3://pages/") for hit in hits}


def notification(*keys: str, event: str = "ObjectCreated:Put") -> dict[str, Any]:
    """As S3 and MinIO write it."""
    return {
        "Records": [
            {"eventName": event, "s3": {"bucket": {"name": "pages"}, "object": {"key": quote_plus(key, safe="/")}}} for key in keys
        ]
    }


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    place = tmp_path_factory.mktemp("events")
    servers: list[Server] = [s3_server(place / "s3"), embed_server(place / "model")]
    for server in servers:
        server.start()
    environment = s3_environment(servers[0])
    make_bucket(environment, "pages")
    client = boto3.client(
        "s3", endpoint_url=environment["AWS_ENDPOINT_URL"], aws_access_key_id="test", aws_secret_access_key="test",
        region_name="us-east-1",
    )  # fmt: skip
    client.put_object(Bucket="pages", Key="handbook/0.md", Body=page(0).encode())
    embed = {"KB_EMBED_URL": f"http://127.0.0.1:{servers[1].port}", "KB_EMBED_MODEL": MODEL}
    cli = Cli(place / "data", KB_API_KEY=API_KEY, **embed, **environment)
    cli.run("source", "add", "handbook", "s3://pages/handbook", "--exclude", "draft*")
    cli.run("source", "add", "inner", "s3://pages/handbook/inner")
    cli.run("source", "add", "letters", "s3://pages/handbook/letters", "--collection", "letters")
    cli.run("source", "add", "files", str(place))
    cli.run("sync", "handbook")
    with Service(cli) as service:
        yield Bucket(client, service)
    assert "Traceback" not in service.said
    for server in servers:
        server.stop()


def test_objects_are_loaded_and_removed_at_once(bucket: Bucket) -> None:
    bucket.put("handbook/ä + b.md", page(1))
    bucket.put("handbook/unnamed.md", page(2))
    job = bucket.told("handbook/ä + b.md")
    assert (job["status"], job["states"]) == ("done", {"indexed": 1})
    assert bucket.names() == {"handbook/0.md", "handbook/%C3%A4%20%2B%20b.md"}  # nothing was listed
    # Again, and late: what is there now counts, whatever the notification says.
    job = bucket.told("handbook/ä + b.md")
    assert (job["status"], job["documents"]) == ("done", 0)
    bucket.put("handbook/ä + b.md", page(1) + "\nEdited.\n")
    assert bucket.told("handbook/ä + b.md", "handbook/unnamed.md")["states"] == {"indexed": 2}
    bucket.delete("handbook/ä + b.md")
    job = bucket.told("handbook/ä + b.md", "handbook/never.md")
    assert (job["status"], job["documents"]) == ("done", 0)
    assert bucket.names() == {"handbook/0.md", "handbook/unnamed.md"}
    bucket.told("handbook/ä + b.md")
    assert [run["deleted"] for run in bucket.cli.answer("source", "show", "handbook")["runs"]][:2] == [0, 1]
    # A sync has nothing left to do.
    synced = bucket.cli.answer("sync", "handbook")
    assert (synced["unchanged"], synced["indexed"], synced["deleted"]) == (2, 0, 0)


@pytest.mark.parametrize(
    "body",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "pages"},
        notification("handbook/draft.md"),
        notification("handbook/.hidden.md"),
        notification("elsewhere/a.md"),
        notification("handbook2/a.md"),
        notification("handbook/inner/a.md"),  # of another source of the collection
        {"data": {"bucket": "pages", "name": "handbook/0.md"}},  # of another kind of store
        {"Records": []},
    ],
)
def test_what_is_of_no_interest(bucket: Bucket, body: object) -> None:
    answer = bucket.tell(body)
    assert (answer.status_code, answer.content) == (204, b"")


def test_an_object_of_sources_of_two_collections(bucket: Bucket) -> None:
    bucket.put("handbook/letters/1.md", page(7))
    assert bucket.told("handbook/letters/1.md")["states"] == {"indexed": 1}
    assert bucket.tell(notification("handbook/letters/1.md"), "letters").status_code == 202
    bucket.delete("handbook/letters/1.md")
    bucket.told("handbook/letters/1.md")


def test_requests_that_are_refused(bucket: Bucket) -> None:
    problem(bucket.tell(notification("handbook/0.md"), "nobody"), 404, "source_missing")
    assert "no object store" in problem(bucket.tell(notification("handbook/0.md"), "files"), 422, "invalid")
    nameless: list[dict[str, object]] = [{}, {"Records": [1]}, {"Records": [{"s3": {"bucket": {"name": "pages"}, "object": {}}}]}]
    for body in nameless:
        problem(bucket.tell(body), 422, "invalid")
    assert bucket.tell([1]).status_code == 422
    problem(bucket.tell(notification(*["a"] * 1001)), 422, "invalid")
    assert bucket.tell(notification("handbook/0.md"), secret="wrong").status_code == 401
    reader = token(bucket.cli, "reader")
    assert bucket.tell(notification("handbook/0.md"), secret=reader).status_code == 403
    other = token(bucket.cli, "other", "--scopes", "ingest", "--collections", "letters")
    problem(bucket.tell(notification("handbook/0.md"), secret=other), 404, "source_missing")
    inside = token(bucket.cli, "inside", "--scopes", "ingest", "--filter", "folder=s3://pages/handbook/x")
    problem(bucket.tell(notification("handbook/0.md"), secret=inside), 403, "forbidden")
    allowed = token(bucket.cli, "allowed", "--scopes", "ingest", "--filter", "folder=s3://pages/handbook*")
    assert bucket.tell(notification("handbook/0.md"), secret=allowed).status_code == 202


def test_a_store_that_does_not_answer_removes_nothing(bucket: Bucket, tmp_path: Path) -> None:
    away = {**bucket.cli.environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}
    del away["KB_API_KEY"]
    cli = Cli(bucket.cli.data_dir, **{**away, "KB_API_KEY": API_KEY})
    before = bucket.names()
    with Service(cli) as service:
        answer = Bucket(None, service).tell(notification("handbook/0.md"))
    problem(answer, 503, "store_unavailable")
    assert answer.headers["Retry-After"]
    assert bucket.names() == before
