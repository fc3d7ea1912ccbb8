"""Rows of RTF tables: their cells end at distances from the margin, which give the columns and the merged cells."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.parse.ooxml.cells import in_cell
from pipeline.parse.tables import MAX_CELL_CHARS, MAX_COLUMNS, Cell, Row, table_elements
from pipeline.types import Element

#: Edges of cells that differ by fewer twips (1/1440 inch) are the same edge.
SAME_EDGE = 40
#: A table whose edges make more columns than this times its widest row does not align its rows.
MAX_STRETCH = 2


@dataclass(slots=True)
class CellShape:
    """A cell as the definition of its row describes it."""

    right: int  #: its right edge, in twips from the margin
    joins_left: bool = False  #: merged with the cell before
    joins_above: bool = False  #: merged with the cell above


@dataclass(slots=True)
class RowShape:
    """The definition of a row, which precedes or follows its cells."""

    left: int = 0
    heads: bool = False
    cells: list[CellShape] = field(default_factory=list)
    joins_left: bool = False  #: of the next cell
    joins_above: bool = False

    def add(self, right: int) -> None:
        """A cell up to this edge."""
        if len(self.cells) < MAX_COLUMNS:
            self.cells.append(CellShape(right, self.joins_left, self.joins_above))
        self.joins_left = self.joins_above = False


@dataclass(slots=True)
class TableRow:
    """A row that has ended."""

    shape: RowShape
    cells: list[list[Element]]


@dataclass(slots=True)
class OpenTable:
    """A table that is being read."""

    rows: list[TableRow] = field(default_factory=list)
    cells: list[list[Element]] = field(default_factory=list)  #: of the current row
    cell: list[Element] = field(default_factory=list)  #: blocks of the current cell

    def end_cell(self) -> None:
        """The current cell is complete."""
        if len(self.cells) < MAX_COLUMNS:
            self.cells.append(self.cell)
        else:
            self.cells[-1] += self.cell
        self.cell = []

    def end_row(self, shape: RowShape) -> None:
        """The current row is complete."""
        if self.cell:
            self.end_cell()
        if self.cells:
            self.rows.append(TableRow(shape, self.cells))
        self.cells = []

    def elements(self) -> Iterator[Element]:
        """The whole table; a row that never ended counts as one."""
        self.end_row(RowShape())
        return table_of(self.rows)


def table_of(rows: Sequence[TableRow]) -> Iterator[Element]:
    """A table's rows in the form that all formats share; the blocks of a table that lays out a page as they are."""
    single = len(rows) == 1 and len(rows[0].cells) == 1
    if single or any(sum(len(e.text) for e in cell) > MAX_CELL_CHARS for row in rows for cell in row.cells):
        for row in rows:
            for blocks in row.cells:
                yield from blocks
        return
    edges = _edges(rows)
    above: dict[int, Cell] = {}
    grid = []
    for row in rows:
        column = bisect_right(edges, row.shape.left + SAME_EDGE) if edges else 0
        cells = [Cell("")] * column
        for text, span, joins_above in _spans(row, edges, column):
            cell = Cell(text, span)
            if joins_above and not text and column in above:
                cell = above[column]
            above[column] = cell
            cells.append(cell)
            column += cell.columns
        grid.append(Row(cells, row.shape.heads))
    yield from table_elements(grid)


def _edges(rows: Sequence[TableRow]) -> list[int]:
    """The right edges of all columns, from left to right; none where the rows are not aligned, or where edges only count cells."""
    if any(row.shape.cells and row.shape.cells[0].right <= row.shape.left + SAME_EDGE for row in rows):
        return []
    edges: list[int] = []
    for right in sorted({cell.right for row in rows for cell in row.shape.cells}):
        if not edges or right - edges[-1] > SAME_EDGE:
            edges.append(right)
    widest = max((len(row.cells) for row in rows), default=0)
    return edges if len(edges) <= MAX_STRETCH * widest else []


def _spans(row: TableRow, edges: list[int], column: int) -> Iterator[tuple[str, int, bool]]:
    """Text, number of columns, and whether it continues the one above, of each cell that is not merged with the one before."""
    shapes = row.shape.cells
    at = 0
    while at < len(row.cells):
        found = row.cells[at]
        shape = shapes[at] if at < len(shapes) else None
        first = shape
        at += 1
        merged = 1
        while at < min(len(shapes), len(row.cells)) and shapes[at].joins_left:
            found, shape, merged = found + row.cells[at], shapes[at], merged + 1
            at += 1
        end = bisect_right(edges, shape.right + SAME_EDGE) if shape is not None and edges else column + merged
        span = max(1, end - column)
        column += span
        yield in_cell(found), span, first is not None and first.joins_above
