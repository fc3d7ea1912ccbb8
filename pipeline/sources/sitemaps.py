"""What lists the pages of a website: sitemaps in XML or plain text, also compressed, and llms.txt."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lxml import etree

#: Maximum bytes of a list, unpacked, as sitemaps.org has it.
MAX_BYTES = 50 << 20

_GZIP = b"\x1f\x8b"
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)")


@dataclass(frozen=True, slots=True)
class Listing:
    """The content of a list."""

    pages: dict[str, float | None] = field(default_factory=dict)  #: URLs as they are there, and when each was modified
    lists: list[str] = field(default_factory=list)  #: URLs of other sitemaps


def read(data: bytes, name: str) -> Listing:
    """The pages and further lists that a sitemap or llms.txt names. Raises ValueError if it is none, or too large."""
    if data.startswith(_GZIP):
        unpacking = zlib.decompressobj(wbits=31)
        try:
            data = unpacking.decompress(data, MAX_BYTES + 1)
        except zlib.error as error:
            raise ValueError(f"is damaged: {error}") from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"has more than {MAX_BYTES:,} bytes")
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
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"is no well-formed XML: {error.msg}") from error
    kind = etree.QName(root).localname
    if kind not in ("urlset", "sitemapindex"):
        raise ValueError(f"is no sitemap, but <{kind}>")
    found = Listing()
    for entry in root:
        fields = {etree.QName(one).localname: (one.text or "").strip() for one in entry if isinstance(one.tag, str)}
        if url := fields.get("loc", ""):
            if kind == "urlset":
                found.pages[url] = _time(fields.get("lastmod", ""))
            else:
                found.lists.append(url)
    return found


def _time(text: str) -> float | None:
    """A time of the W3C's format in seconds since the epoch; UTC where it names no zone."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
