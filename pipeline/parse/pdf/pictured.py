"""The share of a page that pictures cover."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import pypdfium2.raw as pdfium_c

from pipeline.parse.pdf.opened import Opened

#: How deep forms lie in each other whose pictures are looked at.
MAX_DEPTH = 3


def picture_share(page: Opened) -> float:
    """The share of a page that its largest picture covers; 0 where it has none."""
    size = max(1.0, pdfium_c.FPDF_GetPageWidthF(page.page) * pdfium_c.FPDF_GetPageHeightF(page.page))
    left, bottom, right, top = sides = [ctypes.c_float() for _ in range(4)]
    largest = 0.0
    for found in _pictures(page.page, pdfium_c.FPDFPage_CountObjects, pdfium_c.FPDFPage_GetObject, MAX_DEPTH):
        if pdfium_c.FPDFPageObj_GetBounds(found, *sides):
            largest = max(largest, abs((right.value - left.value) * (top.value - bottom.value)) / size, 1e-6)
    return largest


def _pictures(holder: Any, count: Any, get: Any, depth: int) -> Iterator[Any]:
    for index in range(count(holder)):
        found = get(holder, index)
        kind = pdfium_c.FPDFPageObj_GetType(found)
        if kind == pdfium_c.FPDF_PAGEOBJ_IMAGE:
            yield found
        elif kind == pdfium_c.FPDF_PAGEOBJ_FORM and depth > 1:
            yield from _pictures(found, pdfium_c.FPDFFormObj_CountObjects, pdfium_c.FPDFFormObj_GetObject, depth - 1)
