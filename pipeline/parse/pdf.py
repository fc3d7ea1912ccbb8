"""PDF through pdfium, page by page: lines are joined into paragraphs, and larger type becomes headings."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from pipeline.errors import DocumentError
from pipeline.parse.parsed import Parsed, Share, pieces, squeeze
from pipeline.text import plural
from pipeline.types import Element, ElementKind, Reason

#: Number of pages read in advance to determine the sizes of running text and of headings.
SAMPLE_PAGES = 10
#: A page with a picture and fewer characters than this counts as a picture.
MIN_PAGE_CHARS = 20
#: A document with a larger share of picture pages needs OCR: a few words would hide that the rest is missing.
MAX_PICTURE_SHARE = 0.5
#: Minimum size of a heading's type relative to running text.
HEADING_RATIO = 1.15
MAX_HEADING_CHARS = 200
MAX_LEVELS = 4

_BULLET = re.compile(r"(?:[•‣▪●○◦∙·–*-]|\(?(?:\d{1,3}|[a-z])[.)])\s+\S")
_SENTENCE_END = re.compile(r"[.!?:;…。！？][\"'”’)\]]*$")
_PAGE_NUMBER = re.compile(r"(?:[-–—]\s*)?(?:\d{1,5}|[ivxlc]{1,7})(?:\s*[-–—])?$")
_LEADER = re.compile(r"\s?\.(?:\s?\.){4,}\s?")
_HYPHENS = ("\ufffe", "\x02", "\xad")  # pdfium's characters for a hyphen at the end of a line


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a page; lengths in points, from the lower left corner."""

    text: str
    size: float  #: height of its first character's box
    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True, slots=True)
class _Page:
    number: int  #: 1-based
    lines: list[_Line]
    is_picture: bool


def parse_pdf(path: Path, name: str) -> Parsed:
    """Paragraphs and headings of the PDF at `path`, with their pages.

    Raises DocumentError: ENCRYPTED, CORRUPT (also where its end is cut off, because pdfium would silently return only
    the remaining pages), NEEDS_OCR, EMPTY_TEXT; the last two at the end of the elements.
    """
    _refuse_cut_off(path)
    try:
        document = pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) == pdfium_c.FPDF_ERR_PASSWORD:
            raise DocumentError(Reason.ENCRYPTED, "needs a password") from error
        raise DocumentError(Reason.CORRUPT, str(error)) from error
    declared = squeeze(document.get_metadata_value("Title") or "")  # before the pages: the last one closes the document
    share = Share()
    pages = _pages(document, share)
    sample = list(itertools.islice(pages, SAMPLE_PAGES))
    body, headings = _sizes(sample)
    elements = _elements(itertools.chain(sample, pages), body, headings)
    start = list(itertools.islice(elements, 30))
    title = next((e.text for e in start if e.kind is ElementKind.HEADING and e.level == 1), "")
    return Parsed(title or declared, itertools.chain(start, elements), share)


def _refuse_cut_off(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - (64 << 10)))
        tail = file.read()
    if b"%%EOF" not in tail and b"startxref" not in tail:
        raise DocumentError(Reason.CORRUPT, "its end is cut off")


def _pages(document: Any, share: Share) -> Iterator[_Page]:
    try:
        count = len(document)
        if not count:
            raise DocumentError(Reason.CORRUPT, "no pages")
        for index in range(count):
            share.count(index, count)
            try:
                page = document[index]
            except pdfium.PdfiumError as error:
                raise DocumentError(Reason.CORRUPT, f"page {index + 1}: {error}") from error
            try:
                yield _page(page, index + 1)
            finally:
                page.close()
    finally:
        document.close()


def _page(page: Any, number: int) -> _Page:
    textpage = page.get_textpage()
    try:
        lines = list(_lines(textpage))
    finally:
        textpage.close()
    text = "".join(line.text for line in lines)
    legible = sum(1 for c in text if not c.isspace() and c != "\ufffd" and not "\ue000" <= c <= "\uf8ff")
    if legible >= MIN_PAGE_CHARS and 2 * legible >= len("".join(text.split())):
        return _Page(number, lines, False)
    # Fonts without a character map yield private or replacement characters: such pages are pictures of text, too.
    has_picture = next(page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=3), None) is not None
    return _Page(number, lines if legible else [], has_picture or legible < len(text.split()))


def _lines(textpage: Any) -> Iterator[_Line]:
    text = textpage.get_text_range()
    box = pdfium_c.FS_RECTF()
    position = 0
    for raw in text.split("\r\n"):
        body = raw.strip()
        if body:
            first = position + len(raw) - len(raw.lstrip())
            last = first + len(body) - 1
            edges = []
            for place in (first, last):
                index = pdfium_c.FPDFText_GetCharIndexFromTextIndex(textpage, place)
                known = index >= 0 and pdfium_c.FPDFText_GetLooseCharBox(textpage, index, box)
                edges.append((box.left, box.bottom, box.right, box.top) if known else (0.0, 0.0, 0.0, 0.0))
            left, bottom, _, top = edges[0]
            yield _Line(text=body, size=abs(top - bottom), left=left, right=edges[1][2], top=top, bottom=bottom)
        position += len(raw) + 2


