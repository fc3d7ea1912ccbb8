"""Excel files from before 2007: every sheet is a page, its cells as Excel shows them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import xlrd
from xlrd.biffh import error_text_from_code

from pipeline.errors import DocumentError
from pipeline.parse.legacy.container import read_properties
from pipeline.parse.legacy.drawn import Drawn, read_drawn
from pipeline.parse.ooxml.drawing import said
from pipeline.parse.ooxml.number_format import BUILTIN, plain, shown
from pipeline.parse.parsed import Losses, Parsed, Share, parts, squeeze
from pipeline.parse.sheet import Merged, column_name, fill, linked, merge, sheet_elements
from pipeline.types import Element, ElementKind, LossKind, Reason


def parse_xls(path: Path, name: str) -> Parsed:
    """Rows of the workbook at `path`: every sheet is a heading and a page. Raises DocumentError: CORRUPT, ENCRYPTED."""
    try:
        # One sheet at a time is in memory; a damaged directory is read as far as Excel reads it.
        lenient = {"logfile": io.StringIO(), "ignore_workbook_corruption": True}
        book = xlrd.open_workbook(str(path), formatting_info=True, on_demand=True, ragged_rows=True, **lenient)
    except xlrd.XLRDError as error:
        reason = Reason.ENCRYPTED if "encrypted" in str(error) else Reason.CORRUPT
        raise DocumentError(reason, f"not a readable workbook: {error}") from error
    losses, share = Losses(), Share()
    properties = read_properties(path)[1]
    # The name of the first sheet says little about the workbook.
    return Parsed(name, _elements(book, read_drawn(path), share, losses), share, losses, properties)


def _elements(book: xlrd.Book, drawn: dict[str, Drawn], share: Share, losses: Losses) -> Iterator[Element]:
    """All sheets that Excel shows."""
    for at in range(book.nsheets):
        share.count(at, book.nsheets)
        sheet = book.sheet_by_index(at)
        title = squeeze(sheet.name) or str(at + 1)
        if sheet.visibility:
            losses.add(LossKind.HIDDEN_SHEET, title)
        else:
            yield from _sheet(book, sheet, title, at + 1, drawn.get(sheet.name, Drawn()), losses)
        book.unload_sheet(at)


def _sheet(book: xlrd.Book, sheet: xlrd.sheet.Sheet, title: str, page: int, drawn: Drawn, losses: Losses) -> Iterator[Element]:
    found = [*_around(sheet, title, page), *(e for text in drawn.texts for e in parts(squeeze(text), page=page))]
    cells = sheet_elements(_grid(book, sheet), page)
    first = next(cells, None)
    if first is not None or found:
        yield Element(title, ElementKind.HEADING, 1, page=page)
    if first is not None:
        yield first
        yield from cells
    yield from found
    if drawn.pictures:
        losses.add(LossKind.PICTURE, title, "without alternative text", drawn.pictures)
    if drawn.charts:
        losses.add(LossKind.CHART, title, "charts of old workbooks are not read", drawn.charts)
    if drawn.objects:
        losses.add(LossKind.EMBEDDED_OBJECT, title, "an object", drawn.objects)


def _grid(book: xlrd.Book, sheet: xlrd.sheet.Sheet) -> Iterator[tuple[int, list[str]]]:
    """The rows with at least one cell, with their numbers."""
    merged: dict[int, list[Merged]] = {}
    for top, below, left, right in sheet.merged_cells:
        merge(merged, top, below - 1, left, right - 1)
    links = {place: link.url_or_path or "" for place, link in sheet.hyperlink_map.items()}
    kept: dict[tuple[int, int], str] = {}  #: texts of merged cells
    for at in range(sheet.nrows):
        cells = [_cell(book, cell) for cell in sheet.row(at)]
        if links:
            cells = [linked(text, _target(links.get((at, column), ""))) for column, text in enumerate(cells)]
        if at in merged:
            fill(cells, at, merged[at], kept)
        if any(cells):
            yield at + 1, cells


def _target(link: str | bytes) -> str:
    return squeeze(link.decode("cp1252", "replace") if isinstance(link, bytes) else link)


def _cell(book: xlrd.Book, cell: xlrd.sheet.Cell) -> str:
    if cell.ctype == xlrd.XL_CELL_TEXT:
        return squeeze(cell.value)
    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return "TRUE" if cell.value else "FALSE"
    if cell.ctype == xlrd.XL_CELL_ERROR:
        return str(error_text_from_code.get(cell.value, "#N/A"))
    if cell.ctype not in (xlrd.XL_CELL_NUMBER, xlrd.XL_CELL_DATE):
        return ""
    code = _format(book, cell.xf_index)
    return squeeze(shown(cell.value, code, since_1904=bool(book.datemode))) if code != "General" else plain(cell.value)


def _format(book: xlrd.Book, style: int | None) -> str:
    """The number format of a cell's style."""
    if style is None or style >= len(book.xf_list):
        return "General"
    key = book.xf_list[style].format_key
    found = book.format_map.get(key)
    return BUILTIN.get(key) or (found.format_str if found is not None and found.format_str else "General")


def _around(sheet: xlrd.sheet.Sheet, title: str, page: int) -> Iterator[Element]:
    """Comments of a sheet."""
    for (row, column), note in sorted(sheet.cell_note_map.items()):
        author, text = squeeze(note.author or ""), squeeze(note.text or "")
        text = text.removeprefix(f"{author}:").strip() if author else text
        if text:
            yield from parts(f"{said('Comment', author, None)} on {title}!{column_name(column)}{row + 1}: {text}", page=page)
