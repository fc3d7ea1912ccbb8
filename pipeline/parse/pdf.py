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
from pipeline.parse.hyphens import DIVIDED, Words
from pipeline.parse.parsed import Losses, Parsed, Share, pieces, squeeze
from pipeline.parse.pdf_columns import MAX_RECTANGLES, Line, gutters, ordered
from pipeline.parse.pdf_notes import attached, notes
from pipeline.parse.properties import of_pdf
from pipeline.text import plural
from pipeline.types import Element, ElementKind, LossKind, Reason

#: Number of pages read in advance to determine the sizes of running text and of headings.
SAMPLE_PAGES = 10
#: A page with a picture and fewer characters than this counts as a picture.
MIN_PAGE_CHARS = 20
#: On a page with less text than this, a picture that covers this share of it is looked for: it may be text, too.
FEW_CHARS, PICTURE_SHARE = 200, 0.25
#: Minimum size of a heading's type relative to running text.
HEADING_RATIO = 1.15
MAX_HEADING_CHARS = 200
MAX_LEVELS = 4

#: Replacement characters, and private ones, which fonts without a character map yield.
_ILLEGIBLE = re.compile("[\ufffd\ue000-\uf8ff]")
_BULLET = re.compile(r"(?:[•‣▪●○◦∙·–*-]|\(?(?:\d{1,3}|[a-z])[.)])\s+\S")
_SENTENCE_END = re.compile(r"[.!?:;…。！？][\"'”’)\]]*$")
_PAGE_NUMBER = re.compile(r"(?:[-–—]\s*)?(\d{1,5}|[ivxlc]{1,7})(?:\s*[-–—])?$")
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}
_LEADER = re.compile(r"\s?\.(?:\s?\.){4,}\s?")
#: pdfium's characters for a hyphen at the end of a line.
_HYPHENS = ("\x02", "\xad")


@dataclass(frozen=True, slots=True)
class _Page:
    number: int  #: 1-based
    lines: list[Line]
    notes: list[Element]  #: fields and comments
    without_text: str = ""  #: why its text cannot be read; empty where it has text, or is blank


def parse_pdf(path: Path, name: str) -> Parsed:
    """Paragraphs and headings of the PDF at `path`, with their pages; filled-in fields and comments follow their page's text.

    Pages without text, among others with text, are losses. Raises DocumentError: ENCRYPTED, CORRUPT (also where its end is cut
    off, because pdfium would silently return only the remaining pages), NEEDS_OCR, EMPTY_TEXT; the last two at the end of the
    elements.
    """
    _refuse_cut_off(path)
    try:
        document = pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) == pdfium_c.FPDF_ERR_PASSWORD:
            raise DocumentError(Reason.ENCRYPTED, "needs a password") from error
        raise DocumentError(Reason.CORRUPT, str(error)) from error
    # Before the pages: the last one closes the document.
    declared = squeeze(document.get_metadata_value("Title") or "")
    properties = of_pdf(document.get_metadata_dict())
    share, losses = Share(), Losses()
    members = list(attached(document, losses))
    pages = _pages(document, share, losses)
    sample = list(itertools.islice(pages, SAMPLE_PAGES))
    body, headings = _sizes(sample)
    elements = _elements(itertools.chain(sample, pages), body, headings, _offset(sample), losses)
    start = list(itertools.islice(elements, 30))
    title = next((e.text for e in start if e.kind is ElementKind.HEADING and e.level == 1), "")
    return Parsed(title or declared, itertools.chain(start, elements), share, losses, properties, iter(members))


def _refuse_cut_off(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - (64 << 10)))
        tail = file.read()
    if b"%%EOF" not in tail and b"startxref" not in tail:
        raise DocumentError(Reason.CORRUPT, "its end is cut off")


def _pages(document: Any, share: Share, losses: Losses) -> Iterator[_Page]:
    try:
        count = len(document)
        if not count:
            raise DocumentError(Reason.CORRUPT, "no pages")
        if document.get_formtype():
            document.init_forms()
        form = document.formenv.raw if document.formenv else None
        for index in range(count):
            share.count(index, count)
            try:
                page = document[index]
            except pdfium.PdfiumError as error:
                losses.add(LossKind.UNREADABLE_PART, f"page {index + 1}", str(error))
                continue
            try:
                yield _page(page, form, index + 1, losses)
            finally:
                page.close()
    finally:
        document.close()


def _page(page: Any, form: Any, number: int, losses: Losses) -> _Page:
    textpage = page.get_textpage()
    try:
        lines = _in_columns(textpage, list(_lines(textpage)))
    finally:
        textpage.close()
    found = list(notes(page, form, number, losses))
    text = "".join(line.text for line in lines)
    marks = "".join(text.split())
    legible = len(marks) - (0 if marks.isascii() else len(_ILLEGIBLE.findall(marks)))
    if legible >= MIN_PAGE_CHARS and 2 * legible >= len(marks):
        if legible < FEW_CHARS and _picture_share(page) >= PICTURE_SHARE:
            losses.add(LossKind.PICTURE, f"page {number}", "a picture that covers a large part of the page")
        return _Page(number, lines, found)
    # Fonts without a character map yield private or replacement characters: such pages are pictures of text, too.
    if legible < len(text.split()) or (legible and 2 * legible < len(marks)):
        return _Page(number, [], found, "its fonts do not name their characters")
    return _Page(number, lines if legible else [], found, "a scanned page" if _picture_share(page) > 0 else "")


