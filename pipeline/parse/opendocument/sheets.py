"""OpenDocument spreadsheets: every sheet is a page; its cells are written in the file as they are shown, and rows are streamed."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.parse.ooxml.drawing import said
from pipeline.parse.ooxml.number_format import plain
from pipeline.parse.opendocument.blocks import Blocks
from pipeline.parse.opendocument.drawing import SHAPES
from pipeline.parse.opendocument.package import (
    CONTENT,
    DC,
    DRAW,
    NUMBER,
    OFFICE,
    STYLE,
    STYLES,
    TABLE,
    TEXT,
    Node,
    Package,
    forget,
)  # fmt: skip
from pipeline.parse.opendocument.styles import Styles, number
from pipeline.parse.parsed import Losses, Parsed, Share, parts, squeeze
from pipeline.parse.sheet import MAX_SPLIT_ROWS, Merged, column_name, fill, linked, merge, sheet_elements
from pipeline.types import Element, ElementKind, LossKind

MAX_COLUMNS = 16_384
_SHEET, _ROW, _COLUMN, _CELL = (f"{TABLE}{name}" for name in ("table", "table-row", "table-column", "table-cell"))
#: What an empty cell has.
_LOOKS = frozenset((f"{TABLE}style-name", f"{TABLE}number-columns-repeated"))
_COVERED, _SHAPES, _AUTOMATIC = f"{TABLE}covered-table-cell", f"{TABLE}shapes", f"{OFFICE}automatic-styles"


def parse_ods(path: Path, name: str) -> Parsed:
    """Rows of the spreadsheet at `path`: every sheet is a heading and a page. Raises DocumentError (corrupt)."""
    losses, share = Losses(), Share()
    package = Package(zipfile.ZipFile(path), losses)
    properties = package.properties()[1]
    # The name of the first sheet says little about the workbook.
    return Parsed(name, _Workbook(package).elements(), share, losses, properties)


@dataclass(slots=True)
class _Sheet:
    """A sheet that is being read."""

    title: str
    page: int
    styles: list[tuple[int, str]] = field(default_factory=list)  #: default styles of columns, each with the column after them
    merged: dict[int, list[Merged]] = field(default_factory=dict)  #: by row
    around: list[Element] = field(default_factory=list)  #: comments and what is drawn


class _Workbook:
    """The sheets of a spreadsheet."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._losses = package.losses
        common = package.tree(STYLES)
        self._styles = Styles(common)
        self._blocks = Blocks(package, self._styles)
        self._local: set[str] = set()  #: number formats of dates that follow the country of the reader
        if common is not None:
            self._read_formats(common)
        self._events = package.events(("start", "end"), (_SHEET, _ROW, _COLUMN, _SHAPES, _AUTOMATIC))

    def elements(self) -> Iterator[Element]:
        """All sheets that are shown."""
        page = 0
        for event, node in self._events:
            if event == "end" and node.tag == _AUTOMATIC:
                self._styles.add(node)
                self._read_formats(node)
            elif event == "start" and node.tag == _SHEET:
                page += 1
                sheet = _Sheet(squeeze(node.get(f"{TABLE}name") or "") or str(page), page)
                if self._styles.is_hidden_sheet(node.get(f"{TABLE}style-name")):
                    self._losses.add(LossKind.HIDDEN_SHEET, sheet.title)
                    self._pass_over()
                    continue
                yield from self._sheet(sheet)
        if not page:
            raise self._package.corrupt(f"a spreadsheet whose {CONTENT} lists no sheets")

    def _sheet(self, sheet: _Sheet) -> Iterator[Element]:
        self._blocks.page = sheet.page
        found = sheet_elements(self._grid(sheet), sheet.page)
        first = next(found, None)
        if first is not None or sheet.around:
            yield Element(sheet.title, ElementKind.HEADING, 1, page=sheet.page)
        if first is not None:
            yield first
            yield from found
        yield from sheet.around

    def _pass_over(self) -> None:
        for event, node in self._events:
            if event == "end" and node.tag == _ROW:
                forget(node)
            elif event == "end" and node.tag == _SHEET:
                return

    def _grid(self, sheet: _Sheet) -> Iterator[tuple[int, list[str]]]:
        """The rows with at least one cell, with their numbers, up to the end of the sheet."""
        at = 1
        kept: dict[tuple[int, int], str] = {}  #: texts of merged cells
        depth = 0  #: of tables inside the sheet, such as those of shapes
        for event, node in self._events:
            if node.tag == _SHEET:
                depth += 1 if event == "start" else -1
                if depth < 0:
                    return
            elif event == "start" or depth:
                continue
            elif node.tag == _COLUMN:
                after = (sheet.styles[-1][0] if sheet.styles else 0) + number(node.get(f"{TABLE}number-columns-repeated"))
                sheet.styles.append((after, node.get(f"{TABLE}default-cell-style-name") or ""))
            elif node.tag == _SHAPES:
                sheet.around += [e for shape in node for e in self._blocks.kept(shape)]
            elif node.tag == _ROW:
                repeated = number(node.get(f"{TABLE}number-rows-repeated"))
                cells = self._row(node, at, sheet)
                merged = sheet.merged.pop(at, None)
                if merged is not None:
                    fill(cells, at, merged, kept)
                if any(cells):
                    for offset in range(min(repeated, MAX_SPLIT_ROWS)):
                        yield at + offset, list(cells)
                at += repeated
                forget(node)

    def _row(self, row: Node, at: int, sheet: _Sheet) -> list[str]:
        cells: list[str] = []
        column = 0
        for cell in row.iterchildren(_CELL, _COVERED):
            repeated = number(cell.get(f"{TABLE}number-columns-repeated"))
            if cell.tag == _CELL and column < MAX_COLUMNS:
                text = self._cell(cell, column, at, sheet) if len(cell) or not _LOOKS.issuperset(cell.keys()) else ""
                if text:
                    cells += [""] * (column - len(cells))
                    cells += [text] * min(repeated, MAX_COLUMNS - column)
                rows, columns = (number(cell.get(f"{TABLE}number-{name}-spanned")) for name in ("rows", "columns"))
                if rows > 1 or columns > 1:
                    merge(sheet.merged, at, at + rows - 1, column, column + columns - 1)
            column += repeated
        return cells

    def _cell(self, cell: Node, column: int, at: int, sheet: _Sheet) -> str:
        texts: list[str] = []
        links: list[str] = []
        for child in cell:
            if child.tag == f"{TEXT}p":
                text, targets, drawn = self._blocks.text(child)
                texts.append(text)
                links += targets
                sheet.around += drawn
            elif child.tag == f"{OFFICE}annotation":
                sheet.around += self._comment(child, f"{sheet.title}!{column_name(column)}{at}")
            elif child.tag == f"{DRAW}frame" or child.tag in SHAPES:
                sheet.around += self._blocks.kept(child)
        text = self._value(cell, squeeze(" ".join(texts)), column, sheet)
        if not text and (formula := cell.get(f"{TABLE}formula")) and cell.get(f"{OFFICE}value-type") is None:
            text = f"={formula.partition('=')[2] or formula}"
            self._losses.add(LossKind.FORMULA, f"{sheet.title}!{column_name(column)}{at}", text)
        return linked(text, squeeze(links[0])) if links else text

    def _value(self, cell: Node, shown: str, column: int, sheet: _Sheet) -> str:
        """A cell as it is shown, but dates of the reader's country as ISO 8601."""
        moment = cell.get(f"{OFFICE}date-value") or ""
        if moment and (not shown or self._is_local(cell, column, sheet)):
            return moment.replace("T", " ")[:16]
        if shown or cell.get(f"{OFFICE}value-type") is None:
            return shown
        value = cell.get(f"{OFFICE}value") or ""
        try:
            return plain(float(value)) if value else squeeze(cell.get(f"{OFFICE}string-value") or "")
        except ValueError:
            return squeeze(value)

    def _is_local(self, cell: Node, column: int, sheet: _Sheet) -> bool:
        style = cell.get(f"{TABLE}style-name") or next((name for after, name in sheet.styles if column < after), "")
        return self._styles.data_style(style) in self._local

    def _read_formats(self, root: Node) -> None:
        for node in root.iter(f"{NUMBER}date-style"):
            if node.get(f"{NUMBER}automatic-order") == "true":
                self._local.add(node.get(f"{STYLE}name") or "")

    def _comment(self, node: Node, place: str) -> Iterator[Element]:
        author = squeeze(node.findtext(f"{DC}creator") or "")
        text = " ".join(self._blocks.text(paragraph)[0] for paragraph in node.iter(f"{TEXT}p"))
        if text.strip():
            label = said("Comment", author, node.findtext(f"{DC}date"))
            yield from parts(f"{label} on {place}: {squeeze(text)}", page=self._blocks.page)
