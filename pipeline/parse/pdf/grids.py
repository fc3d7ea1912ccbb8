"""Tables of a page: those between drawn rules, and those whose cells stand in columns without any."""

from __future__ import annotations

from bisect import bisect, bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.parse.hyphens import DIVIDED
from pipeline.parse.pdf.glyphs import WORD, Piece
from pipeline.parse.pdf.order import is_to_left
from pipeline.parse.pdf.order import rows as rows_of
from pipeline.parse.pdf.rules import TOUCH, Rule
from pipeline.parse.tables import Cell, Row

#: Rules of one grid; more are a drawing.
MAX_LINES = 300
#: Minimum share of the places of a grid that are cells with text; boxes and arrows of a drawing have fewer.
MIN_FILLED = 0.2
#: Minimum width of a column that no rule ends, in points.
MIN_OPEN = 10.0
#: Minimum number of rows with several cells.
MIN_ROWS = 2
#: Minimum share of text that is not bold, of that which is, in a table with bold names.
MIN_REGULAR = 0.25
#: Maximum number of rows of a header.
MAX_HEAD_ROWS = 3


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a page."""

    rows: list[Row]
    left: float
    bottom: float
    right: float
    top: float
    edges: Sequence[float]  #: between its columns, from left to right
    spans: Sequence[tuple[float, float]]  #: where the text of each column may begin and end
    size: float  #: of most of its type
    bold: bool  #: whether its type is bold, apart from names of rows and columns
    names: bool  #: whether its first row is bold, and the others are not

    @property
    def columns(self) -> int:
        """The number of its columns."""
        return len(self.edges) + 1

    @property
    def chars(self) -> int:
        """The number of characters in its cells."""
        return sum(len(cell.text) for row in self.rows for cell in row.cells)


def ruled(
    found: Sequence[Piece], across: Sequence[Rule], upright: Sequence[Rule], before: Table | None = None
) -> tuple[list[Table], list[Piece]]:
    """The tables between rules that cross, and the pieces outside them. `before`: a table that may go on, with one row and more."""
    tables: list[Table] = []
    rest = list(found)
    if len(across) < 2 or len(upright) < 2 or len(across) + len(upright) > MAX_LINES:
        return tables, rest
    for rows, columns in _crossing(across, upright):
        if len(rows) < 2 or len(columns) < 2:
            continue
        xs, ys = _closed(_places(columns), rows), sorted(_places(rows), reverse=True)
        inside = [piece for piece in rest if _is_inside(piece, xs[0], ys[-1], xs[-1], ys[0])]
        goes_on = before is not None and _is_within(xs, before)
        if before is not None and goes_on:
            xs = [before.left, *before.edges, before.right]
        elif len(xs) * len(ys) < 6 or len(inside) < 3:  # a box around text
            continue
        table = _Grid(xs, ys, rows, columns, inside).table(goes_on)
        if table is not None:
            tables.append(table)
            taken = set(map(id, inside))
            rest = [piece for piece in rest if id(piece) not in taken]
    return tables, rest


def _crossing(across: Sequence[Rule], upright: Sequence[Rule]) -> Iterator[tuple[list[Rule], list[Rule]]]:
    """The rules of each grid: those that touch each other."""
    open_rows, open_columns = list(across), list(upright)
    while open_rows:
        rows, columns, at = [open_rows.pop()], list[Rule](), 0
        while at < len(rows):
            new = [column for column in open_columns if _touch(rows[at], column)]
            at += 1
            for column in new:
                open_columns.remove(column)
                columns.append(column)
                more = [row for row in open_rows if _touch(row, column)]
                rows += more
                open_rows = [row for row in open_rows if row not in more]
        yield rows, columns


def _touch(row: Rule, column: Rule) -> bool:
    return row.start - TOUCH <= column.at <= row.end + TOUCH and column.start - TOUCH <= row.at <= column.end + TOUCH


def _places(found: Iterable[Rule]) -> list[float]:
    places: list[float] = []
    for rule in sorted(found):
        if not places or rule.at - places[-1] > TOUCH:
            places.append(rule.at)
    return places


def _closed(xs: list[float], rows: Sequence[Rule]) -> list[float]:
    """The edges of columns; rules that go on beyond the outer ones enclose a column that is open at its side."""
    start, end = min(rule.start for rule in rows), max(rule.end for rule in rows)
    return [*([start] if start < xs[0] - MIN_OPEN else []), *xs, *([end] if end > xs[-1] + MIN_OPEN else [])]


def _is_within(xs: Sequence[float], before: Table) -> bool:
    """Whether edges of columns are those of a table, some of which cells may span."""
    known = [before.left, *before.edges, before.right]
    return all(abs(x - at) <= TOUCH for x, at in ((xs[0], known[0]), (xs[-1], known[-1]))) and all(
        min(abs(x - at) for at in known) <= TOUCH for x in xs
    )


def _is_inside(piece: Piece, left: float, bottom: float, right: float, top: float) -> bool:
    return left - TOUCH < (piece.left + piece.right) / 2 < right + TOUCH and bottom < (piece.top + piece.bottom) / 2 < top


class _Grid:
    """Cells between rules."""

    def __init__(
        self, xs: list[float], ys: list[float], rows: Sequence[Rule], columns: Sequence[Rule], inside: Sequence[Piece]
    ) -> None:
        self._xs, self._ys = xs, ys
        self._uprights = [[rule for rule in columns if abs(rule.at - x) <= TOUCH] for x in xs]
        self._across = [[rule for rule in rows if abs(rule.at - y) <= TOUCH] for y in ys]
        self._found: dict[tuple[int, int], list[Piece]] = {}
        upwards = ys[::-1]
        for piece in inside:
            row = max(0, len(ys) - bisect(upwards, (piece.top + piece.bottom) / 2) - 1)
            for column, part in cut(piece, xs[1:-1]):
                self._found.setdefault((row, column), []).append(part)

    def table(self, goes_on: bool) -> Table | None:
        """The table; None where its rules enclose running text, not cells. `goes_on`: it may have one row."""
        xs, ys = self._xs, self._ys
        least = 1 if goes_on else max(3, MIN_FILLED * ((len(xs) - 1) * (len(ys) - 1)))
        if len(self._found) < least:  # fewer places with text than cells: a drawing
            return None
        taken: set[tuple[int, int]] = set()
        rows = [
            [self._cell(row, column, taken) for column in range(len(xs) - 1) if (row, column) not in taken]
            for row in range(len(ys) - 1)
        ]
        filled = [cell for cells in rows for cell in cells if cell.text]
        if len(filled) < least:
            return None
        inside = [piece for found in self._found.values() for piece in found]
        if is_to_left(inside):
            rows = [list(reversed(cells)) for cells in rows]
        lined = _lined(rows, MAX_HEAD_ROWS if not goes_on else 0)
        if sum(1 for row in lined if sum(1 for cell in row.cells if cell.text) > 1) < (1 if goes_on else MIN_ROWS):
            return None
        return Table(
            lined, xs[0], ys[-1], xs[-1], ys[0], xs[1:-1], list(pairwise(xs)), *type_of(inside), has_bold_names(self._levels())
        )

    def _levels(self) -> list[list[Piece]]:
        """The pieces of each row."""
        levels: list[list[Piece]] = [[] for _ in self._ys[1:]]
        for (row, _), found in self._found.items():
            levels[row] += found
        return levels

    def _cell(self, row: int, column: int, taken: set[tuple[int, int]]) -> Cell:
        """The cell with this upper left corner, as far as no rule ends it."""
        right, below = column, row
        while right + 2 < len(self._xs) and not self._has_upright(right + 1, row) and (row, right + 1) not in taken:
            right += 1
        while below + 2 < len(self._ys) and not any(self._has_across(below + 1, at) for at in range(column, right + 1)):
            below += 1
        places = [(y, x) for y in range(row, below + 1) for x in range(column, right + 1)]
        taken.update(places)
        inside = [piece for place in places for piece in self._found.get(place, ())]
        return Cell(text_of(inside), right - column + 1, below - row + 1)

    def _has_upright(self, column: int, row: int) -> bool:
        y = (self._ys[row] + self._ys[row + 1]) / 2
        return any(rule.start <= y <= rule.end for rule in self._uprights[column])

    def _has_across(self, row: int, column: int) -> bool:
        x = (self._xs[column] + self._xs[column + 1]) / 2
        return any(rule.start <= x <= rule.end for rule in self._across[row])


def _lined(rows: Sequence[Sequence[Cell]], most: int) -> list[Row]:
    """Rows of a grid; one of up to `most` without rules between its lines, whose cells have equally many lines, is as many rows."""
    found: list[Row] = []
    depth = max(cell.rows for cell in rows[0])
    depth = depth if 1 < depth <= MAX_HEAD_ROWS and depth < len(rows) else 0  # names that span the rows of the header
    for cells in rows:
        counts = {cell.text.count("\n") for cell in cells if cell.text}
        several = sum(1 for cell in cells if cell.text) > 1
        if several and len(counts) == 1 and counts != {0} and len(rows) <= most:
            lines = zip(*(cell.text.split("\n") if cell.text else [""] * (max(counts) + 1) for cell in cells), strict=True)
            found += [Row([Cell(text, cell.columns) for text, cell in zip(line, cells, strict=True)]) for line in lines]
        else:
            found.append(Row([Cell(_in_line(cell.text), cell.columns, cell.rows) for cell in cells], heads=len(found) < depth))
    return [row for row in found if row.cells]


def _in_line(text: str) -> str:
    return text.replace(f"{DIVIDED}\n", DIVIDED).replace("\n", " ")


def type_of(inside: Sequence[Piece]) -> tuple[float, bool]:
    """The size of most of the type of a table, and whether it is bold; names of rows and columns, which are bold, do not count."""
    sizes: dict[bool, Counter[float]] = {True: Counter(), False: Counter()}
    for piece in inside:
        sizes[piece.bold][piece.size] += len(piece.text)
    bold = MIN_REGULAR * sizes[True].total() > sizes[False].total()
    return max(sizes[bold], key=lambda size: sizes[bold][size]), bold


def has_bold_names(rows: Sequence[Sequence[Piece]]) -> bool:
    """Whether the first row has several pieces, all bold, and a row below it does not."""
    return len(rows[0]) > 1 and all(piece.bold for piece in rows[0]) and not all(piece.bold for row in rows[1:] for piece in row)


def text_of(inside: Sequence[Piece]) -> str:
    """The text of a cell, line by line."""
    if len(inside) == 1:
        return inside[0].text
    return "\n".join(" ".join(piece.text for piece in row) for row in rows_of(inside, is_to_left(inside)))


def cut(piece: Piece, edges: Sequence[float]) -> Iterator[tuple[int, Piece]]:
    """The parts of a piece between edges, with the number of edges left of each."""
    first = bisect_left(edges, (piece.lefts[0] + piece.rights[0]) / 2)
    last = bisect_left(edges, (piece.lefts[-1] + piece.rights[-1]) / 2)
    if first == last:
        yield first, piece
        return
    words = [found.span() for found in WORD.finditer(piece.text)]
    if len(words) != len(piece.lefts):
        yield first, piece
        return
    columns = [bisect_left(edges, (left + right) / 2) for left, right in zip(piece.lefts, piece.rights, strict=True)]
    starts = [0, *(at for at, (before, after) in enumerate(pairwise(columns), 1) if before != after), len(columns)]
    for begin, end in pairwise(starts):
        lefts, rights = piece.lefts[begin:end], piece.rights[begin:end]
        text = piece.text[words[begin][0] : words[end - 1][1]]
        yield columns[begin], piece._replace(text=text, left=min(lefts), right=max(rights), lefts=lefts, rights=rights)


def placeholder(table: Table) -> Piece:
    """A piece that stands for a table where pieces are put in order."""
    sides = table.left, table.bottom, table.right, table.top
    return Piece("", *sides, size=0.0, bold=False, italic=False, fixed=False, lefts=[table.left], rights=[table.right], first=0)
