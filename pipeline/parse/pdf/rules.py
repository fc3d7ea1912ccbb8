"""Drawn rules of a page: its horizontal and vertical lines, and the edges of its rectangles."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pypdfium2.raw as pdfium_c

from pipeline.parse.pdf.quick import Address, quick

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


_type = quick(pdfium_c.FPDFPageObj_GetType)
_bounds = quick(pdfium_c.FPDFPageObj_GetBounds)
_matrix = quick(pdfium_c.FPDFPageObj_GetMatrix)
_count = quick(pdfium_c.FPDFPath_CountSegments)
_segment = quick(pdfium_c.FPDFPath_GetPathSegment, Address)
_point = quick(pdfium_c.FPDFPathSegment_GetPoint)
_kind = quick(pdfium_c.FPDFPathSegment_GetType)
_closes = quick(pdfium_c.FPDFPathSegment_GetClose)


class Rule(NamedTuple):
    """A line: horizontal ones go from `start` to `end` in x at the y `at`, vertical ones the other way round."""

    at: float
    start: float
    end: float


def drawn(found: Sequence[Address]) -> tuple[list[Rule], list[Rule]]:
    """The horizontal and the vertical rules among a page's objects, without parts that continue another; none of a drawing.

    Boxes to be checked and backgrounds of text in cells are no cells."""
    across: list[Rule] = []
    upright: list[Rule] = []
    areas: list[tuple[Address, float, float, float, float]] = []
    box = (ctypes.c_float * 4)()
    sides = [ctypes.byref(box, 4 * at) for at in range(4)]
    numbers: Any = memoryview(box).cast("B").cast("f")
    for one, kind in zip(found, map(_type, found), strict=True):
        if kind != pdfium_c.FPDF_PAGEOBJ_PATH or not _bounds(one, *sides):
            continue
        left, bottom, right, top = numbers.tolist()
        if top - bottom <= MAX_THICKNESS:
            across += [Rule((top + bottom) / 2, left, right)] if right - left >= MIN_LENGTH else []
        elif right - left <= MAX_THICKNESS:
            upright += [Rule((left + right) / 2, bottom, top)] if top - bottom >= MIN_LENGTH else []
        elif right - left > MAX_BOX or top - bottom > MAX_BOX:
            areas.append((one, left, bottom, right, top))
        if len(across) + len(upright) + len(areas) > MAX_RULES:
            return [], []
    lines = tuple(upright)
    for one, left, bottom, right, top in areas:
        if lines and _is_padded(left, bottom, right, top, lines) and not _is_stroked(one):
            continue
        for x1, y1, x2, y2 in _sides(one):
            if abs(y1 - y2) < 0.5 and abs(x1 - x2) >= MIN_LENGTH:
                across.append(Rule(y1, min(x1, x2), max(x1, x2)))
            elif abs(x1 - x2) < 0.5 and abs(y1 - y2) >= MIN_LENGTH:
                upright.append(Rule(x1, min(y1, y2), max(y1, y2)))
        if len(across) + len(upright) > MAX_RULES:
            return [], []
    return merged(across), merged(upright)


def turned(across: Sequence[Rule], upright: Sequence[Rule], angle: int) -> tuple[list[Rule], list[Rule]]:
    """Rules of a page in the frame of its text, which is turned by an angle."""
    quarter = round(angle / 90) % 4
    if quarter == 1:
        return [Rule(-at, start, end) for at, start, end in upright], [Rule(at, -end, -start) for at, start, end in across]
    if quarter == 2:
        return [Rule(-at, -end, -start) for at, start, end in across], [Rule(-at, -end, -start) for at, start, end in upright]
    if quarter == 3:
        return [Rule(at, -end, -start) for at, start, end in upright], [Rule(-at, start, end) for at, start, end in across]
    return list(across), list(upright)


def _is_padded(left: float, bottom: float, right: float, top: float, lines: Sequence[Rule]) -> bool:
    """Whether vertical lines stand on both sides of an area, a little apart: it is the background of a cell's text."""
    middle = (bottom + top) / 2
    beside = [line.at for line in lines if line.start <= middle <= line.end]
    return any(TOUCH < left - at <= MAX_PADDING for at in beside) and any(TOUCH < at - right <= MAX_PADDING for at in beside)


def _is_stroked(found: Address) -> bool:
    fill, stroke = ctypes.c_int(), ctypes.c_int()
    path = ctypes.cast(found, pdfium_c.FPDF_PAGEOBJECT)
    return not pdfium_c.FPDFPath_GetDrawMode(path, fill, stroke) or bool(stroke.value)


def _sides(found: Address) -> Iterator[tuple[float, float, float, float]]:
    """The straight parts of a path, on the page."""
    count = _count(found)
    matrix = (ctypes.c_float * 6)()
    if count > MAX_POINTS or not _matrix(found, ctypes.byref(matrix)):
        return
    a, b, c, d, e, f = matrix
    place = (ctypes.c_float * 2)()
    to_x, to_y = ctypes.byref(place), ctypes.byref(place, 4)
    numbers: Any = memoryview(place).cast("B").cast("f")
    start = last = (0.0, 0.0)
    for index in range(count):
        segment = _segment(found, index)
        _point(segment, to_x, to_y)
        x, y = numbers.tolist()
        point = a * x + c * y + e, b * x + d * y + f
        kind = _kind(segment)
        if kind == pdfium_c.FPDF_SEGMENT_MOVETO:
            start = point
        elif kind == pdfium_c.FPDF_SEGMENT_LINETO:
            yield (*last, *point)
        last = point
        if _closes(segment):
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
