"""The grid of a sheet as elements: empty rows and columns separate its tables, and merged cells are repeated."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pipeline.parse.parsed import parts
from pipeline.parse.tables import rows
from pipeline.types import Element

#: Up to this many columns of a merged range are filled.
MAX_MERGED_COLUMNS = 50
#: Up to this many rows of a table are looked at together, to find tables next to each other.
MAX_SPLIT_ROWS = 1_000

#: The part of a merged range in a row: its first and last column, and the first row of the range.
Merged = tuple[int, int, int]


def sheet_elements(grid: Iterator[tuple[int, list[str]]], page: int) -> Iterator[Element]:
    """The tables of a sheet, of whose rows `grid` gives those with at least one cell, and their numbers."""
    header = ""
    span: tuple[int, int] | None = None
    for table in _tables(grid):
        head = list(itertools.islice(table, MAX_SPLIT_ROWS))
        if len(head) == MAX_SPLIT_ROWS:
            yield from rows(itertools.chain(head, table), page)
            continue
        if len(head) == 1 and sum(map(bool, head[0])) == 1:  # a title or a remark between tables
            yield from parts("".join(head[0]), page=page)
            continue
        for columns in _side_by_side(head):
            # A table that goes on after an empty row is under the same header.
            found = list(rows((row[slice(*columns)] for row in head), page, header if columns == span else ""))
            yield from found
            header, span = found[-1].header if found else "", columns


def linked(text: str, link: str) -> str:
    """A cell's text with the target of its link, where the text does not show it."""
    return f"{text} ({link})" if text and link and link not in text else text or link


def merge(merged: dict[int, list[Merged]], top: int, bottom: int, left: int, right: int) -> None:
    """Add a merged range to the rows that it covers; one of very many rows is no cell but a frame."""
    if bottom < top + MAX_SPLIT_ROWS:
        for row in range(top, bottom + 1):
            merged.setdefault(row, []).append((left, min(right, left + MAX_MERGED_COLUMNS), top))


def fill(cells: list[str], number: int, merged: list[Merged], kept: dict[tuple[int, int], str]) -> None:
    """Repeat merged cells in the rows and columns that they cover, where the row has other cells; `kept` holds their texts."""
    for left, right, top in merged:
        cells += [""] * (right + 1 - len(cells))
        if number == top:
            kept[top, left] = cells[left]
        text = kept.get((top, left), "")
        if any(cell for at, cell in enumerate(cells) if not left <= at <= right):
            cells[left : right + 1] = [cell or text for cell in cells[left : right + 1]]


def _tables(grid: Iterator[tuple[int, list[str]]]) -> Iterator[Iterator[list[str]]]:
    """Groups of rows without an empty row between them; each must be read before the next one."""
    before = [0]
    group = [0]

    def key(item: tuple[int, list[str]]) -> int:
        group[0] += item[0] != before[0] + 1
        before[0] = item[0]
        return group[0]

    for _, found in itertools.groupby(grid, key):
        yield (cells for _, cells in found)


def _side_by_side(head: list[list[str]]) -> list[tuple[int, int]]:
    """Spans of columns with an empty column between them, where both sides are tables of two columns or more."""
    width = max(map(len, head))
    used = [any(at < len(row) and row[at] for row in head) for at in range(width)]
    spans = [(at, at + len(list(group))) for at, group in _runs(used)]
    whole = len(head) > 2 and all(last - first > 1 for first, last in spans)
    return spans if whole else [(0, width)]


def _runs(used: list[bool]) -> Iterator[tuple[int, list[bool]]]:
    at = 0
    for filled, group in itertools.groupby(used):
        found = list(group)
        if filled:
            yield at, found
        at += len(found)


def column_name(column: int) -> str:
    """The letters of a column: A for 0, AA for 26."""
    name = ""
    column += 1
    while column:
        column, digit = divmod(column - 1, 26)
        name = chr(65 + digit) + name
    return name
