"""Reads a page of a PDF: its lines in reading order, or why it has none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from pipeline.parse.parsed import Losses, Member
from pipeline.parse.pdf.aligned import with_tables
from pipeline.parse.pdf.continued import last_table, rest
from pipeline.parse.pdf.glyphs import Glyphs, Piece, pieces
from pipeline.parse.pdf.grids import Table, placeholder, ruled
from pipeline.parse.pdf.hidden import Layers, texts_among, visible
from pipeline.parse.pdf.lines import Line, lines_of
from pipeline.parse.pdf.notes import Notes
from pipeline.parse.pdf.opened import Opened
from pipeline.parse.pdf.order import Row, regions
from pipeline.parse.pdf.pages import Page
from pipeline.parse.pdf.pictured import picture_share
from pipeline.parse.pdf.quick import Address, objects
from pipeline.parse.pdf.rules import drawn, turned
from pipeline.parse.pdf.tags import tagged
from pipeline.types import LossKind

#: A page with a picture and fewer characters than this counts as a picture.
MIN_PAGE_CHARS = 20
#: On a page with less text than this, a picture that covers this share of it is looked for: it may be text, too.
FEW_CHARS, PICTURE_SHARE = 200, 0.25

#: Replacement characters, and private ones, which fonts without a character map yield.
_ILLEGIBLE = re.compile("[\ufffd\ue000-\uf8ff]")
_turned = attrgetter("angle")
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
    open: Table | None = None  #: the table that ends the last page
    glyphs: Glyphs = field(default_factory=Glyphs)

    def read(self, page: Opened) -> Page:
        """A page of pdfium. Pictures of text are losses."""
        found = pieces(page, self.glyphs)
        texts, others, some_invisible = texts_among(objects(page.at_page))
        found = visible(found, page, texts, self.layers, some_invisible and picture_share(page) < PICTURE_SHARE)
        if self.is_tagged:
            found = tagged(page, found)
        notes = list(Notes(page, self.form, self.losses, self.members, self.links).elements())
        sides = _sides(page)
        items = list(_items(others, found, self.open))
        after = rest(found, self.open) if self.open is not None and items and not isinstance(items[0], Table) else None
        self.open = last_table(after.among(items, *sides) if after else items, *sides)
        return self._page(page, found, Page(page.number, items, notes, *sides, after))

    def _page(self, page: Opened, found: list[Piece], read: Page) -> Page:
        """The page as it was read from these pieces; why it cannot be read where it has no text."""
        text = " ".join([piece.text for piece in found])
        marks = len(text.encode().translate(None, _SPACES)) if text.isascii() else sum(map(len, text.split()))
        legible = marks - (0 if text.isascii() else len(_ILLEGIBLE.findall(text)))
        if legible >= MIN_PAGE_CHARS and 2 * legible >= marks:
            if legible < FEW_CHARS and picture_share(page) >= PICTURE_SHARE:
                self.losses.add(LossKind.PICTURE, f"page {page.number}", "a picture that covers a large part of the page")
            return read
        # Fonts without a character map yield private or replacement characters: such pages are pictures of text, too.
        if legible < len(text.split()) or (legible and 2 * legible < marks):
            return replace(read, items=[], without_text="its fonts do not name their characters")
        return replace(read, items=read.items if legible else [], without_text="a scanned page" if picture_share(page) > 0 else "")


def _sides(page: Opened) -> tuple[float, float]:
    """Bottom and top of a page, in points."""
    box = pdfium_c.FS_RECTF()
    if not pdfium_c.FPDF_GetPageBoundingBox(page.page, box):
        raise pdfium.PdfiumError("Failed to get page bounding box.")
    return box.bottom, box.top


def _angle(found: Sequence[Piece]) -> int:
    """The angle of most of the text of a page."""
    if not any(map(_turned, found)):
        return 0
    weights: Counter[int] = Counter()
    for piece in found:
        weights[piece.angle] += len(piece.text)
    return weights.most_common(1)[0][0]


def _items(others: Sequence[Address], found: Sequence[Piece], before: Table | None) -> Iterator[Line | Table]:
    """The lines and tables of a page in reading order. `before`: the table that ends the page before it."""
    across, upright = drawn(others)
    angle = _angle(found)
    if angle:  # a turned page
        across, upright = turned(across, upright, angle)
    tables, outside = ruled(found, across, upright, before)
    held = [placeholder(table)._replace(angle=angle) for table in tables]
    standing = {id(piece): table for piece, table in zip(held, tables, strict=True)}
    for region in regions([*outside, *held]):
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
