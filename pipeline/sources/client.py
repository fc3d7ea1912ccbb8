"""Asks websites politely: in its own name, not too often, again when they ask for it, and never another host."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import httpx

from pipeline.errors import SourceError
from pipeline.sources.addresses import public_addresses
from pipeline.sources.pages import Site, page_uri

log = logging.getLogger(__name__)

#: Attempts at a request, and the first pause between two of them in seconds; it doubles.
TRIES, FIRST_PAUSE_S = 3, 1.0

#: A server that asks for a longer pause in seconds is not waited for.
MAX_PAUSE_S = 120.0

#: Redirects that are followed.
REDIRECTS = 5

#: Requests in a row that a host does not answer, after which it is given up.
SILENT = 5

#: Codes that a later attempt may not get.
_RETRIED = frozenset({429, 502, 503, 504})
#: How answers may be packed. Others pack so much into a read that memory has no limit.
_PACKINGS = frozenset({"", "identity", "gzip", "deflate"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Manners:
    """How websites are asked."""

    agent: str = "kb-ingest"
    requests_per_s: float = 2.0
    timeout_s: float = 60.0
    public_only: bool = False  #: refuse hosts with addresses that are not public


@dataclass(slots=True)
class Pace:
    """Spaces the requests to one host, from all threads."""

    every_s: float
    _next: float = 0.0  #: monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self) -> None:
        """Return when it is the caller's turn."""
        with self._lock:
            turn = max(time.monotonic(), self._next)
            self._next = turn + self.every_s
        time.sleep(max(0.0, turn - time.monotonic()))

    def pause(self, seconds: float) -> None:
        """Let nobody's turn come for a while."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class Client:
    """Requests to one website; safe to use from several threads."""

    def __init__(self, site: Site, manners: Manners) -> None:
        self._site = site
        self._manners = manners
        self.pace = Pace(1 / manners.requests_per_s)
        self._silent = 0
        headers = {"User-Agent": manners.agent, "Accept": "text/html, */*;q=0.8", "Accept-Encoding": "gzip"}
        self._http = httpx.Client(headers=headers, timeout=min(30.0, manners.timeout_s))

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    @property
    def is_silent(self) -> bool:
        """Whether the host has not answered several requests in a row."""
        return self._silent >= SILENT

    @contextmanager
    def answer(
        self, url: str, headers: Mapping[str, str], allowed: Callable[[str, int], bool] = lambda *_: True
    ) -> Iterator[httpx.Response]:
        """The answer to a request, whose content `windows` reads; redirects are followed to URLs of this host that are `allowed`.

        `allowed` is asked with the URL and the status that redirects to it. Raises SourceError where there is no answer.
        """
        for _ in range(REDIRECTS + 1):
            response = self._send(url, headers)
            try:
                if response.status_code not in _REDIRECTS or "location" not in response.headers:
                    yield response
                    return
                location, status = response.headers["location"], response.status_code
            finally:
                response.close()
            url = self._redirected(url, location)
            if not allowed(url, status):
                raise SourceError("it redirects to a URL that robots.txt disallows")
        raise SourceError(f"it redirects more than {REDIRECTS} times")

    def _redirected(self, url: str, location: str) -> str:
        """Where an answer sends a request to. Raises SourceError if that is another website."""
        there = page_uri(location, url, self._site)
        try:
            parts = urlsplit(urljoin(url, location))
            name = f"{parts.scheme}://{parts.netloc}"
        except ValueError:
            name = "no URL"
        if not there or parts.scheme != urlsplit(self._site.root).scheme:
            raise SourceError(f"it redirects to {name[:200]}, which is another website")
        return there

    def content(self, response: httpx.Response, max_bytes: int) -> bytes:
        """The whole content of an answer. Raises SourceError as `windows` does, and where it has more than `max_bytes`."""
        found, size = [], 0
        for window in self.windows(response):
            found.append(window)
            size += len(window)
            if size > max_bytes:
                raise SourceError(f"it has more than {max_bytes:,} bytes")
        return b"".join(found)

    def windows(self, response: httpx.Response) -> Iterator[bytes]:
        """The content of an answer. Raises SourceError where it breaks off or takes too long."""
        packing = response.headers.get("content-encoding", "").lower()
        if packing not in _PACKINGS:
            raise SourceError(f"the answer is packed as {packing[:20]!r}, which nobody asked for")
        deadline = time.monotonic() + self._manners.timeout_s
        try:
            for window in response.iter_bytes():
                if time.monotonic() > deadline:
                    raise SourceError(f"it has not arrived within {self._manners.timeout_s:g} s")
                yield window
        except httpx.HTTPError as error:
            raise SourceError(f"the answer breaks off: {str(error) or type(error).__name__}") from error

    def _send(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        pause_s, why = FIRST_PAUSE_S, ""
        for attempt in range(TRIES):
            self.pace.wait()
            try:
                response = self._http.send(self._request(url, headers), stream=True)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise SourceError(f"the URL cannot be used: {error}") from error
            except httpx.HTTPError as error:
                self._silent += 1
                why, after_s = str(error) or type(error).__name__, pause_s * random.uniform(0.5, 1.5)
            else:
                self._silent = 0
                if response.status_code not in _RETRIED:
                    return response
                why, after_s = f"HTTP {response.status_code}", max(_asked_pause(response), pause_s)
                response.close()
            if attempt + 1 == TRIES or after_s > MAX_PAUSE_S or self.is_silent:
                break
            log.info("%s: %s; next attempt in %.1f s", url, why, after_s)
            self.pace.pause(after_s)
            pause_s *= 2
        raise SourceError(why)

    def _request(self, url: str, headers: Mapping[str, str]) -> httpx.Request:
        if not self._manners.public_only:
            return self._http.build_request("GET", url, headers=headers)
        # The address that was looked at is the one that is asked: the name may have another one a moment later.
        parts = httpx.URL(url)
        address = public_addresses(parts.host)[0]
        named = {**headers, "Host": parts.netloc.decode("ascii")}
        return self._http.build_request(
            "GET", parts.copy_with(host=address), headers=named, extensions={"sni_hostname": parts.host}
        )


def _asked_pause(response: httpx.Response) -> float:
    """The seconds of `Retry-After`; 0 where it is missing or cannot be read."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
