"""Reads a page of a PDF: its lines in reading order, or why it has none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pypdfium2.raw as pdfium_c

from pipeline.parse.parsed import Losses, Member
from pipeline.parse.pdf import glyphs
from pipeline.parse.pdf.aligned import with_tables
from pipeline.parse.pdf.grids import Table, placeholder, ruled
from pipeline.parse.pdf.hidden import Layers, texts_among, visible
from pipeline.parse.pdf.lines import Line, lines_of
from pipeline.parse.pdf.notes import Notes
from pipeline.parse.pdf.order import Row, regions
from pipeline.parse.pdf.pages import Page
from pipeline.parse.pdf.quick import Address, objects
from pipeline.parse.pdf.rules import drawn
from pipeline.parse.pdf.tags import tagged
from pipeline.types import Element, LossKind

#: A page with a picture and fewer characters than this counts as a picture.
MIN_PAGE_CHARS = 20
#: On a page with less text than this, a picture that covers this share of it is looked for: it may be text, too.
FEW_CHARS, PICTURE_SHARE = 200, 0.25

#: Replacement characters, and private ones, which fonts without a character map yield.
_ILLEGIBLE = re.compile("[\ufffd\ue000-\uf8ff]")


@dataclass(slots=True)
class Reader:
    """What the pages of a document have in common."""

    form: Any  #: its form environment; None where it has none
    layers: Layers
    is_tagged: bool
    losses: Losses
    members: list[Member]  #: files that are attached to it
    links: set[str] = field(default_factory=set)  #: targets of links that were told
    glyphs: glyphs.Glyphs = field(default_factory=glyphs.Glyphs)

    def read(self, page: Any, number: int) -> Page:
        """A page of pdfium. Pictures of text are losses."""
        textpage = page.get_textpage()
        try:
            text = textpage.get_text_range()
            found = glyphs.pieces(textpage, text, self.glyphs)
            texts, others, some_invisible = texts_among(objects(page))
            found = visible(found, textpage, texts, self.layers, some_invisible and not _is_pictured(page))
            if self.is_tagged:
                found = tagged(page, textpage, found)
            notes = list(Notes(page, textpage, self.form, number, self.losses, self.members, self.links, text).elements())
        finally:
            textpage.close()
        return _page(page, number, found, others, notes, self.losses)


def _is_pictured(page: Any) -> bool:
    return _picture_share(page) >= PICTURE_SHARE


def _page(page: Any, number: int, found: list[glyphs.Piece], others: list[Address], notes: list[Element], losses: Losses) -> Page:
    items = list(_items(others, found))
    _, bottom, _, top = page.get_bbox()
    text = " ".join(piece.text for piece in found)
    marks = sum(map(len, text.split()))
    legible = marks - (0 if text.isascii() else len(_ILLEGIBLE.findall(text)))
    if legible >= MIN_PAGE_CHARS and 2 * legible >= marks:
        if legible < FEW_CHARS and _picture_share(page) >= PICTURE_SHARE:
            losses.add(LossKind.PICTURE, f"page {number}", "a picture that covers a large part of the page")
        return Page(number, items, notes, bottom, top)
    # Fonts without a character map yield private or replacement characters: such pages are pictures of text, too.
    if legible < len(text.split()) or (legible and 2 * legible < marks):
        return Page(number, [], notes, bottom, top, "its fonts do not name their characters")
    return Page(number, items if legible else [], notes, bottom, top, "a scanned page" if _picture_share(page) > 0 else "")


def _items(others: Sequence[Address], found: Sequence[glyphs.Piece]) -> Iterator[Line | Table]:
    """The lines and tables of a page in reading order."""
    across, upright = drawn(others)
    tables, rest = ruled(found, across, upright)
    held = [placeholder(table) for table in tables]
    standing = {id(piece): table for piece, table in zip(held, tables, strict=True)}
    for region in regions([*rest, *held]):
        plain: list[Row] = []
        for row in with_tables(region, across):
            if isinstance(row, Table):
                yield from lines_of(plain)
                plain = []
                yield row
                continue
            if standing and (inside := [piece for piece in row if id(piece) in standing]):
                yield from lines_of(plain)
                plain = []
                yield from (standing[id(piece)] for piece in inside)
                row = [piece for piece in row if id(piece) not in standing]
            if row:
                plain.append(row)
        yield from lines_of(plain)


def _picture_share(page: Any) -> float:
    """The share of a page that its largest picture covers."""
    width, height = page.get_size()
    largest = 0.0
    for found in page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=3):
        left, bottom, right, top = found.get_bounds()
        largest = max(largest, abs((right - left) * (top - bottom)) / max(1.0, width * height), 1e-6)
    return largest