def _sizes(pages: Sequence[_Page]) -> tuple[float, list[float]]:
    """The size of running text, and the sizes of headings in descending order; in points, rounded to halves."""
    weights: Counter[float] = Counter()
    for page in pages:
        for line in page.lines:
            weights[_half(line.size)] += len(line.text)
    if not weights:
        return 0.0, []
    body = weights.most_common(1)[0][0]
    larger: list[float] = []
    for size in sorted(weights, reverse=True):
        # Fonts of the same size differ slightly in the height of their boxes.
        if size >= body * HEADING_RATIO and not (larger and size > 0.94 * larger[-1]):
            larger.append(size)
    return body, larger


def _half(size: float) -> float:
    return round(size * 2) / 2


def _elements(pages: Iterator[_Page], body: float, headings: list[float]) -> Iterator[Element]:
    count = pictures = 0
    some = False
    for page in pages:
        count += 1
        pictures += page.is_picture
        for block in _blocks(_without_number(page.lines)):
            text = _LEADER.sub(" … ", squeeze(_joined(block)))
            size = _half(block[0].size)
            is_large = body and size >= body * HEADING_RATIO and len(block) <= 3
            is_heading = is_large and len(text) <= MAX_HEADING_CHARS and " … " not in text
            for first, last in pieces(text):
                if not (part := text[first:last].strip()):
                    continue
                some = True
                if is_heading and any(c.isalpha() for c in part):
                    level = sum(1 for known in headings if 0.94 * known >= size) + 1
                    yield Element(part, ElementKind.HEADING, min(level, MAX_LEVELS), page=page.number)
                else:
                    kind = ElementKind.LIST_ITEM if _BULLET.match(part) else ElementKind.PARAGRAPH
                    yield Element(part, kind, page=page.number)
    if pictures > MAX_PICTURE_SHARE * count:
        raise DocumentError(
            Reason.NEEDS_OCR, f"{pictures} of {plural(count, 'page')} {'is a picture' if pictures == 1 else 'are pictures'}"
        )
    if not some:
        raise DocumentError(Reason.NEEDS_OCR if pictures else Reason.EMPTY_TEXT, f"no text on {plural(count, 'page')}")


def _without_number(lines: list[_Line]) -> list[_Line]:
    """`lines` without a separate page number at the top or bottom."""
    if len(lines) > 1 and _PAGE_NUMBER.match(lines[-1].text):
        lines = lines[:-1]
    return lines[1:] if len(lines) > 1 and _PAGE_NUMBER.match(lines[0].text) else lines


def _blocks(lines: list[_Line]) -> Iterator[list[_Line]]:
    """Lines that form a paragraph."""
    gaps = sorted(a.bottom - b.top for a, b in itertools.pairwise(lines) if abs(a.size - b.size) < 1 and a.bottom > b.bottom)
    usual = min(gaps[len(gaps) // 4], 1.3 * lines[0].size) if gaps else 0.0
    margin = max((line.right for line in lines), default=0.0)
    block: list[_Line] = []
    for line in lines:
        if block and _begins(line, block[-1], usual, margin):
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _begins(line: _Line, above: _Line, usual: float, margin: float) -> bool:
    """Whether `line` begins a paragraph below `above`; `usual` is the gap between lines, `margin` the right edge."""
    size = max(line.size, above.size, 1.0)
    if abs(line.size - above.size) > 0.15 * size or _BULLET.match(line.text):
        return True
    ended = _SENTENCE_END.search(above.text) is not None
    if line.bottom > above.bottom + size:  # the next column, or a box further up
        return ended or not line.text[:1].islower()
    if abs(line.bottom - above.bottom) < 0.3 * size:  # on the same height: a table or a leader
        return False
    if above.bottom - line.top > usual + 0.35 * size:
        return True
    return ended and (above.right < 0.75 * margin or line.left > above.left + 0.8 * size)


def _joined(block: list[_Line]) -> str:
    """The text of a paragraph: words broken at a line end are joined."""
    parts: list[str] = []
    for line, below in itertools.zip_longest(block, block[1:]):
        text = line.text
        if below is None:
            parts.append(text)
        elif text.endswith(_HYPHENS) or (re.search(r"[a-zà-ÿ]-$", text) and below.text[:1].islower()):
            parts.append(text[:-1])
        else:
            parts.append(text + " ")
    return "".join(parts)
