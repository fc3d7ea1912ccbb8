"""Tables without vertical rules: rows whose pieces stand in columns."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Sequence
from itertools import chain, count, pairwise
from operator import attrgetter

from pipeline.parse.pdf.glyphs import Piece
from pipeline.parse.pdf.grids import Table, cut, has_bold_names, text_of, type_of
from pipeline.parse.pdf.order import Region, is_to_left
from pipeline.parse.pdf.order import Row as Pieces
from pipeline.parse.pdf.rules import TOUCH, Rule
from pipeline.parse.tables import Cell, Row

#: Minimum number of rows with cells side by side; fewer between rules.
MIN_ROWS, MIN_RULED_ROWS = 3, 2
#: Minimum width of the space between columns, in heights of a row.
MIN_SPACE = 0.6
#: Minimum share of the cells of a column whose left or right edges or middles stand at one place, within ALIGNED points.
ALIGNED_SHARE, ALIGNED = 0.6, 3.0
#: Maximum mean length of cells; running text in columns is longer.
MAX_MEAN_CHARS = 45
#: Rows of a table that may have one piece only, one after the other.
MAX_SINGLE = 2
MAX_COLUMNS = 40
#: Rows at the start of a table that are tried as its first.
MAX_TRIES = 2

_MARK = re.compile(r"(?:[•‣▪●○◦∙·–*-]|\(?\w{1,3}[.)]|\[\w{1,4}\])$")
_LEADER = re.compile(r"\.(?:\s?\.){3,}")
_text = attrgetter("text")


def with_tables(region: Region, across: Sequence[Rule], holds: bool) -> Iterator[Pieces | Table]:
    """The rows of a region; those of a table as one. `holds`: whether some stand for tables between rules."""
    if max(map(len, region), default=0) < 2:
        yield from region
        return
    at = tries = 0
    holding = {at for at, row in enumerate(region) if not all(map(_text, row))} if holds else set[int]()
    tried = 0  # the end of rows that are no table, whichever of them is the first
    while at < len(region):
        if len(region[at]) < 2:
            yield region[at]
            at += 1
            tries = 0
            continue
        end = _end(region, at, holding) if at >= tried or tries < MAX_TRIES else None
        table = _table(region[at:end], across) if end is not None else None
        if table is None or end is None:
            tries = tries + 1 if end == tried else 0
            tried = end or tried
            yield region[at]
            at += 1
        else:
            yield table
            at = end


def _end(region: Region, start: int, holding: set[int]) -> int | None:
    """The end of rows that may be a table, which none of those in `holding` is; None where none begins."""
    if start in holding:
        return None
    end = last = start + 1
    single = 0
    while end < len(region):
        row = region[end]
        first = row[0]
        if end in holding or region[end - 1][0].bottom - first.top > 3 * max(first.top - first.bottom, 4.0):
            break
        if len(row) > 1:
            single = 0
            last = end + 1
        else:
            single += 1
            if single > MAX_SINGLE:
                break
        end += 1
    return last if last - start >= MIN_RULED_ROWS else None


def _table(rows: Sequence[Pieces], across: Sequence[Rule]) -> Table | None:
    """The table of some rows; None where they are none."""
    several = [row for row in rows if len(row) > 1]
    if len(several) < (MIN_RULED_ROWS if across else MIN_ROWS):
        return None
    texts = [[piece.text for piece in row] for row in several]
    filled = list(chain.from_iterable(texts))
    if sum(map(len, filled)) > MAX_MEAN_CHARS * len(filled):
        return None
    if 2 * sum(1 for row in texts if any(map(_is_leader, row))) > len(several):  # a table of contents
        return None
    if 2 * sum(1 for row in several if len(row) == 2 and _MARK.match(row[0].text)) > len(several):  # a list
        return None
    pieces = [piece for row in rows for piece in row]
    left, right = min(piece.left for piece in pieces), max(piece.right for piece in pieces)
    bottom, top = min(piece.bottom for piece in pieces), max(piece.top for piece in pieces)
    between = [rule.at for rule in across if bottom - 12 <= rule.at <= top + 12 and rule.end - rule.start >= 0.7 * (right - left)]
    if len(several) < (MIN_RULED_ROWS if len(between) > 1 else MIN_ROWS) or 2 * sum(piece.fixed for piece in pieces) > len(pieces):
        return None
    edges = _edges(several)
    if not 1 <= len(edges) < MAX_COLUMNS or 2 * sum(map(len, several)) > 3 * (len(edges) + 1) * len(several):
        return None  # no columns, or words scattered over them
    cells = [cells_of(row, edges) for row in rows]
    if not _is_table(cells, len(edges) + 1, len(between) > 1):
        return None
    to_left = is_to_left(pieces)
    found = [
        Row([Cell(text_of(cell)) for cell in (reversed(line) if to_left else line)], heads=heads)
        for line, heads in whole(cells, rows, _head(rows, between))
    ]
    return Table(found, left, bottom, right, top, edges, _spans(cells, edges, left, right), *type_of(pieces), has_bold_names(rows))


def _spans(cells: Sequence[list[list[Piece]]], edges: Sequence[float], left: float, right: float) -> list[tuple[float, float]]:
    """Where the text of each column begins and ends; between which edges it may, where there is none."""
    sides = [left, *edges, right]
    found: list[tuple[float, float]] = []
    for column, start, end in zip(count(), sides, sides[1:], strict=False):
        held = [piece for row in cells for piece in row[column]]
        found.append((min(piece.left for piece in held), max(piece.right for piece in held)) if held else (start, end))
    return found


def _is_leader(text: str) -> bool:
    return text.endswith(".") and (not text.strip(". ") or _LEADER.search(text) is not None)


def _edges(several: Sequence[Pieces]) -> list[float]:
    """The middles of the spaces between columns: white in all rows, or in all but one in eight."""
    height = statistics.median(piece.top - piece.bottom for row in several for piece in row)
    spans = [(piece.left, piece.right) for row in several for piece in row]
    allowed = len(several) // 8
    events = sorted([(left, 1) for left, _ in spans] + [(right, -1) for _, right in spans])
    end = max(right for _, right in spans)
    edges: list[float] = []
    depth, start = 0, end
    for x, step in events:
        if depth <= allowed < depth + step and x - start >= MIN_SPACE * height:
            edges.append((start + x) / 2)
        depth += step
        if depth == allowed and step < 0:
            start = x
    return edges


def cells_of(row: Pieces, edges: Sequence[float]) -> list[list[Piece]]:
    """The pieces of a row, or their parts, by the column between edges that they stand in."""
    cells: list[list[Piece]] = [[] for _ in range(len(edges) + 1)]
    for piece in row:
        for column, part in cut(piece, edges):
            cells[column].append(part)
    return cells


def _is_table(rows: Sequence[list[list[Piece]]], columns: int, is_ruled: bool) -> bool:
    """Whether rows of cells are a table, not running text in columns, a list or a table of contents."""
    full = [row for row in rows if sum(map(bool, row)) > 1]
    if len(full) < (MIN_RULED_ROWS if is_ruled else MIN_ROWS) or 2 * len(full) < len(rows):
        return False
    texts = [[" ".join(piece.text for piece in cell) for cell in row] for row in full]
    filled = [text for row in texts for text in row if text]
    if statistics.mean(map(len, filled)) > MAX_MEAN_CHARS or any(_LEADER.search(text) for text in filled):
        return False
    longest = max(statistics.mean(map(len, column)) for at in range(columns) if (column := [row[at] for row in texts if row[at]]))
    if longest > MAX_MEAN_CHARS and 5 * len(full) < 4 * len(rows):
        return False
    firsts = [row[0] for row in texts if row[0]]
    if columns == 2 and sum(1 for text in firsts if _MARK.match(text)) > len(firsts) / 2:
        return False
    aligned = sum(1 for column in range(columns) if _is_aligned([row[column] for row in full if row[column]]))
    return aligned >= columns - columns // 4 and (is_ruled or columns > 2 or _is_pairs(full))


def _is_pairs(rows: Sequence[list[list[Piece]]]) -> bool:
    """Whether two columns stand clearly apart."""
    gaps = [row[1][0].left - row[0][-1].right for row in rows if row[0] and row[1]]
    height = statistics.median(cell[0].top - cell[0].bottom for row in rows for cell in row if cell)
    return bool(gaps) and min(gaps) > 0.8 * height and statistics.median(gaps) > 1.5 * height


def _is_aligned(cells: Sequence[Sequence[Piece]]) -> bool:
    if len(cells) < 2:
        return bool(cells)
    lefts, rights = [cell[0].left for cell in cells], [cell[-1].right for cell in cells]
    for found in (lefts, rights, [(left + right) / 2 for left, right in zip(lefts, rights, strict=True)]):
        usual = statistics.median_low(found)
        if sum(1 for x in found if abs(x - usual) <= ALIGNED) >= ALIGNED_SHARE * len(found):
            return True
    return False


def _head(rows: Sequence[Pieces], between: Sequence[float]) -> float | None:
    """The height of the rule below the header; None where there is none."""
    inner = [at for at in between if rows[-1][0].top - TOUCH < at < rows[0][0].bottom + TOUCH]
    if not inner:
        return None
    head = max(inner)
    above = sum(1 for row in rows if row[0].bottom > head - TOUCH)
    return head if above <= 3 and 2 * above <= len(rows) else None


def whole(
    cells: Sequence[list[list[Piece]]], rows: Sequence[Pieces], head: float | None
) -> Iterator[tuple[list[list[Piece]], bool]]:
    """Rows of cells, and whether they are heads; a line that only goes on with cells above it belongs to their row."""
    gaps = [above[0].bottom - below[0].top for above, below in pairwise(rows)]
    usual = statistics.median(gaps) if gaps else 0.0
    found: list[tuple[list[list[Piece]], bool]] = []
    for at, row in enumerate(cells):
        heads = head is not None and rows[at][0].bottom > head - TOUCH
        filled = [column for column, cell in enumerate(row) if cell]
        goes_on = bool(found) and found[-1][1] == heads and not row[0] and len(filled) < len(row) - 1
        if goes_on and gaps[at - 1] <= min(usual, 0.3 * (rows[at][0].top - rows[at][0].bottom)) and not heads:
            before = found[-1][0]
            if all(before[column] for column in filled) and not _has_numbers(row):
                found[-1] = ([above + below for above, below in zip(before, row, strict=True)], heads)
                continue
        found.append((row, heads))
    yield from found


def _has_numbers(row: Sequence[Sequence[Piece]]) -> bool:
    return any(piece.text[:1].isdigit() for cell in row for piece in cell)
