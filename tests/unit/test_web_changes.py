"""Loads of a website that changes: what is asked for, what is read, and what has vanished."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import SourceError
from pipeline.ledger import Ledger
from pipeline.ledger.intake import Known
from pipeline.settings import Settings, load_settings
from pipeline.sources.discover import Patterns
from pipeline.sources.remotes import Remotes
from pipeline.sources.uris import root_of
from pipeline.staging.local import LocalStaging
from pipeline.steps.load import Load, LoadCounts, Planned
from pipeline.steps.remove import vanished
from pipeline.steps.scope import Listed, Scope
from pipeline.types import DocumentState, document_id
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

    def known(self, uri: str) -> Known:
        (found,) = self.ledger.intake.known([document_id("docs", uri)]).values()
        return found


def test_a_load_asks_for_changes_only(server: Website, tmp_path: Path, ledger: Ledger) -> None:
    for path in ("/", "/a", "/b"):
        server.put(path, html(path, "text"))
    server.sitemap("/", "/a", "/b", "/gone")
    loads = Loads(tmp_path, ledger, server.url)
    assert {one.uri.removeprefix(server.url): (one.action, one.bytes) for one in loads.plan()} == {
        "/": ("added", 0), "/a": ("added", 0), "/b": ("added", 0), "/gone": ("added", 0)
    }  # fmt: skip
    counts = loads.run()
    assert (counts.added, counts.refused) == (3, 1)
    refused = loads.known(f"{server.url}/gone")
    assert (refused.state, refused.reason, refused.detail, refused.size) == (DocumentState.QUARANTINED, "unreadable", "HTTP 404", 0)
    before = loads.known(f"{server.url}/a")
    server.paths()
    counts = loads.run()
    assert (counts.added, counts.changed) == (0, 0)
    assert dict(server.paths()) == {"/robots.txt": 404, "/sitemap.xml": 200, "/": 304, "/a": 304, "/b": 304, "/gone": 404}
    assert loads.known(f"{server.url}/a") == before
    server.put("/a", html("/a", "other"))
    server.put("/gone", html("/gone", "back"))
    counts = loads.run()
    assert (counts.added, counts.changed) == (0, 2)
    server.paths()
    loads.run(checksum=True)  # reads all
    assert [status for _, status in server.paths()].count(304) == 0


def test_what_is_in_no_sitemap_any_more_has_vanished(server: Website, tmp_path: Path, ledger: Ledger) -> None:
    paths = [f"/{number}" for number in range(10)]
    for path in paths:
        server.put(path, html(path, path))
    server.sitemap(*paths)
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
