"""URLs of websites and the URIs of their pages: pure text, no server is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from pipeline.errors import ConfigError

#: Endings of files that list pages. A URL with another one stands for the pages below it.
LISTS = (".xml", ".xml.gz", ".txt")

#: Endings of programs that make pages, and say nothing about the content.
_PROGRAMS = (".php", ".asp", ".aspx", ".jsp", ".cgi", ".do", ".cfm")

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Site:
    """A website or a part of it."""

    root: str  #: beginning of the URIs of its pages, without a trailing slash
    list: str  #: URL of the sitemap or llms.txt that was named; empty: it is looked for

    @property
    def host(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.root)
        return f"{parts.scheme}://{parts.netloc}"


def is_page(location: str) -> bool:
    """Whether a location or URI is one of a website."""
    return location.lower().startswith(("http://", "https://"))


def site(location: str) -> Site:
    """The website that a URL means. Raises ConfigError, whose text has no part of the URL: it may have a password in it."""
    try:
        parts = urlsplit(location)
        host = _host(parts)
    except ValueError as error:
        raise ConfigError("this is no URL of a website; use https://host/ or https://host/sitemap.xml") from error
    if "@" in parts.netloc or parts.query or not parts.hostname:
        raise ConfigError("the URL of a website must have a host, and no password, token or query")
    path = quote(parts.path, safe="/%:@,;=+$&()*'~").replace("!", "%21")
    if path.lower().endswith(LISTS):
        return Site(host + path.rpartition("/")[0], host + path)
    return Site(host + path.rstrip("/"), "")


def page_uri(url: str, base: str, of: Site) -> str:
    """The URI of the page that a list at `base` names by `url`; empty if it is on another host.

    A page of the host by another one of HTTP and HTTPS is the same page. `!` and a `/` of the query are percent-encoded: in URIs
    of documents they have a meaning.
    """
    try:
        parts = urlsplit(urljoin(base, url.strip()))
        same = parts.scheme in _PORTS and urlsplit(_host(parts)).netloc == urlsplit(of.host).netloc and "@" not in parts.netloc
    except ValueError:
        return ""
    if not same:
        return ""
    path = quote(parts.path or "/", safe="/%:@,;=+$&()*'~")
    query = quote(parts.query, safe="%:@,;=+$&()*'~?")
    return f"{of.host}{path}{'?' if query else ''}{query}"


def _host(parts: SplitResult) -> str:
    """Scheme, host and port in small letters, the usual port left out. Raises ValueError."""
    name = (parts.hostname or "").encode("idna").decode() if not (parts.hostname or "").isascii() else parts.hostname or ""
    port = parts.port if parts.port != _PORTS.get(parts.scheme) else None
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}{f':{port}' if port else ''}"


def page_name(uri: str) -> str:
    """The name of a page, by whose ending its kind is decided; one that a program makes is taken for HTML."""
    around, _, member = uri.rpartition("!/")
    if around:
        return unquote(PurePosixPath(member).name)
    name = unquote(PurePosixPath(urlsplit(uri).path).name) or urlsplit(uri).netloc
    return f"{name}.html" if name.lower().endswith(_PROGRAMS) else name
