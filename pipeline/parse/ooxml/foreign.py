"""Pieces of other formats that a Word file takes in: pages, mails of pages, and plain text."""

from __future__ import annotations

import email
from collections.abc import Iterator

from pipeline.parse.ooxml.package import Package
from pipeline.parse.parsed import parts, squeeze
from pipeline.types import Element, LossKind

_PAGES = (".html", ".htm", ".xhtml")
_MAILS = (".mht", ".mhtml", ".eml")


def foreign(package: Package, part: str, page: int | None) -> Iterator[Element]:
    """Elements of a piece, whose name says its format. Word files are not read here: they are read like the one around them."""
    data = package.data(part)
    name = part.lower()
    if not data:
        package.losses.add(LossKind.EMBEDDED_OBJECT, part, "a chunk of another format is missing")
    elif name.endswith(_PAGES):
        from pipeline.parse.html import html_of

        yield from html_of(data, package.losses).elements
    elif name.endswith(_MAILS):
        from pipeline.parse.mail import message_parsed

        yield from message_parsed(email.message_from_bytes(data.lstrip())).elements
    elif name.endswith(".txt"):
        yield from parts(squeeze(data.decode("utf-8", "replace")), page=page)
    else:
        package.losses.add(LossKind.EMBEDDED_OBJECT, part, "a chunk of another format")