def _picture_share(page: Any) -> float:
    """The share of a page that its largest picture covers."""
    width, height = page.get_size()
    largest = 0.0
    for found in page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=3):
        left, bottom, right, top = found.get_bounds()
        largest = max(largest, abs((right - left) * (top - bottom)) / max(1.0, width * height), 1e-6)
    return largest


def _lines(textpage: Any) -> Iterator[Line]:
    text = textpage.get_text_range()
    for hyphen in _HYPHENS:
        text = text.replace(hyphen, DIVIDED)
    position = 0
    for raw in text.split("\r\n"):
        body = raw.strip()
        if body:
            first = position + len(raw) - len(raw.lstrip())
            left, bottom, _, top = _box(textpage, first)
            _, last_bottom, right, _ = _box(textpage, first + len(body) - 1)
            size = abs(top - bottom)
            # pdfium puts the second half of a divided word, and what follows it, on the same line.
            lowest = last_bottom if DIVIDED in body and last_bottom < bottom - size / 2 else bottom
            yield Line(text=body, size=size, left=left, right=right, top=top, bottom=lowest, start=first)
        position += len(raw) + 2


def _box(textpage: Any, place: int) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of the character at a place in the text."""
    box = pdfium_c.FS_RECTF()
    index = pdfium_c.FPDFText_GetCharIndexFromTextIndex(textpage, place)
    known = index >= 0 and pdfium_c.FPDFText_GetLooseCharBox(textpage, index, box)
    return (box.left, box.bottom, box.right, box.top) if known else (0.0, 0.0, 0.0, 0.0)


def _in_columns(textpage: Any, lines: list[Line]) -> list[Line]:
    """The lines in reading order: pdfium reads across columns."""
    count = textpage.count_rects()
    if len(lines) < 2 or count > MAX_RECTANGLES:
        return lines
    found = gutters([textpage.get_rect(index) for index in range(count)])

    def edges(line: Line, at: int) -> tuple[float, float]:
        left, _, right, _ = _box(textpage, line.start + at)
        return left, right

    return list(ordered(lines, found, edges)) if found else lines


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


def _elements(pages: Iterator[_Page], body: float, headings: list[float], offset: int | None, losses: Losses) -> Iterator[Element]:
    count = 0
    unread: list[_Page] = []
    some = False
    words = Words()
    for page in pages:
        count += 1
        unread += [page] if page.without_text else []
        words.learn(line.text for line in page.lines)
        for block in _blocks(_without_number(page, offset)):
            text = _LEADER.sub(" … ", squeeze(words.undivided(_joined(block))))
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
        some = some or bool(page.notes)
        yield from page.notes
    if not some:
        raise DocumentError(Reason.NEEDS_OCR if unread else Reason.EMPTY_TEXT, f"no text on {plural(count, 'page')}")
    for page in unread:
        losses.add(LossKind.PAGE_WITHOUT_TEXT, f"page {page.number}", page.without_text)


def _numbers(page: _Page) -> dict[int, int]:
    """The first and the last line of a page, by their index, where they are numbers."""
    found = {}
    for index in {0, len(page.lines) - 1} if len(page.lines) > 1 else ():
        if match := _PAGE_NUMBER.match(page.lines[index].text):
            text = match.group(1)
            found[index] = int(text) if text.isdigit() else _roman(text)
    return found


def _roman(text: str) -> int:
    values = [_ROMAN[c] for c in text]
    return sum(-v if v < max(values[at:]) else v for at, v in enumerate(values))


def _offset(sample: Sequence[_Page]) -> int | None:
    """How far printed page numbers differ from the places of pages, where they count with the pages; a number alone is text."""
    offsets = Counter(value - page.number for page in sample for value in _numbers(page).values())
    offset, times = next(iter(offsets.most_common(1)), (0, 0))
    return offset if times > 1 else None


def _without_number(page: _Page, offset: int | None) -> list[Line]:
    """The lines of a page without its printed number."""
    dropped = {index for index, value in _numbers(page).items() if value - page.number == offset}
    return [line for index, line in enumerate(page.lines) if index not in dropped] if dropped else page.lines


def _blocks(lines: list[Line]) -> Iterator[list[Line]]:
    """Lines that form a paragraph."""
    gaps = sorted(a.bottom - b.top for a, b in itertools.pairwise(lines) if abs(a.size - b.size) < 1 and a.bottom > b.bottom)
    usual = min(gaps[len(gaps) // 4], 1.3 * lines[0].size) if gaps else 0.0
    margin = max((line.right for line in lines), default=0.0)
    block: list[Line] = []
    for line in lines:
        if block and _begins(line, block[-1], usual, margin):
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _begins(line: Line, above: Line, usual: float, margin: float) -> bool:
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


def _joined(block: list[Line]) -> str:
    """The text of a paragraph; words that end with a hyphen at the end of a line are marked as divided."""
    parts: list[str] = []
    for line, below in itertools.zip_longest(block, block[1:]):
        text = line.text
        if below is None or text.endswith(DIVIDED):
            parts.append(text)
        elif re.search(r"[^\W\d_]-$", text) and below.text[:1].isalpha():
            parts.append(text[:-1] + DIVIDED)
        else:
            parts.append(text if re.search(r"\w-$", text) else text + " ")
    return "".join(parts)
