"""HTML by a walk over lxml's tree: headings, paragraphs, lists, code and table rows; marked boilerplate is left out.

kb-ingest has its own walk because the result of the general parser is hard to search: it keeps navigation and permalink
marks, flattens tables, and loses text in trees nested 256 levels or more. This module compares the tree's text with the
bare text of the file, and uses the bare text where the tree has lost too much.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.parse.decode import decode_bytes
from pipeline.parse.htmlshown import UNSEEN
from pipeline.parse.htmlwalk import Walk
from pipeline.parse.parsed import Losses, Parsed, clean, pieces, squeeze
from pipeline.parse.properties import of_page
from pipeline.types import Element, LossKind

#: A page with fewer visible characters and a script is made by the script.
MIN_PAGE_CHARS = 200
#: Minimum share of the visible characters that the tree must contain.
MIN_SHARE = 0.95

_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*+=\s*+[\"']?\s*+([A-Za-z0-9_.:-]{2,40})", re.I)
_XML_ENCODING = re.compile(rb"\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_.:-]{2,40})", re.I)
_DECLARATION = re.compile(r"<\?xml[^<>]*>")
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:-]*)((?:[^<>\"']|\"[^\"<]*\"|'[^'<]*')*+)>?|<!--|<[!?][^<>]*>?")
_SCRIPT = re.compile(r"<script\b[^<>]{0,1000}(?:\bsrc\s*=|>[^<]{0,100}\S)", re.I)
_TITLE = re.compile(r"<title[^<>]*>([^<]*)", re.I)
#: Elements whose content is invisible to readers; an input has none, and no end.
_UNSEEN = (UNSEEN - {"input"}) | {"annotation", "annotation-xml"}
_INLINE_NAMES = "a abbr b bdi bdo cite code data dfn em font i kbd mark q s samp small span strong sub sup time tt u var wbr"
_INLINE = frozenset(_INLINE_NAMES.split())


def parse_html(path: Path, name: str) -> Parsed:
    """Elements of the HTML page at `path`; its title is its first heading, else its `<title>`."""
    return html_of(path.read_bytes())


def html_of(data: bytes, losses: Losses | None = None) -> Parsed:
    """Elements of the HTML page `data`, in the encoding that it declares where that fits; `losses` as in `html_parsed`."""
    declared = _XML_ENCODING.match(data[:400]) or _CHARSET.search(data[:4096])
    page = decode_bytes(data, declared.group(1).decode("ascii") if declared else "")
    return replace(html_parsed(page, losses=losses), metadata=of_page(page))


def html_parsed(text: str, *, declared_title: bool = False, contained: bool = False, losses: Losses | None = None) -> Parsed:
    """Elements and title of the page `text`. `declared_title`: `<title>` takes precedence over the first heading.

    `contained`: the pictures that the page refers to lie in its document. `losses` are those of the document that holds the page.
    """
    text = _DECLARATION.sub("", clean(text), count=1)
    visible, title = bare_text(text)
    losses = losses or Losses()
    if _weight(visible) < MIN_PAGE_CHARS and _SCRIPT.search(text):
        losses.add(LossKind.SCRIPTED_CONTENT, detail="the page is filled by a script; save it from a browser")
    walk = Walk.of(text, contained=contained)
    if walk is not None:
        elements = list(walk.elements())
        counted = sum(_weight(e.text) for e in elements) + walk.left_out + walk.in_headers
        if walk.pictures:
            losses.add(LossKind.PICTURE, detail="inside the document, without alternative text", count=walk.pictures)
        if counted >= MIN_SHARE * _weight(visible):
            return Parsed((title if declared_title else "") or walk.title or title, iter(elements), losses=losses)
    return Parsed(title, _paragraphs(visible), losses=losses)


def bare_text(page: str) -> tuple[str, str]:
    """The visible text of `page` by its tags alone, with a blank line between blocks, and its title; linear on any input."""
    parts: list[str] = []
    title = ""
    position = 0
    search = _TAG.search
    while (tag := search(page, position)) is not None:
        begin, end = tag.span()
        if begin > position:
            parts.append(page[position:begin])
        position = end
        closing, name = tag.group(1, 2)
        if name is None:
            if page.startswith("<!--", begin):
                end = page.find("-->", position)
                position = end + 3 if end >= 0 else len(page)
            continue
        name = name.lower()
        if name in _INLINE:
            continue
        if name in _UNSEEN and not closing and page[end - 2 : end] != "/>":
            end_tag = re.compile(rf"</{name}(?![\w-])", re.I).search(page, position)
            if end_tag is None and name in ("head", "svg", "object", "select", "button", "annotation", "annotation-xml"):
                continue  # left open by mistake: the following text is visible
            if name == "head" and (found := _TITLE.search(page, position, end_tag.start() if end_tag else len(page))):
                title = squeeze(html.unescape(found.group(1)))
            position = end_tag.start() if end_tag else len(page)
        else:
            parts.append("\n\n" if name != "br" else "\n")
    parts.append(page[position:])
    return html.unescape("".join(parts)), title


def _paragraphs(text: str) -> Iterator[Element]:
    for block in re.split(r"\n\s*\n", text):
        line = squeeze(block)
        for first, last in pieces(line):
            if part := line[first:last].strip():
                yield Element(part)


def _weight(text: str) -> int:
    """Characters without white space and without the bars that the walk adds to tables."""
    return sum(map(len, text.split())) - text.count("|")
