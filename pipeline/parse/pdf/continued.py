"""Tables that go on over pages: what ends one page, and rows of it at the top of the next one that are too few to be a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.parse.pdf.aligned import ALIGNED, ALIGNED_SHARE, MIN_ROWS, cells_of, whole
from pipeline.parse.pdf.glyphs import Piece
from pipeline.parse.pdf.grids import Table, has_bold_names, text_of, type_of
from pipeline.parse.pdf.lines import Line
from pipeline.parse.pdf.order import Row as Pieces
from pipeline.parse.pdf.order import is_to_left, rows
from pipeline.parse.tables import Cell, Row

#: Share of the height of a page, at its top and bottom, where headers and footers stand.
MARGIN_SHARE = 0.08
#: Maximum size of the type of a footnote below a table, in sizes of that of the table.
NOTE = 0.95
#: Rows above the rest of a table that are looked at: running headers and a caption.
MAX_ABOVE = 4

#: In a table with fewer columns all cells of a row are in line, in type of that of the table, within SAME_SIZE points.
MIN_COLUMNS, SAME_SIZE = 3, 0.5
#: Maximum length of a caption that says that its table goes on.
MAX_CAPTION_CHARS = 80

CAPTION = re.compile(r"(?:table|figure|fig\.|tab\.|tabelle|abbildung|abb\.|tableau|listing|algorithm)\s*\d", re.I)
_WORD = r"(?:cont(?:inued|['’]?d|\.)|fortsetzung|suite|continuación)"
_CONTINUED = re.compile(rf"\b{_WORD}(?!\w)", re.I)
#: The word in brackets, alone on a line, or after a mark at the end of it.
_MARKED = re.compile(rf"[(\[]{_WORD}(?:\s(?:from|on|de|du|et|von)\b[^()\[\]]*)?[)\]]|(?:^|[-–—,;:]\s?){_WORD}$", re.I)


def last_table(items: Sequence[Line | Table], bottom: float, top: float) -> Table | None:
    """The table that ends a page, apart from footers and footnotes below it; None where other text does."""
    high = bottom + MARGIN_SHARE * (top - bottom)
    below: list[Line] = []
    for item in reversed(items):
        if isinstance(item, Table):
            return item if all(line.size <= NOTE * item.size for line in below) else None
        if not item.angle and item.top >= high:
            below.append(item)
    return None


def lines_above(items: Iterable[Line | Table]) -> Iterator[Line]:
    """The lines of a page above its first table."""
    for item in items:
        if isinstance(item, Table):
            return
        yield item


def is_above(line: Line, bottom: float, top: float) -> bool:
    """Whether a line above a table leaves it the rest of that of the last page: a header, or a caption that says so."""
    return bool(line.angle) or line.bottom > top - MARGIN_SHARE * (top - bottom) or is_continued(line.text)


def is_continued(text: str) -> bool:
    """Whether a line is a caption, and says that its table goes on."""
    if len(text) > MAX_CAPTION_CHARS:
        return False
    marked = _MARKED.search(text) is not None
    return marked or (CAPTION.match(text) is not None and _CONTINUED.search(text) is not None)


@dataclass(frozen=True, slots=True)
class Rest:
    """Rows at the top of a page that are too few to be a table, but stand in the columns of the one before it."""

    table: Table
    lines: list[set[tuple[int, float]]]  #: by row: what it consists of, by the first character and right edge of each line

    def among(self, items: Sequence[Line | Table], bottom: float, top: float) -> list[Line | Table]:
        """The items of a page with these rows as a table, without those that were running headers; as they are below other text."""
        known = {(item.first, item.right): item for item in items if isinstance(item, Line)}
        kept = [(row, lines) for row, lines in zip(self.table.rows, self.lines, strict=True) if lines <= known.keys()]
        taken = {id(known[line]) for _, lines in kept for line in lines}
        start = next((at for at, item in enumerate(items) if id(item) in taken), 0)
        if not kept or not all(isinstance(item, Line) and is_above(item, bottom, top) for item in items[:start]):
            return list(items)
        others = [item for item in items[start:] if id(item) not in taken]
        return [*items[:start], replace(self.table, rows=[row for row, _ in kept]), *others]


def rest(found: Sequence[Piece], before: Table) -> Rest | None:
    """The rows at the top of a page that stand in the columns of `before`, if these are too few to be a table."""
    region = rows(found)
    start = next((at for at, row in enumerate(region[: MAX_ABOVE + 1]) if _fits(row, before)), None)
    if start is None:
        return None
    end = start + 1
    while end < len(region) and (_fits(region[end], before) or _goes_on(region[end - 1], region[end], before)):
        end += 1
    inside = region[start:end]
    if sum(1 for row in inside if len(row) > 1) >= MIN_ROWS:
        return None
    held = [piece for row in inside for piece in row]
    to_left = is_to_left(held)
    made = list(whole([cells_of(row, before.edges) for row in inside], inside, None))
    table = Table(
        [Row([Cell(text_of(cell)) for cell in (reversed(row) if to_left else row)]) for row, _ in made],
        before.left,
        min(piece.bottom for piece in held),
        before.right,
        max(piece.top for piece in held),
        before.edges,
        before.spans,
        *type_of(held),
        has_bold_names(inside),
    )
    line = {piece.first: (min(one.first for one in row), max(one.right for one in row)) for row in inside for piece in row}
    return Rest(table, [{line[piece.first] for cell in row for piece in cell} for row, _ in made])


def _fits(row: Pieces, before: Table) -> bool:
    """Whether several pieces stand in the columns of a table, in line with what stands there."""
    if len(row) < 2 or any(piece.angle for piece in row):
        return False
    columns = cells_of(row, before.edges)
    if sum(map(bool, columns)) < 2 or sum(map(len, columns)) != len(row):  # a piece lies in two of them
        return False
    filled = [(cell, span) for cell, span in zip(columns, before.spans, strict=True) if cell]
    in_line = sum(1 for cell, span in filled if _is_in_line(cell, span))
    if len(before.spans) < MIN_COLUMNS:
        return in_line == len(filled) and all(abs(piece.size - before.size) <= SAME_SIZE for piece in row)
    return in_line >= ALIGNED_SHARE * len(filled)


def _is_in_line(cell: Sequence[Piece], span: tuple[float, float]) -> bool:
    left, right = cell[0].left - span[0], cell[-1].right - span[1]
    return min(abs(left), abs(right), abs(left + right) / 2) <= ALIGNED


def _goes_on(above: Pieces, row: Pieces, before: Table) -> bool:
    """Whether a row is the next line of cells of the row above it, other than the first."""
    gap = above[0].bottom - row[0].top
    if gap > 0.3 * (row[0].top - row[0].bottom):
        return False
    cells = cells_of(row, before.edges)
    return not cells[0] and sum(map(len, cells)) == len(row)
