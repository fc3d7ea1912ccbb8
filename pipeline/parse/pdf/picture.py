"""A page of a PDF as a picture, with the places of some text marked on it."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from numpy.typing import NDArray

from pipeline.errors import DocumentError
from pipeline.types import Reason

#: Maximum width and height of a picture, in pixels; a page may claim to be as large as a football field.
MAX_WIDTH, MAX_HEIGHT = 1000, 2000

#: Shorter lines of text are not looked for: they occur on the page elsewhere too.
MIN_LINE_CHARS = 4

#: Part of the blue light that a mark leaves: white becomes yellow, and black stays black.
MARK = 0.55

#: Hyphens, which the parser takes out of words that are divided at the end of a line, and the bars that it puts between cells.
_MARKS = "-\x02\xad\u2010\ufffe|"

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

#: Pixels of a picture: rows, columns, red green blue.
Pixels = NDArray[np.uint8]


def page_picture(path: Path, number: int, lines: Sequence[str]) -> bytes:
    """Page `number` (from 1) of the PDF at `path` as PNG, with `lines` marked where the page has them.

    Lines are compared without white space, because a line of a chunk may stand on several lines of the page. Raises
    DocumentError for a file that pdfium cannot open and for a page that does not exist.
    """
    try:
        document = pdfium.PdfDocument(path)
        if not 1 <= number <= len(document):
            raise DocumentError(Reason.CORRUPT, f"there is no page {number}")
        if document.get_formtype():
            document.init_forms()
        page = document[number - 1]
        width, height = page.get_size()
        scale = min(MAX_WIDTH / max(width, 1), MAX_HEIGHT / max(height, 1))
        bitmap = page.render(scale=scale, rev_byteorder=True)
        place = bitmap.get_posconv(page)
        pixels = np.array(bitmap.to_numpy()[:, :, :3])
        for left, bottom, right, top in _boxes(page, lines):
            corners = [place.to_bitmap(x, y) for x, y in ((left, top), (right, bottom))]
            columns, rows = sorted(x for x, _ in corners), sorted(y for _, y in corners)
            area = pixels[max(0, rows[0]) : max(0, rows[1]) + 1, max(0, columns[0]) : max(0, columns[1]) + 1, 2]
            area[:] = (area * MARK).astype(np.uint8)
    except pdfium.PdfiumError as error:
        raise DocumentError(Reason.CORRUPT, str(error)) from error
    return png(pixels)


def _boxes(page: Any, lines: Sequence[str]) -> Iterator[tuple[float, float, float, float]]:
    """Left, bottom, right and top of the places of the lines, in points; a place is marked once."""
    textpage = page.get_textpage()
    codes = (pdfium_c.FPDFText_GetUnicode(textpage, index) for index in range(textpage.count_chars()))
    places = [(index, mark) for index, mark in enumerate(map(chr, codes)) if not _is_left_out(mark)]
    plain = "".join(mark for _, mark in places)
    marked: set[int] = set()
    for line in lines:
        # Where a paragraph continues on the next page, this page has some of its sentences only.
        for part in [line] if _squeezed(line) in plain else _SENTENCE_END.split(line):
            wanted = _squeezed(part)
            start = plain.find(wanted) if len(wanted) >= MIN_LINE_CHARS else -1
            if start >= 0:
                marked.update(range(places[start][0], places[start + len(wanted) - 1][0] + 1))
    for first, length in _runs(sorted(marked)):
        for number in range(textpage.count_rects(first, length)):
            yield textpage.get_rect(number)


def _squeezed(text: str) -> str:
    return "".join(mark for mark in text if not _is_left_out(mark))


def _is_left_out(mark: str) -> bool:
    return mark.isspace() or mark in _MARKS


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First number and length of each run of consecutive numbers."""
    start = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
            yield numbers[start], at - start
            start = at


def png(pixels: Pixels) -> bytes:
    """A picture as PNG."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with the number of its filter: none
    rows[:, 1:] = pixels.reshape(height, 3 * width)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 6)),
        (b"IEND", b""),
    )
    chunks = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
