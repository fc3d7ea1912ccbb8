"""A page that is open in pdfium, with its text; without the finalizers of pypdfium2, which cost more than the calls."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from pipeline.parse.pdf.quick import Memory, argument

#: Characters of a page that there is room for at first.
FIRST_CHARS = 20_000


@dataclass(slots=True)
class Opened:
    """A page of a document in pdfium."""

    document: Any  #: of pypdfium2
    number: int  #: 1-based
    page: Any  #: as pdfium's declared functions take it
    textpage: Any
    at_page: Any  #: as functions take it that are called by `quick`
    at_textpage: Any
    text: str
    count: int  #: of the characters that pdfium knows on it


class Opener:
    """Opens the pages of a document, one after the other."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._form = document.formenv.raw if document.formenv else None
        self._memory = Memory("H", FIRST_CHARS, 1)
        self._room = FIRST_CHARS

    @contextmanager
    def open(self, number: int) -> Iterator[Opened]:
        """A page, from 1; closed at the end. Raises PdfiumError where it cannot be read."""
        page = pdfium_c.FPDF_LoadPage(self._document, number - 1)
        if not page:
            raise pdfium.PdfiumError("Failed to load page.")
        textpage = None
        try:
            if self._form:
                pdfium_c.FORM_OnAfterLoadPage(page, self._form)
            textpage = pdfium_c.FPDFText_LoadPage(page)
            if not textpage:
                raise pdfium.PdfiumError("Failed to load text page.")
            count = max(0, pdfium_c.FPDFText_CountChars(textpage))
            text = self._text(textpage, count)
            yield Opened(self._document, number, page, textpage, argument(page), argument(textpage), text, count)
        finally:
            if textpage:
                pdfium_c.FPDFText_ClosePage(textpage)
            if self._form:
                pdfium_c.FORM_OnBeforeClosePage(page, self._form)
            pdfium_c.FPDF_ClosePage(page)

    def _text(self, textpage: Any, count: int) -> str:
        """The text of a page with this number of characters, some of which may not be in it."""
        place = pdfium_c.FPDFText_GetTextIndexFromCharIndex
        first, end = 0, count
        while first < end and (begin := place(textpage, first)) < 0:
            first += 1
        while first < end and (last := place(textpage, end - 1)) < 0:
            end -= 1
        if first >= end:
            return ""
        room = last + 2 - begin  # with the zero at its end
        if room > self._room:
            self._memory, self._room = Memory("H", room, 1), room
        written = pdfium_c.FPDFText_GetText(textpage, first, end - first, self._memory.pointer(ctypes.c_ushort))
        return str(memoryview(self._memory.items)[: written - 1], "utf-16-le", "ignore")
