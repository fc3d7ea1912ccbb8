"""Lists the pages of websites by their sitemaps or llms.txt, and fetches those that have changed."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.errors import DocumentError, FileGone, SourceError
from pipeline.files.errors import translating
from pipeline.sources import sitemaps
from pipeline.sources.client import Client, Manners
from pipeline.sources.discover import Omitted, Patterns
from pipeline.sources.freshness import Answer, answered
from pipeline.sources.pages import Site, page_uri, site
from pipeline.sources.robots import Robots, robots_of
from pipeline.types import Reason, SourceFile

#: Maximum number of sitemaps of a website, and characters of a page's URL.
MAX_LISTS, MAX_URL_CHARS = 1000, 2000

#: Maximum number of pages of a website.
MAX_PAGES = 1_000_000

#: Lists that a website may have without naming them.
USUAL = ("sitemap.xml", "llms.txt")

#: Codes of a list or page that does not exist, and of one that has another address from now on.
_MISSING, _MOVED = frozenset({404, 410}), frozenset({301, 308})


@dataclass(frozen=True, slots=True)
class _Visit:
    """A website that is being read."""

    client: Client
    robots: Robots
    listed: set[str] = field(default_factory=set)  #: URIs of the pages that are loaded


class Web:
    """Reads websites. Each is visited for as long as this object is open: its robots.txt is read once."""

    def __init__(self, manners: Manners, max_file_bytes: int) -> None:
        self._manners = manners
        self._max_file_bytes = max_file_bytes
        self._visits: dict[str, _Visit] = {}
        self._lock = threading.Lock()  # of the visits

    def close(self) -> None:
        """Close all connections."""
        for visit in self._visits.values():
            visit.client.close()
        self._visits.clear()

    def listed(self, location: str, patterns: Patterns) -> Iterator[SourceFile | Omitted]:
        """Every wanted page that the lists of a website name. Raises SourceError where it names none, or cannot be read."""
        asked = site(location)
        visit = self._visit(asked)
        pages = _Pages(asked, visit)
        try:
            pages.gather()
        except SourceError as error:
            raise SourceError(f"cannot list {asked.root}: {error}") from error
        if not pages.found and not pages.gaps:
            where = asked.list or asked.root
            raise SourceError(f"{where} lists no pages below {asked.root}/; a website needs a sitemap or llms.txt")
        yield from pages.gaps
        wanted = [uri for uri in pages.found if patterns.wants(uri.removeprefix(asked.root).removeprefix("/"))]
        allowed = {uri for uri in wanted if visit.robots.allows(uri)}
        visit.listed.update(allowed)  # all of them before the first is fetched: it may redirect to any
        for uri in wanted:
            if uri in allowed:
                yield SourceFile(uri, None, -1, 0, pages.found[uri])
            else:
                yield Omitted(uri, "is disallowed by robots.txt", uri)

    def copy(self, file: SourceFile, target: Path) -> tuple[str, SourceFile]:
        """Fetch a page into `target`; return its sha256, and the page with size and version.

        The sha256 is empty where the server says that the version is still the one that `file` has, by its validators.
        Raises FileGone where there is no such page any more, DocumentError, and SourceError where the host no longer answers.
        """
        visit = self._visit(site(file.uri.partition("?")[0]))
        conditions, hops = Answer.read(file.validators).conditions, list[tuple[str, int]]()

        def allowed(url: str, status: int) -> bool:
            hops.append((url, status))
            return visit.robots.allows(url)

        try:
            with visit.client.answer(file.uri, conditions, allowed) as response:
                there = _moved_to(hops)
                if there != file.uri and there in visit.listed and response.status_code in (200, 304):
                    raise FileGone(Reason.UNREADABLE, f"redirects to {there}, which is loaded itself")
                if response.status_code == 304 and conditions:
                    return "", replace(file, validators=answered(file, response.headers, time.time(), changed=False))
                if response.status_code in _MISSING:
                    raise FileGone(Reason.UNREADABLE, f"HTTP {response.status_code}")
                if response.status_code != 200:
                    raise DocumentError(Reason.UNREADABLE, f"HTTP {response.status_code}")
                digest, size = hashlib.sha256(), 0
                with translating(target), target.open("wb") as writer:
                    for window in visit.client.windows(response):
                        size += len(window)
                        if size > self._max_file_bytes:
                            raise DocumentError(Reason.TOO_LARGE, f"KB_MAX_FILE_BYTES is {self._max_file_bytes}")
                        digest.update(window)
                        writer.write(window)
                version = int(digest.hexdigest()[:14], 16)
                validators = answered(file, response.headers, time.time(), changed=version != file.mtime_ns)
        except SourceError as error:
            if visit.client.is_silent:
                raise SourceError(f"{file.uri}: {error}; the host does not answer any more") from error
            raise DocumentError(Reason.UNREADABLE, str(error)) from error
        if not size:
            raise DocumentError(Reason.EMPTY_FILE, "zero bytes")
        return digest.hexdigest(), replace(file, size=size, mtime_ns=version, validators=validators)

    def _visit(self, asked: Site) -> _Visit:
        with self._lock:
            if asked.host not in self._visits:
                client = Client(asked, self._manners)
                try:
                    robots = robots_of(asked, client, self._manners.agent)
                except BaseException:
                    client.close()
                    raise
                client.pace.every_s = max(client.pace.every_s, robots.delay_s)
                self._visits[asked.host] = _Visit(client, robots)
            return self._visits[asked.host]


def _moved_to(hops: Sequence[tuple[str, int]]) -> str:
    """Where a page is from now on, by its redirects and their status; empty where one of them is for a time only."""
    return hops[-1][0] if hops and all(status in _MOVED for _, status in hops) else ""


@dataclass(slots=True)
class _Pages:
    """The pages of a website, as its lists name them."""

    site: Site
    visit: _Visit
    found: dict[str, float | None] = field(default_factory=dict)  #: URIs, and when each page was modified
    gaps: list[Omitted] = field(default_factory=list)  #: lists that cannot be read

    def gather(self) -> None:
        """Read the list that was named, those of robots.txt, or the usual ones. Raises SourceError."""
        if self.site.list:
            if not self._read([self.site.list]):
                raise SourceError(f"{self.site.list} does not exist")
            return
        named = (page_uri(url, self.site.host, self.site) for url in self.visit.robots.sitemaps)
        self._read([uri for uri in named if uri])
        for url in dict.fromkeys(f"{place}/{name}" for place in (self.site.root, self.site.host) for name in USUAL):
            if self.found or self.gaps:
                return
            self._read([url], named=False)

    def _read(self, lists: Sequence[str], *, named: bool = True) -> bool:
        """Read lists and those that they name; return whether any of the first ones exists.

        Without `named`, nobody has said that there is a list: many websites answer with a page whatever they are asked for.
        """
        waiting, seen, exists = deque(lists), set(lists), False
        while waiting:
            url = waiting.popleft()
            try:
                listing = self._list(url)
            except SourceError as error:
                if url in lists:
                    raise
                self.gaps.append(Omitted(url, f"cannot be read: {error}", url, folder=True))
                continue
            except ValueError as error:
                if url in lists and named:
                    raise SourceError(f"{url} {error}") from error
                listing = None
            if listing is None:
                if url not in lists:
                    self.gaps.append(Omitted(url, "is no sitemap, or does not exist", url, folder=True))
                continue
            exists = True
            self._take(listing, url)
            new = (page_uri(one, url, self.site) for one in listing.lists)
            waiting += (fresh := [uri for uri in dict.fromkeys(new) if uri and uri not in seen])
            seen.update(fresh)
            if len(seen) > MAX_LISTS:
                raise SourceError(f"there are more than {MAX_LISTS:,} sitemaps")
        return exists

    def _list(self, url: str) -> sitemaps.Listing | None:
        """The content of a list; None if it does not exist. Raises SourceError, and ValueError for one that is none."""
        client = self.visit.client
        try:
            with client.answer(url, {}) as response:
                if response.status_code in _MISSING:
                    return None
                if response.status_code != 200:
                    raise SourceError(f"HTTP {response.status_code}")
                data = client.content(response, sitemaps.MAX_BYTES)
        except SourceError as error:
            raise SourceError(f"{url}: {error}") from error
        return sitemaps.read(data, url)

    def _take(self, listing: sitemaps.Listing, url: str) -> None:
        """Add those pages of a list that lie below the root."""
        root = self.site.root
        for named, modified in listing.pages.items():
            uri = page_uri(named, url, self.site)
            if len(uri) <= MAX_URL_CHARS and (uri == root or uri.startswith(f"{root}/")):
                self.found[uri] = modified
        if len(self.found) > MAX_PAGES:
            raise SourceError(f"there are more than {MAX_PAGES:,} pages; name a sitemap of a part")
