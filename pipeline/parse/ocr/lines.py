"""Lines that an engine read, in reading order, and the paragraphs that they form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from pipeline.parse.hyphens import DIVIDED, Words
from pipeline.parse.parsed import squeeze

#: Columns are looked for among lines that are this many times as wide as high; narrower ones may be cells of a table.
COLUMN_RATIO = 7.0
#: Height of the gap between paragraphs, and width of that between columns, in heights of a line.
PARAGRAPH_GAP, COLUMN_GAP = 0.6, 0.8

_SENTENCE_END = re.compile(r"[.!?:;…。！？][\"'”’)\]]*$")
#: Scripts that put no space between words, so none stands for the end of a line.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\u3000-\u303f]")


@dataclass(frozen=True, slots=True)
class ReadLine:
    """A line of a page that stands upright; places in pixels from its upper left corner."""

    text: str
    confidence: float  #: of the engine, from 0 to 1
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        """In pixels, at least one."""
        return max(1.0, self.bottom - self.top)


#: Left, top, right and bottom.
Box = tuple[float, float, float, float]


def turned(box: Box, shape: tuple[int, int], side: bool, flip: bool) -> Box:
    """A place on a page once the page stands upright; `shape` is its height and width as it is.

    `side`: lines run down as it is, or up if `flip`; otherwise `flip` means that it stands on its head.
    """
    height, width = shape
    left, top, right, bottom = box
    if side:
        left, top, right, bottom = top, width - right, bottom, width - left
        height, width = width, height
    return (width - right, height - bottom, width - left, height - top) if flip else (left, top, right, bottom)


def ordered(lines: Sequence[ReadLine]) -> list[list[ReadLine]]:
    """The lines by regions of the page in reading order: columns one after another, rows from left to right."""
    if len(lines) < 2:
        return [list(lines)] if lines else []
    size = median(line.height for line in lines)
    parts = _cut(lines, size, across=True)
    if parts and all(len(part) > 1 and median((x.right - x.left) / size for x in part) >= COLUMN_RATIO for part in parts):
        return [region for part in parts for region in ordered(part)]
    if parts := _cut(lines, size, across=False):
        return [region for part in parts for region in ordered(part)]
    return [_in_rows(lines)]


def _cut(lines: Sequence[ReadLine], size: float, *, across: bool) -> list[list[ReadLine]]:
    """The lines on both sides of the widest gap, which may be wide enough for two regions; empty without one."""
    spans = sorted(((x.left, x.right, x) if across else (x.top, x.bottom, x) for x in lines), key=lambda span: span[:2])
    reach, widest, place = spans[0][1], 0.0, 0
    for index, (start, end, _) in enumerate(spans):
        if start - reach > widest:
            widest, place = start - reach, index
        reach = max(reach, end)
    if widest < size * (COLUMN_GAP if across else 1.0):
        return []
    return [[line for *_, line in spans[:place]], [line for *_, line in spans[place:]]]


def _in_rows(lines: Sequence[ReadLine]) -> list[ReadLine]:
    rows: list[list[ReadLine]] = []
    for line in sorted(lines, key=lambda line: (line.top + line.bottom) / 2):
        middle = (line.top + line.bottom) / 2
        if rows and middle < rows[-1][0].bottom - 0.25 * rows[-1][0].height:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.left)]


def paragraphs(region: Sequence[ReadLine], words: Words) -> Iterator[str]:
    """The texts of the paragraphs of a region."""
    if not region:
        return
    margin = max(line.right for line in region)
    gaps = sorted(below.top - above.bottom for above, below in pairwise(region) if below.top > above.top)
    usual = gaps[len(gaps) // 4] if gaps else 0.0
    block = [region[0]]
    for line in region[1:]:
        above = block[-1]
        size = max(line.height, above.height)
        is_below = line.top > above.top + size / 2
        short = above.right < margin - 4 * size and _SENTENCE_END.search(above.text)
        if is_below and (line.top - above.bottom > usual + PARAGRAPH_GAP * size or short):
            yield _joined(block, words)
            block = []
        block.append(line)
    yield _joined(block, words)


def _joined(block: Sequence[ReadLine], words: Words) -> str:
    text = block[0].text.strip()
    for line in block[1:]:
        more = line.text.strip()
        if re.search(r"[^\W\d_]-$", text) and more[:1].isalpha():
            text = text[:-1] + DIVIDED + more
        elif text and more and _UNSPACED.match(text[-1]) and _UNSPACED.match(more[0]):
            text += more
        else:
            text += " " + more
    return squeeze(words.undivided(text))
