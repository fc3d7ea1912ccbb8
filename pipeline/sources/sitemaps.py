"""What lists the pages of a website: sitemaps in XML or plain text, also compressed, and llms.txt."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lxml import etree

#: Maximum bytes of a list, unpacked, as sitemaps.org has it.
MAX_BYTES = 50 << 20

#: Maximum number of elements: one of each page's four is usual, and a link to each translation.
MAX_ELEMENTS = 1_000_000

_GZIP = b"\x1f\x8b"
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)")


@dataclass(frozen=True, slots=True)
class Listing:
    """The content of a list."""

    pages: dict[str, float | None] = field(default_factory=dict)  #: URLs as they are there, and when each was modified
    lists: list[str] = field(default_factory=list)  #: URLs of other sitemaps


def read(data: bytes, name: str) -> Listing:
    """The pages and further lists that a sitemap or llms.txt names. Raises ValueError if it is none, or too large."""
    ends = True
    if data.startswith(_GZIP):
        unpacking = zlib.decompressobj(wbits=31)
        try:
            data = unpacking.decompress(data, MAX_BYTES + 1)
        except zlib.error as error:
            raise ValueError(f"is damaged: {error}") from error
        ends = unpacking.eof
    if len(data) > MAX_BYTES:
        raise ValueError(f"has more than {MAX_BYTES:,} bytes")
    if not ends:
        raise ValueError("is cut off")
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return _sitemap(data)
    text = data.decode("utf-8", "replace")
    if name.endswith(("llms.txt", "llms-full.txt")):
        return Listing(dict.fromkeys(_LINK.findall(text)))
    urls = dict.fromkeys(line.strip() for line in text.removeprefix("\ufeff").splitlines())
    if found := [url for url in urls if url.startswith(("http://", "https://"))]:
        return Listing(dict.fromkeys(found))
    raise ValueError("is no sitemap")


def _sitemap(data: bytes) -> Listing:
    """A sitemap in XML. Entities are not replaced, nothing else is read for it, and broken XML is refused whole."""
    reader = _Reader()
    try:
        etree.fromstring(data, etree.XMLParser(target=reader, resolve_entities=False, no_network=True, load_dtd=False))
    except etree.XMLSyntaxError as error:
        raise ValueError(f"is no well-formed XML: {error.msg}") from error
    return reader.found


class _Reader:
    """Is told the elements of a sitemap one after the other; no tree is made, whatever they are."""

    def __init__(self) -> None:
        self.found = Listing()
        self._path: list[str] = []
        self._fields: dict[str, list[str]] = {}  #: texts of the entry that is being read
        self._elements = 0

    def start(self, tag: str, _attributes: object) -> None:
        name = tag.rpartition("}")[2]
        self._path.append(name)
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise ValueError(f"has more than {MAX_ELEMENTS:,} elements")
        if self._path[0] not in ("urlset", "sitemapindex"):
            raise ValueError(f"is no sitemap, but <{name[:40]}>")
        if len(self._path) == 2:
            self._fields = {}
        elif len(self._path) == 3:
            self._fields[name] = []

    def data(self, text: str) -> None:
        if len(self._path) == 3:
            self._fields[self._path[2]].append(text)

    def end(self, _tag: str) -> None:
        self._path.pop()
        if len(self._path) != 1:
            return
        fields = {name: "".join(texts).strip() for name, texts in self._fields.items()}
        url = fields.get("loc", "")
        if url and self._path[0] == "urlset":
            self.found.pages[url] = _time(fields.get("lastmod", ""))
        elif url:
            self.found.lists.append(url)

    def close(self) -> None:
        pass


def _time(text: str) -> float | None:
    """A time of the W3C's format in seconds since the epoch; UTC where it names no zone."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
