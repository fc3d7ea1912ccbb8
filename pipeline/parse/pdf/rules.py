"""Drawn rules of a page: its horizontal and vertical lines, and the edges of its rectangles."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pypdfium2.raw as pdfium_c

#: Maximum thickness of a rule, and minimum length, in points.
MAX_THICKNESS, MIN_LENGTH = 3.0, 6.0
#: Distance at which rules count as one, or as touching.
TOUCH = 3.0
#: Maximum size of a box to be checked, in points.
MAX_BOX = 14.0
#: Maximum distance of the background of a cell's text from the rules of its cell.
MAX_PADDING = 12.0
#: Points of one path, and rules of a page that are looked at; more of them are a drawing.
MAX_POINTS, MAX_RULES = 600, 1_500


class Rule(NamedTuple):
    """A line: horizontal ones go from `start` to `end` in x at the y `at`, vertical ones the other way round."""

    at: float
    start: float
    end: float


def drawn(paths: Sequence[int]) -> tuple[list[Rule], list[Rule]]:
    """The horizontal and the vertical rules among a page's paths, without parts that continue another; none of a drawing.

    Boxes to be checked and backgrounds of text in cells are no cells."""
    across: list[Rule] = []
    upright: list[Rule] = []
    areas: list[tuple[Any, float, float, float, float]] = []
    box = [ctypes.c_float() for _ in range(4)]
    for address in paths:
        found = ctypes.cast(address, pdfium_c.FPDF_PAGEOBJECT)
        if not pdfium_c.FPDFPageObj_GetBounds(found, *box):
            continue
        left, bottom, right, top = (side.value for side in box)
        if top - bottom <= MAX_THICKNESS:
            across += [Rule((top + bottom) / 2, left, right)] if right - left >= MIN_LENGTH else []
        elif right - left <= MAX_THICKNESS:
            upright += [Rule((left + right) / 2, bottom, top)] if top - bottom >= MIN_LENGTH else []
        elif right - left > MAX_BOX or top - bottom > MAX_BOX:
            areas.append((found, left, bottom, right, top))
        if len(across) + len(upright) + len(areas) > MAX_RULES:
            return [], []
    lines = tuple(upright)
    for found, *sides in areas:
        if lines and _is_padded(sides[0], sides[1], sides[2], sides[3], lines) and not _is_stroked(found):
            continue
        for x1, y1, x2, y2 in _sides(found):
            if abs(y1 - y2) < 0.5 and abs(x1 - x2) >= MIN_LENGTH:
                across.append(Rule(y1, min(x1, x2), max(x1, x2)))
            elif abs(x1 - x2) < 0.5 and abs(y1 - y2) >= MIN_LENGTH:
                upright.append(Rule(x1, min(y1, y2), max(y1, y2)))
        if len(across) + len(upright) > MAX_RULES:
            return [], []
    return merged(across), merged(upright)


def _is_padded(left: float, bottom: float, right: float, top: float, lines: Sequence[Rule]) -> bool:
    """Whether vertical lines stand on both sides of an area, a little apart: it is the background of a cell's text."""
    middle = (bottom + top) / 2
    beside = [line.at for line in lines if line.start <= middle <= line.end]
    return any(TOUCH < left - at <= MAX_PADDING for at in beside) and any(TOUCH < at - right <= MAX_PADDING for at in beside)


def _is_stroked(found: Any) -> bool:
    fill, stroke = ctypes.c_int(), ctypes.c_int()
    return not pdfium_c.FPDFPath_GetDrawMode(found, fill, stroke) or bool(stroke.value)


def _sides(found: Any) -> Iterator[tuple[float, float, float, float]]:
    """The straight parts of a path, on the page."""
    count = pdfium_c.FPDFPath_CountSegments(found)
    matrix = pdfium_c.FS_MATRIX()
    if count > MAX_POINTS or not pdfium_c.FPDFPageObj_GetMatrix(found, matrix):
        return
    x, y = ctypes.c_float(), ctypes.c_float()
    start = last = (0.0, 0.0)
    for index in range(count):
        segment = pdfium_c.FPDFPath_GetPathSegment(found, index)
        pdfium_c.FPDFPathSegment_GetPoint(segment, x, y)
        point = (
            matrix.a * x.value + matrix.c * y.value + matrix.e,
            matrix.b * x.value + matrix.d * y.value + matrix.f,
        )
        kind = pdfium_c.FPDFPathSegment_GetType(segment)
        if kind == pdfium_c.FPDF_SEGMENT_MOVETO:
            start = point
        elif kind == pdfium_c.FPDF_SEGMENT_LINETO:
            yield (*last, *point)
        last = point
        if pdfium_c.FPDFPathSegment_GetClose(segment):
            yield (*last, *start)
            last = start


def merged(found: Iterable[Rule]) -> list[Rule]:
    """Rules by place; those at one place that touch are one."""
    whole: list[Rule] = []
    level: list[Rule] = []
    for rule in sorted(found):
        if level and rule.at - level[0].at > TOUCH:
            whole += _joined(level)
            level = []
        level.append(rule)
    return whole + _joined(level)


def _joined(level: Sequence[Rule]) -> list[Rule]:
    whole: list[Rule] = []
    for rule in sorted(level, key=lambda rule: rule.start):
        if whole and rule.start <= whole[-1].end + TOUCH:
            whole[-1] = whole[-1]._replace(end=max(whole[-1].end, rule.end))
        else:
            whole.append(rule)
    return whole
