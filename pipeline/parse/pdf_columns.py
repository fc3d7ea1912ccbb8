"""Columns of a PDF page: gutters between them, and the order in which their lines are read."""

from __future__ import annotations

import itertools
import math
import statistics
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

#: Rectangles of text that are looked at on a page; pages with more are tables or drawings.
MAX_RECTANGLES = 4_000
#: Minimum width of a gutter, in points, and of a column, as a share of the width of the text.
MIN_GUTTER = 7.0
MIN_COLUMN_SHARE = 0.2
#: Minimum number of lines of a column.
MIN_LINES = 4
#: Minimum share of its column that the median line of running text fills; cells of tables fill less.
MIN_FILL = 0.6
#: Minimum length of the median line of running text, in heights of a line: some twenty letters.
MIN_LENGTH = 8.0
#: Maximum share of the text's height at which text may cross a gutter: titles and wide tables do.
MAX_CROSSING = 0.4

#: Left, bottom, right and top, in points.
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a page; lengths in points, from the lower left corner."""

    text: str
    size: float  #: height of its first character's box
    left: float
    right: float
    top: float
    bottom: float  #: of its last character: a divided word goes on in the line below
    start: int  #: index of its first character on the page
    column: int = -1  #: 0-based; -1: it stands across the columns


def gutters(boxes: Sequence[Box]) -> list[float]:
    """The horizontal positions of the gutters between columns of running text; empty for a page without columns."""
    if not 2 * MIN_LINES <= len(boxes) <= MAX_RECTANGLES:
        return []
    left, right = min(box[0] for box in boxes), max(box[2] for box in boxes)
    width = int(right - left)
    if width < 100:
        return []
    covered = [0.0] * (width + 2)
    for box in boxes:  # differences, summed up below
        covered[max(0, int(box[0] - left))] += box[3] - box[1]
        covered[min(width, int(box[2] - left)) + 1] -= box[3] - box[1]
    heights = list(itertools.accumulate(covered))
    allowed = MAX_CROSSING * max(heights)
    if min(heights[int(MIN_COLUMN_SHARE * width) : math.ceil((1 - MIN_COLUMN_SHARE) * width) + 1]) > allowed:
        return []  # no gutter has its middle there
    found, run = list[float](), 0
    for at, height in enumerate(heights):
        if height <= allowed:
            run += 1
            continue
        if run >= MIN_GUTTER and MIN_COLUMN_SHARE * width < at - run / 2 < (1 - MIN_COLUMN_SHARE) * width:
            found.append(left + at - run / 2)
        run = 0
    return found if 0 < len(found) < 4 and _is_running_text(boxes, found) else []


def _is_running_text(boxes: Sequence[Box], found: Sequence[float]) -> bool:
    """Whether each column has enough lines that fill it."""
    columns: list[dict[int, tuple[float, float]]] = [{} for _ in range(len(found) + 1)]
    for box in boxes:
        column = bisect(found, box[0])
        if column < len(found) and box[2] > found[column] + MIN_GUTTER:
            continue  # across the gutter
        row = round(box[1] / 4)
        before = columns[column].get(row, (box[0], box[2]))
        columns[column][row] = min(before[0], box[0]), max(before[1], box[2])
    for rows in columns:
        if len(rows) < MIN_LINES:
            return False
        widest = max(right for _, right in rows.values()) - min(left for left, _ in rows.values())
        usual = statistics.median(right - left for left, right in rows.values())
        if usual < max(MIN_FILL * widest, MIN_LENGTH * statistics.median(box[3] - box[1] for box in boxes)):
            return False
    return True


def ordered(lines: Sequence[Line], found: Sequence[float], edges: Callable[[Line, int], tuple[float, float]]) -> Iterator[Line]:
    """Lines column by column between lines that stand across them; `edges` are the left and right of a line's character."""
    columns: list[list[Line]] = [[] for _ in range(len(found) + 1)]
    for line in (part for whole in lines for part in _divided(whole, found, edges)):
        if line.column >= 0:
            columns[line.column].append(line)
            continue
        for column in columns:
            yield from column
            column.clear()
        yield line
    for column in columns:
        yield from column


def _divided(line: Line, found: Sequence[float], edges: Callable[[Line, int], tuple[float, float]]) -> Iterator[Line]:
    """The parts of a line in their columns; the line itself where it goes across a gutter without a gap."""
    first, last = bisect(found, line.left + 1), bisect(found, line.right - 1)
    if first >= last:
        yield replace(line, column=bisect(found, (line.left + line.right) / 2))
        return
    cuts, column = [0], first
    boxes = [edges(line, at) for at in range(len(line.text))]
    for at in range(1, len(line.text)):
        if column < last and boxes[at - 1][0] < found[column] <= boxes[at][0] and not line.text[at].isspace():
            before = next((b for b in range(at - 1, -1, -1) if not line.text[b].isspace()), 0)
            if boxes[before][1] > found[column] + 1:
                yield line
                return
            cuts.append(at)
            column += 1
    if len(cuts) != last - first + 1:
        yield line
        return
    for number, (start, end) in enumerate(zip(cuts, [*cuts[1:], len(line.text)], strict=True)):
        text = line.text[start:end].rstrip()
        yield replace(
            line,
            text=text,
            left=boxes[start][0],
            right=boxes[start + len(text) - 1][1],
            start=line.start + start,
            column=first + number,
        )
