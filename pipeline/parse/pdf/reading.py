"""Reads a page of a PDF: its lines in reading order, or why it has none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pypdfium2.raw as pdfium_c

from pipeline.parse.parsed import Losses
from pipeline.parse.pdf import glyphs
from pipeline.parse.pdf.aligned import with_tables
from pipeline.parse.pdf.grids import Table, placeholder, ruled
from pipeline.parse.pdf.lines import Line, lines_of
from pipeline.parse.pdf.notes import notes
from pipeline.parse.pdf.order import Row, regions
from pipeline.parse.pdf.pages import Page
from pipeline.parse.pdf.rules import drawn
from pipeline.types import LossKind

#: A page with a picture and fewer characters than this counts as a picture.
MIN_PAGE_CHARS = 20
#: On a page with less text than this, a picture that covers this share of it is looked for: it may be text, too.
FEW_CHARS, PICTURE_SHARE = 200, 0.25

#: Replacement characters, and private ones, which fonts without a character map yield.
_ILLEGIBLE = re.compile("[\ufffd\ue000-\uf8ff]")


def read_page(page: Any, form: Any, number: int, losses: Losses) -> Page:
    """A page of pdfium; `form` is the document's form environment, if it has one. Pictures of text are losses."""
    textpage = page.get_textpage()
    try:
        found = glyphs.pieces(textpage)
    finally:
        textpage.close()
    items = list(_items(page, found))
    notes_of_page = list(notes(page, form, number, losses))
    _, bottom, _, top = page.get_bbox()
    text = " ".join(piece.text for piece in found)
    marks = "".join(text.split())
    legible = len(marks) - (0 if marks.isascii() else len(_ILLEGIBLE.findall(marks)))
    if legible >= MIN_PAGE_CHARS and 2 * legible >= len(marks):
        if legible < FEW_CHARS and _picture_share(page) >= PICTURE_SHARE:
            losses.add(LossKind.PICTURE, f"page {number}", "a picture that covers a large part of the page")
        return Page(number, items, notes_of_page, bottom, top)
    # Fonts without a character map yield private or replacement characters: such pages are pictures of text, too.
    if legible < len(text.split()) or (legible and 2 * legible < len(marks)):
        return Page(number, [], notes_of_page, bottom, top, "its fonts do not name their characters")
    return Page(number, items if legible else [], notes_of_page, bottom, top, "a scanned page" if _picture_share(page) > 0 else "")


def _items(page: Any, found: Sequence[glyphs.Piece]) -> Iterator[Line | Table]:
    """The lines and tables of a page in reading order."""
    across, upright = drawn(page)
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
            inside = [piece for piece in row if id(piece) in standing]
            if inside:
                yield from lines_of(plain)
                plain = []
                yield from (standing[id(piece)] for piece in inside)
                row = [piece for piece in row if id(piece) not in standing]
            plain += [row] if row else []
        yield from lines_of(plain)


def _picture_share(page: Any) -> float:
    """The share of a page that its largest picture covers."""
    width, height = page.get_size()
    largest = 0.0
    for found in page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=3):
        left, bottom, right, top = found.get_bounds()
        largest = max(largest, abs((right - left) * (top - bottom)) / max(1.0, width * height), 1e-6)
    return largest
