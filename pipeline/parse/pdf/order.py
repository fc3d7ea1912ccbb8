"""The reading order of a page: columns are found by the white space between them, region by region."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from pipeline.parse.pdf.glyphs import TO_LEFT, Piece

#: Pieces that are put in order by their places; pages with more are drawings, which stay in pdfium's order.
MAX_PIECES = 4_000
#: Minimum width of a gutter, in points, and of a column, as a share of the width of the text.
MIN_GUTTER = 7.0
MIN_COLUMN_SHARE = 0.12
#: Minimum number of rows of a column.
MIN_ROWS = 4
#: Minimum share of its column that the median row of running text fills; cells of tables fill less.
MIN_FILL = 0.6
#: Minimum length of the median row of running text, in heights of a row: some twenty letters.
MIN_LENGTH = 8.0
#: Maximum share of the text's height at which text may cross a gutter: titles and wide tables do.
MAX_CROSSING = 0.6
MAX_DEPTH = 5
#: Share of letters that stand below each other on a page of vertical writing.
VERTICAL_SHARE = 0.7

_left, _right, _top = attrgetter("left"), attrgetter("right"), attrgetter("top")

#: Pieces on one height, from left to right.
Row = list[Piece]
#: Rows of one column from top to bottom, without columns in them.
Region = list[Row]


def regions(found: Sequence[Piece]) -> Iterator[Region]:
    """The regions of a page in the order in which they are read; text at another angle than most of it comes after it."""
    by_angle: dict[int, list[Piece]] = {}
    for piece in found:
        by_angle.setdefault(piece.angle, []).append(piece)
    for group in sorted(by_angle.values(), key=lambda group: -sum(len(piece.text) for piece in group)):
        if len(group) > MAX_PIECES:
            yield [[piece] for piece in group]
        elif is_vertical(group):
            yield from _vertical(group)
        else:
            to_left = is_to_left(group)
            for region in _divided(group, to_left, 0):
                yield rows(region, to_left)


def rows(found: Iterable[Piece], to_left: bool = False) -> Region:
    """Pieces by height, and on one height by place."""
    region: Region = []
    bottom = top = 0.0
    for piece in sorted(found, key=lambda piece: -(piece.top + piece.bottom)):
        overlap = min(top, piece.top) - max(bottom, piece.bottom)
        if region and overlap > 0.5 * max(0.1, min(top - bottom, piece.top - piece.bottom)):
            region[-1].append(piece)
            if piece.top - piece.bottom > top - bottom and piece.top - piece.bottom < 1.5 * (top - bottom):
                bottom, top = piece.bottom, piece.top
        else:
            region.append([piece])
            bottom, top = piece.bottom, piece.top
    for row in region:
        if len(row) > 1:
            row.sort(key=(lambda piece: -piece.right) if to_left else (lambda piece: piece.left))
    return region


def _divided(found: list[Piece], to_left: bool, depth: int) -> Iterator[list[Piece]]:
    """The pieces of each region."""
    gutter = _gutter(found) if depth < MAX_DEPTH and len(found) >= 2 * MIN_ROWS else None
    if gutter is None:
        yield found
        return
    whole: list[Piece] = []
    for band in _bands(_down(found), gutter):
        left, right = _sides(band, gutter)
        if not left or not right:
            whole += band
            continue
        if whole:
            yield from _divided(whole, to_left, depth + 1)
            whole = []
        for side in (right, left) if to_left else (left, right):
            yield from _divided(side, to_left, depth + 1)
    if whole:
        yield from _divided(whole, to_left, depth + 1)


def _down(found: list[Piece]) -> list[Piece]:
    return sorted(found, key=_top, reverse=True)


def _bands(found: list[Piece], gutter: float) -> Iterator[list[Piece]]:
    """Pieces from top to bottom, divided where text crosses the gutter; what crosses it is a band of its own."""
    band: list[Piece] = []
    floor = 0.0
    crossing = False
    for piece in found:
        crosses = piece.left < gutter < piece.right
        # A piece beside one that crosses belongs to it: the end of a title, a number of a formula.
        beside = crossing and (piece.top + piece.bottom) / 2 > floor
        if band and (crosses or beside) != crossing:
            yield band
            band = []
        if crosses:
            floor = min(floor, piece.bottom) if band and crossing else piece.bottom
        crossing = crosses or beside
        band.append(piece)
    if band:
        yield band


def _sides(band: list[Piece], gutter: float) -> tuple[list[Piece], list[Piece]]:
    """The pieces on both sides of a gutter; all on the left where one crosses it."""
    if any(piece.left < gutter < piece.right for piece in band):
        return band, []
    return [piece for piece in band if piece.right <= gutter], [piece for piece in band if piece.left >= gutter]


def _gutter(found: list[Piece]) -> float | None:
    """The middle of the gutter that divides most of the text; None where there is none."""
    best, score = None, 0.0
    lefts, rights = sorted(map(_left, found)), sorted(map(_right, found))
    # Between these stands a gutter that has enough pieces on its sides.
    start, end = rights[MIN_ROWS - 1], lefts[-MIN_ROWS]
    inner = MIN_COLUMN_SHARE * (rights[-1] - lefts[0]) - 2
    if start > end or start > rights[-1] - inner or end < lefts[0] + inner:
        return None
    candidates = [middle for middle in _candidates(found, lefts[0], rights[-1]) if start <= middle <= end]
    down = _down(found) if candidates else []
    for middle in candidates:
        height = sum(_running_height(*_sides(band, middle)) for band in _bands(down, middle))
        if height > score:
            best, score = middle, height
    return best


def _candidates(found: list[Piece], left: float, right: float) -> list[float]:
    """The middles of stretches between the edges of the text that little of it covers."""
    width = int(right - left)
    if not 60 < width < 20_000:
        return []
    covered: dict[int, float] = {0: 0.0}
    for piece in found:  # differences, summed up below
        height = piece.top - piece.bottom
        start, end = int(piece.left - left), int(piece.right - left) + 1
        covered[start] = covered.get(start, 0.0) + height
        covered[end] = covered.get(end, 0.0) - height
    places = sorted(covered)
    heights = list(itertools.accumulate(map(covered.__getitem__, places)))
    first, last = int(MIN_COLUMN_SHARE * width), int((1 - MIN_COLUMN_SHARE) * width)
    allowed = MAX_CROSSING * max(heights)
    # Stretches that are covered alike, from their first point up to that after their last.
    stretches = [
        (max(start, first), min(end, last + 1), height)
        for start, end, height in zip(places, [*places[1:], width + 2], heights, strict=True)
        if height <= allowed and start <= last and end > first
    ]
    middles: list[float] = []
    for wide in _touching(stretches):
        # Of a wide stretch, the least covered part is the gutter.
        most = min(height for _, _, height in wide) + 0.05 * allowed
        for part in _touching([one for one in wide if one[2] <= most]):
            start, end = part[0][0], part[-1][1]
            middles += [left + (start + end) / 2] if end - start >= MIN_GUTTER else []
    return middles[:20]


def _touching(stretches: Sequence[tuple[int, int, float]]) -> Iterator[list[tuple[int, int, float]]]:
    run: list[tuple[int, int, float]] = []
    for one in stretches:
        if run and one[0] != run[-1][1]:
            yield run
            run = []
        run.append(one)
    if run:
        yield run


def _running_height(left: list[Piece], right: list[Piece]) -> float:
    """The height of running text on both sides of a gutter; 0 where a side has none."""
    if min(len(left), len(right)) < MIN_ROWS:
        return 0.0
    sides = [side for _, side in sorted([*((piece.first, 0) for piece in left), *((piece.first, 1) for piece in right)])]
    apart = sum(1 for before, after in itertools.pairwise(sides) if before != after) <= 1 + len(sides) // 12
    if not all(_is_running_text(side, apart) for side in (left, right)):
        return 0.0
    return min(max(piece.top for piece in side) - min(piece.bottom for piece in side) for side in (left, right))


def _is_running_text(side: list[Piece], apart: bool) -> bool:
    """Whether a side has enough rows that fill it. `apart`: the file has one side after the other, as of columns."""
    lines = rows(side)
    if len(lines) < MIN_ROWS:
        return False
    lengths = [max(piece.right for piece in row) - min(piece.left for piece in row) for row in lines]
    usual, height = statistics.median(lengths), statistics.median(piece.top - piece.bottom for piece in side)
    if apart and usual >= MIN_LENGTH / 2 * height:
        return True
    # Cells are short, although all of them together may be as long as a line.
    unbroken = statistics.median(max(piece.right - piece.left for piece in row) for row in lines)
    return usual >= MIN_FILL * max(lengths) and unbroken >= MIN_LENGTH * height


def is_to_left(group: Sequence[Piece]) -> bool:
    """Whether most letters belong to scripts that are written from right to left."""
    text = "".join(piece.text for piece in group)
    if text.isascii() or not TO_LEFT.search(text):
        return False
    return 2 * len(TO_LEFT.findall(text)) > sum(map(str.isalpha, text))


def is_vertical(group: Sequence[Piece]) -> bool:
    """Whether letters stand one below the other, as in vertical Japanese: each a piece, or as pieces much narrower than long."""
    if group[0].text.isascii() or group[-1].text.isascii():
        return False
    letters = sum(len(piece.text) for piece in group)
    stacked = sum(len(piece.text) for piece in group if _is_stacked(piece))
    several = len(group) >= 2 * MIN_ROWS or any(len(piece.text) > 2 for piece in group)
    return several and stacked >= VERTICAL_SHARE * letters


def _is_stacked(piece: Piece) -> bool:
    length = len(piece.text)
    narrow = length == 1 or piece.right - piece.left < 0.5 * length * (piece.top - piece.bottom)
    return narrow and all("\u3000" <= mark <= "\uffef" for mark in piece.text)


def _vertical(group: Sequence[Piece]) -> Iterator[Region]:
    """Lines from top to bottom, from right to left, each as one row."""
    width = statistics.median(piece.right - piece.left for piece in group)
    line: Row = []
    lines: list[Row] = []
    for piece in sorted(group, key=lambda piece: -(piece.left + piece.right)):
        if line and (line[-1].left + line[-1].right - piece.left - piece.right) / 2 > 0.5 * width:
            lines.append(line)
            line = []
        line.append(piece)
    yield [[_stacked(sorted(one, key=lambda piece: -piece.top))] for one in [*lines, line]]


def _stacked(line: Row) -> Piece:
    """A vertical line as one piece; in its frame, lines lie below each other."""
    first, last = line[0], line[-1]
    text = "".join(piece.text for piece in line)
    left, right = -first.top, -last.bottom + (len(last.text) - 1) * (last.top - last.bottom)
    return first._replace(text=text, left=left, right=right, top=first.right, bottom=first.left, lefts=[left], rights=[right])
