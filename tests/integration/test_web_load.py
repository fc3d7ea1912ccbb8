"""A website as a source: loaded by its sitemap, cited by its URLs, kept in step; the service asks public hosts only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embed_server import MODEL
from tests.services import Cli, Server
from tests.serving import Service
from tests.website import Website, html, website

pytestmark = pytest.mark.integration

API_KEY = "key of a test"


@pytest.fixture
def server() -> Iterator[Website]:
    with website() as found:
        yield found


@pytest.fixture
def cli(data_dir: Path, model: Server) -> Cli:
    place = {"KB_EMBED_URL": f"http://127.0.0.1:{model.port}", "KB_EMBED_MODEL": MODEL}
    return Cli(data_dir, KB_WEB_REQUESTS_PER_S="500", **place)


def test_a_collection_is_kept_equal_to_a_website(cli: Cli, server: Website) -> None:
    paths = [f"/guide/{number}" for number in range(6)]
    for path in paths:
        server.put(path, html(f"Guide {path[-1]}", f"This page is about subject{path[-1]} and nothing else."))
    server.put("/guide/index.php", html("Program", "This page is made by a program."))
    server.put("/robots.txt", "User-agent: *\nDisallow: /guide/5\n")
    server.sitemap(*paths, "/guide/index.php", "/guide/missing", "/news/1", lastmod="2024-05-01")
    cli.run("source", "add", "guide", f"{server.url}/guide/")
    planned = cli.answer("plan", "guide")
    assert (planned["counts"]["added"], planned["plan"]["chunks"], planned["plan"]["estimated"]) == (7, 6, False)
    first = cli.answer("sync", "guide")
    assert (first["indexed"], first["quarantined"]) == (6, 0), "a page that is not there is left out"
    (hit,) = cli.answer("search", "subject3", "--limit", "1")
    assert (hit["uri"], hit["title"]) == (f"{server.url}/guide/3", "Guide 3")
    assert hit["metadata"]["modified"] == "2024-05-01T00:00:00Z"
    assert len(cli.answer("search", "page", "--filter", f"folder = '{server.url}/guide'", "--limit", "50")) == 6
    (program,) = cli.answer("search", "program", "--limit", "1")
    assert program["title"] == "Program"

    server.put("/guide/1", html("Guide 1", "Edited."))
    server.sitemap(*paths[1:], "/guide/index.php", lastmod="2024-05-01")
    server.put("/sitemap.xml", server.pages["/sitemap.xml"].body.replace(b"2024-05-01", b"2024-06-01", 1))
    planned = cli.answer("plan", "guide")
    assert {name: count for name, count in planned["counts"].items() if count} == {
        "unknown": 1, "unchanged": 4, "vanished": 1, "skipped": 1
    }  # fmt: skip
    server.paths()
    second = cli.answer("sync", "guide")
    assert (second["chunks"], second["deleted"], second["unchanged"]) == (1, 1, 4)
    assert [path for path, status in server.paths() if status != 404] == ["/robots.txt", "/sitemap.xml", "/guide/1"]

    server.pages.clear()
    failed = cli.run("sync", "guide", status=1)
    assert "lists no pages" in failed.stderr
    assert cli.answer("source", "show", "guide")["documents"] == 5


def test_the_service_asks_public_hosts_only(cli: Cli, server: Website, tmp_path: Path) -> None:
    server.put("/a", html("A", "A page."))
    server.sitemap("/a")
    cli.environment["KB_API_KEY"] = API_KEY
    with Service(cli) as service, service.client(API_KEY) as client:
        for uri in (server.url, f"git+https://127.0.0.1:{server.port}/repo.git"):
            job = client.post("/v1/documents", json={"uri": uri}).json()
            ended = client.get(f"/v1/jobs/{job['id']}", params={"wait": 60}).json()
            assert ended["status"] == "failed"
            assert "no public address" in ended["detail"]
        assert not server.asked
        refused = client.post("/v1/documents", json={"uri": "git+https://me:hidden@host/repo.git"})
        assert (refused.status_code, "hidden" in refused.text) == (400, False)
    assert "hidden" not in service.said
    cli.environment["KB_WEB_PRIVATE"] = "true"
    with Service(cli) as service, service.client(API_KEY) as client:
        job = client.post("/v1/documents", json={"uri": server.url}).json()
        ended = client.get(f"/v1/jobs/{job['id']}", params={"wait": 60}).json()
        assert (ended["status"], ended["states"]) == ("done", {"indexed": 1})
