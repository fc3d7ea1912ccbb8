"""Loads of a website that changes: what is asked for, what is read, and what has vanished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from pipeline.errors import SourceError
from pipeline.ledger import Ledger
from pipeline.ledger.intake import Known
from pipeline.ledger.schema import writing
from pipeline.settings import Settings, load_settings
from pipeline.sources import client
from pipeline.sources.discover import Patterns
from pipeline.sources.remotes import Remotes
from pipeline.sources.uris import root_of
from pipeline.staging.local import LocalStaging
from pipeline.steps.load import Load, LoadCounts, Planned
from pipeline.steps.remove import vanished
from pipeline.steps.scope import Listed, Scope
from pipeline.types import document_id
from tests.website import Website, html, website


@pytest.fixture
def server() -> Iterator[Website]:
    with website() as found:
        yield found


class Loads:
    """Loads of a website."""

    def __init__(self, folder: Path, ledger: Ledger, location: str) -> None:
        self.ledger = ledger
        self.staging = LocalStaging(folder / "staging")
        self.settings: Settings = load_settings(data_dir=folder / "data", web_requests_per_s=1000, max_file_bytes=10_000)
        self.scope = Scope([root_of(location)], Patterns())

    def run(self, *, checksum: bool = False) -> LoadCounts:
        with Remotes(self.settings) as remotes:
            return self._step(remotes, checksum).run(self.ledger.runs.start("docs"), self.scope, lambda _: None)

    def plan(self) -> list[Planned]:
        with Remotes(self.settings) as remotes:
            return list(self._step(remotes).plan(self.scope))

    def _step(self, remotes: Remotes, checksum: bool = False) -> Load:
        self.listed = Listed(self.scope.uris())
        return Load(
            self.ledger, self.staging, "docs", "p" * 16, "e" * 16, max_file_bytes=10_000, file_times=True, checksum=checksum,
            listed=self.listed, remotes=remotes,
        )  # fmt: skip

    def finish(self) -> None:
        """Let all documents be indexed, as workers do."""
        with writing(self.ledger.engine) as connection:
            changes = "state = 'indexed', indexed_hash = content_hash, indexed_parse = :parse, indexed_embed = :embed"
            connection.execute(text(f"UPDATE documents SET {changes}"), {"parse": "p" * 16, "embed": "e" * 16})

    def known(self, uri: str) -> Known:
        (found,) = self.ledger.intake.known([document_id("docs", uri)]).values()
        return found


def put_all(server: Website, paths: Sequence[str], lastmod: str = "") -> None:
    """Pages at these paths, and a sitemap that lists them."""
    for path in paths:
        server.put(path, html(path, path))
    server.sitemap(*paths, lastmod=lastmod)


def test_a_load_asks_for_changes_only(server: Website, tmp_path: Path, ledger: Ledger) -> None:
    for path in ("/", "/a", "/b"):
        server.put(path, html(path, "text"))
    server.sitemap("/", "/a", "/b", "/gone")
    loads = Loads(tmp_path, ledger, server.url)
    assert {one.uri.removeprefix(server.url): (one.action, one.bytes) for one in loads.plan()} == {
        "/": ("added", 0), "/a": ("added", 0), "/b": ("added", 0), "/gone": ("added", 0)
    }  # fmt: skip
    counts = loads.run()
    assert (counts.added, counts.refused) == (3, 0)
    assert [(one.name, one.why) for one in counts.omitted] == [(f"{server.url}/gone", "HTTP 404")]
    before = loads.known(f"{server.url}/a")
    server.paths()
    counts = loads.run()
    assert (counts.added, counts.changed) == (0, 0)
    assert dict(server.paths()) == {"/robots.txt": 404, "/sitemap.xml": 200, "/": 304, "/a": 304, "/b": 304, "/gone": 404}
    assert loads.known(f"{server.url}/a") == before
    server.put("/a", html("/a", "other"))
    server.put("/gone", html("/gone", "back"))
    counts = loads.run()
    assert (counts.added, counts.changed) == (1, 1)
    server.paths()
    loads.run(checksum=True)  # reads all
    assert [status for _, status in server.paths()].count(304) == 0


def test_pages_that_the_sitemap_calls_unchanged_are_not_asked_for(server: Website, tmp_path: Path, ledger: Ledger) -> None:
    paths = [f"/{number}" for number in range(20)]
    put_all(server, paths, "2024-05-01T10:00:00+02:00")
    loads = Loads(tmp_path, ledger, server.url)
    loads.run()
    loads.finish()
    lists = {"/robots.txt": 404, "/sitemap.xml": 200}
    server.paths()
    assert {one.action for one in loads.plan()} == {"unchanged"}
    assert loads.run().unchanged == 20
    assert dict(server.paths()) == lists | lists

    server.sitemap(*paths[1:], lastmod="2024-05-01T08:00Z")  # the same moment
    server.put("/new.xml", server.pages["/sitemap.xml"].body.replace(b"2024-05-01T08:00Z", b"2024-06-01", 1))
    server.sitemap("/new.xml", kind="sitemapindex")
    plan = {one.uri.removeprefix(server.url): one.action for one in loads.plan()}
    assert {path for path, action in plan.items() if action == "unknown"} == {"/1"}
    server.paths()
    counts = loads.run()
    assert (counts.unchanged, counts.changed) == (18, 1), "lastmod is metadata"
    assert dict(server.paths()) == lists | {"/new.xml": 200, "/1": 304}
    loads.run()
    assert dict(server.paths()) == lists | {"/new.xml": 200}, "the new lastmod is kept although the page is as it was"

    loads.settings = loads.settings.model_copy(update={"web_check_days": 0.0})
    loads.run()
    assert len(server.paths()) == 3 + 19


def test_a_sitemap_that_misleads_is_not_believed_again(server: Website, tmp_path: Path, ledger: Ledger) -> None:
    for path in ("/a", "/b"):
        server.put(path, html(path, "text"))
    server.sitemap("/a", "/b", lastmod="2024-05-01")
    loads = Loads(tmp_path, ledger, server.url)
    loads.run()
    server.put("/a", html("/a", "edited"))
    assert loads.run().changed == 0
    every_time = loads.settings.model_copy(update={"web_check_days": 0.0})
    loads.settings, as_usual = every_time, loads.settings
    assert loads.run().changed == 1
    loads.settings = as_usual
    for _ in range(2):
        server.paths()
        loads.run()
        assert {path for path, _ in server.paths()} == {"/robots.txt", "/sitemap.xml", "/a"}
    server.put("/a", html("/a", "edited again"))
    assert loads.run().changed == 1
    server.sitemap("/a", "/b", lastmod="2024-07-01")
    loads.run()
    server.paths()
    loads.run()
    assert {path for path, _ in server.paths()} == {"/robots.txt", "/sitemap.xml"}


def gone(loads: Loads, ledger: Ledger, server: Website) -> tuple[set[str], str]:
    """Paths of the documents that a sync would delete, and why it would not delete others."""
    found = vanished(ledger, "docs", loads.scope, loads.listed, 0.2)
    return {one.uri.removeprefix(server.url) for one in found.documents}, found.refused


def test_pages_that_are_not_there_are_gone_and_those_that_fail_are_not(
    server: Website, tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)
    paths = [f"/{number}" for number in range(12)]
    put_all(server, paths)
    loads = Loads(tmp_path, ledger, server.url)
    loads.run()
    for number, status in enumerate((404, 410, 500, 503, 403, 401)):
        server.put(f"/{number}", status=status)
    counts = loads.run()
    assert [one.why for one in counts.omitted] == ["HTTP 404", "HTTP 410"]
    assert gone(loads, ledger, server) == ({"/0", "/1"}, "")
    assert loads.known(f"{server.url}/2").indexed_hash == ""  # nothing was indexed in this test, and the row stays
    server.put("/6", status=301, headers={"Location": "/7"})
    server.put("/8", status=301, headers={"Location": "/in/no/list"})
    server.put("/in/no/list", html("moved", "moved"))
    for number in range(2):
        server.put(f"/{number}", html("back", f"back {number}"))
    counts = loads.run()
    assert [one.why for one in counts.omitted] == [f"redirects to {server.url}/7, which is loaded itself"]
    assert gone(loads, ledger, server)[0] == {"/6"}
    for path in paths:
        server.put(path, status=404)
    loads.run()
    found, refused = gone(loads, ledger, server)
    assert (found, "contains no files any more" in refused) == (set(), True)
    server.put("/0", html("back", "alone"))
    loads.run()
    assert "more than KB_MAX_DELETE_RATIO" in gone(loads, ledger, server)[1]


@pytest.mark.parametrize(
    ("first", "second", "status", "why"),
    [
        (301, 308, 200, "redirects to {url}/there, which is loaded itself"),
        (308, 301, 404, "HTTP 404"),
        (301, 308, 500, ""),
        (302, 301, 200, ""),
        (301, 307, 200, ""),
    ],
    ids=["moved", "moved and gone", "moved, and fails", "for a time", "for a time after that"],
)
def test_only_a_page_that_has_moved_for_good_to_another_one_is_gone(
    first: int, second: int, status: int, why: str, server: Website, tmp_path: Path, ledger: Ledger
) -> None:
    put_all(server, ("/here", "/there"))
    loads = Loads(tmp_path, ledger, server.url)
    loads.run()
    server.put("/here", status=first, headers={"Location": "/on/the/way"})
    server.put("/on/the/way", status=second, headers={"Location": "/there"})
    server.put("/there", html("/there", "/there"), status=status)
    told = [one.why for one in loads.run().omitted if one.name.endswith("/here")]
    assert told == ([why.format(url=server.url)] if why else [])
    before = loads.known(f"{server.url}/here").content_hash
    server.put("/there", html("/there", "edited"))
    loads.run()
    after = loads.known(f"{server.url}/here").content_hash
    assert (after != before) == (302 in (first, second) or 307 in (first, second)), "it is read at its own address"


@pytest.mark.parametrize("path", ["/robots.txt", "/sitemap.xml"])
def test_a_website_that_is_down_loses_nothing(
    path: str, server: Website, tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)
    server.put("/a", html("/a", "text"))
    server.sitemap("/a")
    loads = Loads(tmp_path, ledger, server.url)
    loads.run()
    server.put(path, status=503)
    with pytest.raises(SourceError):
        loads.run()
    assert loads.known(f"{server.url}/a").content_hash


def test_what_is_in_no_sitemap_any_more_has_vanished(server: Website, tmp_path: Path, ledger: Ledger) -> None:
    paths = [f"/{number}" for number in range(10)]
    put_all(server, paths)
    loads = Loads(tmp_path, ledger, server.url)
    loads.run()
    server.sitemap(*paths[1:])  # the page itself is still there
    loads.run()
    gone = vanished(ledger, "docs", loads.scope, loads.listed, 0.2)
    assert ([one.uri for one in gone.documents], gone.refused) == ([f"{server.url}/0"], "")
    server.sitemap(paths[0])
    loads.run()
    assert "more than KB_MAX_DELETE_RATIO" in vanished(ledger, "docs", loads.scope, loads.listed, 0.2).refused
    server.sitemap("/part.xml", "/missing.xml", kind="sitemapindex")
    server.sitemap(*paths[2:], at="/part.xml")
    loads.run()
    assert "could not be listed" in vanished(ledger, "docs", loads.scope, loads.listed, 0.9, allow=True).refused
    server.pages.clear()
    with pytest.raises(SourceError, match="lists no pages"):
        loads.run()
