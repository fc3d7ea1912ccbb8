"""Tables of documents: spans are filled in, headers are found, and every row becomes one element with its header."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.types import Element, ElementKind

#: Number of rows at the start that may contain titles and the header.
HEAD_ROWS = 10
#: A row with a smaller share of filled cells is reduced to those cells: they are far away from all other content.
MIN_FILLED = 0.25
#: The most columns and rows that one cell may span, as in HTML.
MAX_COLUMN_SPAN, MAX_ROW_SPAN = 1_000, 65_534
#: Maximum number of columns that spans fill, and of cells of a table that they repeat; a bomb has millions.
MAX_COLUMNS, MAX_REPEATED = 2_000, 200_000
#: A longer cell holds layout, not data.
MAX_CELL_CHARS = 1_500
#: A longer header line is not repeated.
MAX_HEADER_CHARS = 400

_NUMBER = re.compile(r"[-+(]?[$€£¥]?\s?[.,]*\d[\d.,]*(?:e[-+]?\d+)?\s?[%€$)]?$|\d{4}-\d\d?-\d\d?|\d\d?[./]\d\d?[./]\d{2,4}", re.I)


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as its document describes it."""

    text: str
    columns: int = 1  #: number of columns that it spans
    rows: int = 1  #: number of rows that it spans


@dataclass(frozen=True, slots=True)
class Row:
    """A row as its document describes it."""

    cells: Sequence[Cell]
    heads: bool = False  #: marked as a row of column names


def table_elements(table: Iterable[Row], page: int | None = None, *, marked: bool = False) -> Iterator[Element]:
    """The rows of a document's table. `marked`: only marked rows are headers; otherwise an unmarked first row may be one."""
    names: list[str] = []
    rows: list[list[str]] = []
    heads_end = False
    for cells, heads in filled(table):
        if heads and not heads_end:
            names = [_joined(pair) for pair in itertools.zip_longest(names, cells, fillvalue="")]
        else:
            heads_end = True
            if any(cells):
                rows.append(cells)
    if not names and not marked and len(rows) > 1 and is_header(rows[:HEAD_ROWS]):
        names, rows = rows[0], rows[1:]
    header = line(names)
    if header and (not rows or len(header) > MAX_HEADER_CHARS):
        yield Element(header, ElementKind.TABLE_ROW, page=page)
        header = ""
    for cells in rows:
        yield Element(line(cells), ElementKind.TABLE_ROW, page=page, header=header)


def _joined(pair: tuple[str, str]) -> str:
    upper, lower = pair
    return upper if lower in ("", upper) else f"{upper} {lower}".strip()


def filled(table: Iterable[Row]) -> Iterator[tuple[list[str], bool]]:
    """Rows of equal columns: a cell that spans rows or columns is repeated in each, but a row of one such cell has it once."""
    spans: dict[int, tuple[int, str]] = {}  #: by column: the rows left of a cell from above, and its text
    repeated = 0
    for row in table:
        cells: list[str] = []
        queue = iter(row.cells)
        while len(cells) < MAX_COLUMNS:
            if (above := spans.pop(len(cells), None)) is not None:
                left, text = above
                if left > 1:
                    spans[len(cells)] = left - 1, text
                cells.append(text)
                repeated += 1
                continue
            cell = next(queue, None)
            if cell is None:
                if not any(column > len(cells) for column in spans):
                    break
                cells.append("")
                continue
            for _ in range(max(1, min(cell.columns, MAX_COLUMN_SPAN)) if repeated < MAX_REPEATED else 1):
                if cell.rows > 1 and repeated < MAX_REPEATED:
                    spans[len(cells)] = min(cell.rows, MAX_ROW_SPAN) - 1, cell.text
                cells.append(cell.text)
                repeated += 1
        if repeated >= MAX_REPEATED:
            spans.clear()
        cells += [cell.text for cell in queue]
        if not any(cell.text for cell in row.cells):  # all of it belongs to cells from above
            continue
        if not row.heads and len(set(filter(None, cells))) == 1 and sum(1 for cell in row.cells if cell.text) < 2:
            cells = [next(filter(None, cells))]
        yield cells, row.heads


def rows(table: Iterable[list[str]], page: int | None = None, header: str = "") -> Iterator[Element]:
    """Elements of a plain grid: titles above it as paragraphs, then its rows, each with the header line.

    A table without a header of its own continues under `header`. Memory use does not grow with the table.
    """
    cells = (row for row in table if any(row))
    head = list(itertools.islice(cells, HEAD_ROWS))
    width = max((sum(map(bool, row)) for row in head), default=0)
    start = next((i for i, row in enumerate(head) if sum(map(bool, row)) > 1), 0) if width > 1 else 0
    for row in head[:start]:
        yield Element(line(row), page=page)
    head = head[start:]
    if len(head) > 1 and is_header(head) and (not header or _contrasts(head)):
        header = line(head[0])
        head = head[1:]
    for row in itertools.chain(head, cells):
        if text := line(row):
            yield Element(text, ElementKind.TABLE_ROW, page=page, header=header)


def is_header(head: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names columns: its cells are short, distinct words, nearly as many as the rows below have cells."""
    names = [cell for cell in head[0] if cell]
    below = max(sum(map(bool, row)) for row in head[1:])
    return (
        len(set(names)) == len(names)
        and 2 * len(names) > below
        and all(len(cell) <= 80 and not _NUMBER.match(cell) for cell in names)
    )


def _contrasts(head: Sequence[Sequence[str]]) -> bool:
    """Whether a column has numbers below the word in the first row."""
    return any(
        cell and at < len(head[0]) and head[0][at] and _NUMBER.match(cell) for row in head[1:] for at, cell in enumerate(row)
    )


def line(row: Sequence[str]) -> str:
    """Cells joined by bars; empty ones keep their place, except at the end and in a nearly empty row."""
    filled = [cell for cell in row if cell]
    if len(filled) < MIN_FILLED * len(row):
        return " | ".join(filled)
    while row and not row[-1]:
        row = row[:-1]
    return " | ".join(row)
