"""A PDF through pdfium, page by page: lines in reading order are joined into paragraphs, and larger type becomes headings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from pipeline.errors import DocumentError
from pipeline.parse.hyphens import Words
from pipeline.parse.ocr.scans import Scans
from pipeline.parse.parsed import Losses, Member, Parsed, Share, squeeze
from pipeline.parse.pdf.body import Body
from pipeline.parse.pdf.headings import bookmarks, headings
from pipeline.parse.pdf.hidden import Layers
from pipeline.parse.pdf.notes import attached
from pipeline.parse.pdf.opened import Opener
from pipeline.parse.pdf.pages import Page
from pipeline.parse.pdf.reading import Reader
from pipeline.parse.pdf.running import Running
from pipeline.parse.pdf.scanned import with_scan
from pipeline.parse.properties import of_pdf
from pipeline.types import ElementKind, LossKind, Reason

#: Number of pages read in advance to determine the sizes of running text and of headings.
SAMPLE_PAGES = 10


def parse_pdf(path: Path, name: str, scans: Scans | None = None) -> Parsed:
    """Paragraphs and headings of the PDF at `path`, with their pages; filled-in fields and comments follow their page's text.

    Pages without text are read by `scans`; those that stay unread, among others with text, are losses. Raises DocumentError:
    ENCRYPTED, CORRUPT (also where its end is cut off, because pdfium would silently return only the remaining pages),
    NEEDS_OCR, EMPTY_TEXT; the last two at the end of the elements.
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
    members = attached(document, losses)
    outline = bookmarks(document)
    words, running = Words(), Running()
    pages = running.without(_learned(_pages(document, share, losses, members, scans or Scans()), words))
    sample = list(islice(pages, SAMPLE_PAGES))
    elements = Body(headings(sample, outline), words, running, losses, scans.hint if scans else "").elements(chain(sample, pages))
    start = list(islice(elements, 30))
    title = next((e.text for e in start if e.kind is ElementKind.HEADING and e.level == 1), "")
    return Parsed(title or declared, chain(start, elements), share, losses, properties, (member for member in members))


def _refuse_cut_off(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - (64 << 10)))
        tail = file.read()
    if b"%%EOF" not in tail and b"startxref" not in tail:
        raise DocumentError(Reason.CORRUPT, "its end is cut off")


def _pages(document: Any, share: Share, losses: Losses, members: list[Member], scans: Scans) -> Iterator[Page]:
    try:
        count = len(document)
        if not count:
            raise DocumentError(Reason.CORRUPT, "no pages")
        if document.get_formtype():
            document.init_forms()
        form = document.formenv.raw if document.formenv else None
        opener = Opener(document)
        reader = Reader(form, Layers(document), document.is_tagged(), losses, members)
        for index in range(count):
            share.count(index, count)
            try:
                with opener.open(index + 1) as page:
                    read = reader.read(page)
            except pdfium.PdfiumError as error:
                losses.add(LossKind.UNREADABLE_PART, f"page {index + 1}", str(error))
                continue
            yield with_scan(read, document, scans, losses)
    finally:
        document.close()


def _learned(pages: Iterator[Page], words: Words) -> Iterator[Page]:
    """The pages; their words are known before the first of them is joined from its lines."""
    for page in pages:
        words.learn(line.text for line in page.lines)
        yield page
