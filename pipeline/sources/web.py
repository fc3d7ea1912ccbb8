"""Lists the pages of websites by their sitemaps or llms.txt, and fetches those that have changed."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from pipeline.errors import DocumentError, SourceError
from pipeline.files.errors import translating
from pipeline.sources import sitemaps
from pipeline.sources.client import Client, Manners
from pipeline.sources.discover import Omitted, Patterns
from pipeline.sources.pages import Site, page_uri, site
from pipeline.sources.robots import Robots, robots_of
from pipeline.types import Reason, SourceFile

#: Maximum number of sitemaps of a website, and characters of a page's URL.
MAX_LISTS, MAX_URL_CHARS = 1000, 2000

#: Maximum number of pages of a website, and characters of a validator that is kept.
MAX_PAGES, MAX_VALIDATOR_CHARS = 1_000_000, 500

#: Lists that a website may have without naming them.
USUAL = ("sitemap.xml", "llms.txt")

#: Codes of a list that does not exist.
_MISSING = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class _Visit:
    """A website that is being read."""

    client: Client
    robots: Robots


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
        found: dict[str, float | None] = {}
        gaps: list[Omitted] = []
        try:
            self._gather(asked, visit, found, gaps)
        except SourceError as error:
            raise SourceError(f"cannot list {asked.root}: {error}") from error
        if not found and not gaps:
            raise SourceError(
                f"{asked.list or asked.root} lists no pages below {asked.root}/; a website needs a sitemap or llms.txt"
            )
        yield from gaps
        for uri, modified in found.items():
            if not patterns.wants(uri.removeprefix(asked.root).removeprefix("/")):
                continue
            if visit.robots.allows(uri):
                yield SourceFile(uri, None, -1, 0, modified)
            else:
                yield Omitted(uri, "is disallowed by robots.txt", uri)

    def copy(self, file: SourceFile, target: Path) -> tuple[str, SourceFile] | None:
        """Fetch a page into `target`; return its sha256, and the page with size and version. None: its validators still hold.

        Raises DocumentError, and SourceError where the host no longer answers at all.
        """
        visit = self._visit(site(file.uri.partition("?")[0]))
        try:
            with visit.client.answer(file.uri, _conditions(file.validators), visit.robots.allows) as response:
                if response.status_code == 304 and file.validators:
                    return None
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
                validators = _validators(response)
        except SourceError as error:
            if visit.client.is_silent:
                raise SourceError(f"{file.uri}: {error}; the host does not answer any more") from error
            raise DocumentError(Reason.UNREADABLE, str(error)) from error
        if not size:
            raise DocumentError(Reason.EMPTY_FILE, "zero bytes")
        version = int(digest.hexdigest()[:14], 16)
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

    def _gather(self, asked: Site, visit: _Visit, found: dict[str, float | None], gaps: list[Omitted]) -> None:
        """Find the pages below the root: by the list that was named, by those of robots.txt, or by the usual ones."""
        if asked.list:
            if not self._read([asked.list], asked, visit, found, gaps):
                raise SourceError(f"{asked.list} does not exist")
            return
        self._read([uri for url in visit.robots.sitemaps if (uri := page_uri(url, asked.host, asked))], asked, visit, found, gaps)
        for url in dict.fromkeys(f"{place}/{name}" for place in (asked.root, asked.host) for name in USUAL):
            if found or gaps:
                return
            self._read([url], asked, visit, found, gaps)

    def _read(self, lists: list[str], asked: Site, visit: _Visit, found: dict[str, float | None], gaps: list[Omitted]) -> bool:
        """Read lists and those that they name; return whether the first ones exist. Gaps are lists that cannot be read."""
        waiting, seen, exists = list(lists), set(lists), False
        while waiting:
            url = waiting.pop(0)
            try:
                listing = self._list(url, visit)
            except (SourceError, ValueError) as error:
                if url in lists:
                    raise SourceError(f"{url} {error}" if isinstance(error, ValueError) else f"{url}: {error}") from error
                gaps.append(Omitted(url, f"cannot be read: {error}", url, folder=True))
                continue
            if listing is None:
                if url not in lists:
                    gaps.append(Omitted(url, "does not exist", url, folder=True))
                continue
            exists = True
            for named, modified in listing.pages.items():
                uri = page_uri(named, url, asked)
                if len(uri) <= MAX_URL_CHARS and (uri == asked.root or uri.startswith(f"{asked.root}/")):
                    found[uri] = modified
            if len(found) > MAX_PAGES:
                raise SourceError(f"there are more than {MAX_PAGES:,} pages; name a sitemap of a part")
            new = dict.fromkeys(uri for named in listing.lists if (uri := page_uri(named, url, asked)) and uri not in seen)
            if len(seen) + len(new) > MAX_LISTS:
                raise SourceError(f"there are more than {MAX_LISTS:,} sitemaps")
            seen.update(new)
            waiting += new
        return exists

    def _list(self, url: str, visit: _Visit) -> sitemaps.Listing | None:
        """The content of a list; None if it does not exist. Raises SourceError, and ValueError for one that is none."""
        with visit.client.answer(url, {}) as response:
            if response.status_code in _MISSING:
                return None
            if response.status_code != 200:
                raise SourceError(f"HTTP {response.status_code}")
            data = visit.client.content(response, sitemaps.MAX_BYTES)
        return sitemaps.read(data, url.partition("?")[0])


def _validators(response: httpx.Response) -> str:
    """What a server wants to hear when the page is asked for again; empty where it has no such thing."""
    told = ((name, response.headers.get(name, "")) for name in ("etag", "last-modified"))
    found = {name: value for name, value in told if 0 < len(value) <= MAX_VALIDATOR_CHARS}
    return json.dumps(found, sort_keys=True) if found else ""


def _conditions(validators: str) -> dict[str, str]:
    """The header fields by which a server says that nothing has changed."""
    kept: dict[str, str] = json.loads(validators) if validators else {}
    names = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}
    return {names[name]: value for name, value in kept.items()}
