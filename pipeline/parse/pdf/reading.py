"""Reads a page of a PDF: its lines in reading order, or why it has none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from pipeline.parse.parsed import Losses, Member
from pipeline.parse.pdf import glyphs
from pipeline.parse.pdf.aligned import with_tables
from pipeline.parse.pdf.grids import Table, placeholder, ruled
from pipeline.parse.pdf.hidden import Layers, texts_among, visible
from pipeline.parse.pdf.lines import Line, lines_of
from pipeline.parse.pdf.notes import Notes
from pipeline.parse.pdf.opened import Opened
from pipeline.parse.pdf.order import Row, regions
from pipeline.parse.pdf.pages import Page
from pipeline.parse.pdf.pictured import picture_share
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


#: White space that is ASCII.
_SPACES = bytes(code for code in range(128) if chr(code).isspace())


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

    def read(self, page: Opened) -> Page:
        """A page of pdfium. Pictures of text are losses."""
        found = glyphs.pieces(page, self.glyphs)
        texts, others, some_invisible = texts_among(objects(page.at_page))
        found = visible(found, page, texts, self.layers, some_invisible and picture_share(page) < PICTURE_SHARE)
        if self.is_tagged:
            found = tagged(page, found)
        notes = list(Notes(page, self.form, self.losses, self.members, self.links).elements())
        return self._page(page, found, list(_items(others, found)), notes)

    def _page(self, page: Opened, found: list[glyphs.Piece], items: list[Line | Table], notes: list[Element]) -> Page:
        """The page with these pieces; why it cannot be read where it has no text."""
        number = page.number
        _, bottom, _, top = _sides(page)
        text = " ".join([piece.text for piece in found])
        marks = len(text.encode().translate(None, _SPACES)) if text.isascii() else sum(map(len, text.split()))
        legible = marks - (0 if text.isascii() else len(_ILLEGIBLE.findall(text)))
        if legible >= MIN_PAGE_CHARS and 2 * legible >= marks:
            if legible < FEW_CHARS and picture_share(page) >= PICTURE_SHARE:
                self.losses.add(LossKind.PICTURE, f"page {number}", "a picture that covers a large part of the page")
            return Page(number, items, notes, bottom, top)
        # Fonts without a character map yield private or replacement characters: such pages are pictures of text, too.
        if legible < len(text.split()) or (legible and 2 * legible < marks):
            return Page(number, [], notes, bottom, top, "its fonts do not name their characters")
        return Page(number, items if legible else [], notes, bottom, top, "a scanned page" if picture_share(page) > 0 else "")


def _sides(page: Opened) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a page, in points."""
    box = pdfium_c.FS_RECTF()
    if not pdfium_c.FPDF_GetPageBoundingBox(page.page, box):
        raise pdfium.PdfiumError("Failed to get page bounding box.")
    return box.left, box.bottom, box.right, box.top


def _items(others: Sequence[Address], found: Sequence[glyphs.Piece]) -> Iterator[Line | Table]:
    """The lines and tables of a page in reading order."""
    across, upright = drawn(others)
    tables, rest = ruled(found, across, upright)
    held = [placeholder(table) for table in tables]
    standing = {id(piece): table for piece, table in zip(held, tables, strict=True)}
    for region in regions([*rest, *held]):
        plain: list[Row] = []
        for row in with_tables(region, across, bool(held)):
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
