"""Pages without text: each is drawn, and read by OCR."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pypdfium2.raw as pdfium_c

from pipeline.parse.ocr.scans import DPI, Scans
from pipeline.parse.parsed import Losses
from pipeline.parse.pdf.pages import Page

if TYPE_CHECKING:
    from PIL.Image import Image

#: Maximum pixels of a picture on a page: pdfium may hold it in memory with four bytes for each, beside the page.
MAX_PICTURE_PIXELS = 410_000_000


def with_scan(page: Page, document: Any, scans: Scans, losses: Losses) -> Page:
    """`page` with what `scans` reads on its drawing, where it has no text that can be read.

    Without an engine it stays as it is, and says what to install.
    """
    if not page.without_text:
        return page
    found = scans.read(partial(_draw, document, page.number), page.number, losses)
    if found is None:
        return replace(page, without_text=scans.explained(page.without_text))
    # The few characters that it has, such as a stamp, are on the drawing too.
    return replace(page, items=[] if found else page.items, notes=[*found, *page.notes], without_text="")


def _draw(document: Any, number: int, most: int) -> Image:
    """A page in shades of grey, with at most `most` pixels. Raises ValueError for one with too large a picture."""
    page = document[number - 1]  # open a second time, with what draws it
    try:
        for picture in page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=3):
            across, down = picture.get_px_size()
            if across * down > MAX_PICTURE_PIXELS:
                raise ValueError(f"a picture of {across} x {down} pixels is too large")
        width, height = page.get_size()
        scale = min(DPI / 72, (most / max(1.0, width * height)) ** 0.5)
        drawn: Image = page.render(scale=scale, grayscale=True).to_pil()
    finally:
        page.close()
    return drawn
