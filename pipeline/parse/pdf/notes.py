"""What a PDF holds besides the text of its pages: filled-in forms, comments, targets of links, and attached files."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from pipeline.parse.parsed import Losses, Member, squeeze
from pipeline.parse.pdf.opened import Opened
from pipeline.parse.pdf.quick import Address, quick
from pipeline.types import Element, LossKind

#: Annotations of a page that are read, quadrilaterals of one of them, and targets of links of a document.
MAX_NOTES, MAX_QUADS, MAX_LINKS = 20_000, 50, 2_000
MAX_MARKED_CHARS, MAX_TARGET_CHARS = 500, 300

#: Targets that people follow; other ones are of programs.
_SCHEMES = ("http://", "https://", "ftp://", "mailto:")
#: Annotations on text.
_MARKING = (
    pdfium_c.FPDF_ANNOT_HIGHLIGHT,
    pdfium_c.FPDF_ANNOT_UNDERLINE,
    pdfium_c.FPDF_ANNOT_SQUIGGLY,
    pdfium_c.FPDF_ANNOT_STRIKEOUT,
)
_BUTTONS = (pdfium_c.FPDF_FORMFIELD_CHECKBOX, pdfium_c.FPDF_FORMFIELD_RADIOBUTTON)
_UNSET = ("", "Off")
#: Bytes of most targets of links.
_URI_BYTES = 256
#: Characters in most boxes.
_BOX_CHARS = 256

_count = quick(pdfium_c.FPDFPage_GetAnnotCount)
_annotation = quick(pdfium_c.FPDFPage_GetAnnot, Address)
_subtype = quick(pdfium_c.FPDFAnnot_GetSubtype)
_next_link = quick(pdfium_c.FPDFLink_Enumerate)
_action = quick(pdfium_c.FPDFLink_GetAction, Address)
_action_type = quick(pdfium_c.FPDFAction_GetType, ctypes.c_ulong)
_close = quick(pdfium_c.FPDFPage_CloseAnnot, None)


@dataclass
class Notes:
    """What is noted on a page."""

    page: Opened
    form: Any  #: the document's form environment; None where it has none
    losses: Losses
    members: list[Member]  #: attached files are added
    told: set[str]  #: targets of links of the document so far

    @cached_property
    def written(self) -> str:
        """The text of the page without white space."""
        return "".join(self.page.text.split())

    def elements(self) -> Iterator[Element]:
        """Fields with a value, comments and marked text of a page in their order, then the targets of its links."""
        page = self.page.at_page
        count = min(_count(page), MAX_NOTES)
        if not count:
            return
        seen, targets = self._links(count)
        for index in range(count if seen < count else 0):
            found = _annotation(page, index)
            if not found:
                continue
            try:
                kind = _subtype(found)
                if kind != pdfium_c.FPDF_ANNOT_LINK:
                    yield from self._noted(ctypes.cast(found, pdfium_c.FPDF_ANNOTATION), kind)
            finally:
                _close(found)
        if targets:
            yield Element(f"Links: {', '.join(targets)}", page=self.page.number)

    def _links(self, most: int) -> tuple[int, list[str]]:
        """The number of links of a page, up to `most`, and the targets to be told."""
        seen, targets = 0, list[str]()
        page, position, link = self.page.at_page, ctypes.c_int(0), Address()
        at_position, at_link = ctypes.byref(position), ctypes.byref(link)
        while seen < most and _next_link(page, at_position, at_link):
            seen += 1
            if (action := _action(link)) and _action_type(action) == pdfium_c.PDFACTION_URI:
                targets += self._target(ctypes.cast(link, pdfium_c.FPDF_LINK), ctypes.cast(action, pdfium_c.FPDF_ACTION))
        return seen, targets

    def _noted(self, annotation: Any, kind: int) -> Iterator[Element]:
        if kind == pdfium_c.FPDF_ANNOT_WIDGET:
            if self.form:
                yield from _field(annotation, self.form, self.page.number)
        elif kind in (pdfium_c.FPDF_ANNOT_SOUND, pdfium_c.FPDF_ANNOT_MOVIE, pdfium_c.FPDF_ANNOT_RICHMEDIA):
            self.losses.add(LossKind.EMBEDDED_OBJECT, f"page {self.page.number}", "a video or a sound")
        elif kind != pdfium_c.FPDF_ANNOT_POPUP:
            if kind == pdfium_c.FPDF_ANNOT_FILEATTACHMENT:
                self._attached(annotation)
            text = _string(annotation, b"Contents")
            marked = self._marked(annotation) if kind in _MARKING else ""
            if text and kind == pdfium_c.FPDF_ANNOT_FREETEXT:  # written onto the page
                yield Element(text, page=self.page.number)
            elif text and text != marked:
                author = _string(annotation, b"T")
                about = f" on “{marked}”" if marked else ""
                yield Element(f"Comment{f' by {author}' if author else ''}{about}: {text}", page=self.page.number)
            elif marked and kind == pdfium_c.FPDF_ANNOT_HIGHLIGHT:
                yield Element(f"Highlighted: {marked}", page=self.page.number)

    def _marked(self, annotation: Any) -> str:
        """The text that an annotation marks, from its quadrilaterals."""
        texts = []
        points = pdfium_c.FS_QUADPOINTSF()
        for index in range(min(pdfium_c.FPDFAnnot_CountAttachmentPoints(annotation), MAX_QUADS)):
            if pdfium_c.FPDFAnnot_GetAttachmentPoints(annotation, index, points):
                xs, ys = (points.x1, points.x2, points.x3, points.x4), (points.y1, points.y2, points.y3, points.y4)
                texts.append(self._text_in(min(xs), min(ys), max(xs), max(ys)))
        return squeeze(" ".join(texts))[:MAX_MARKED_CHARS]

    def _target(self, link: Any, action: Any) -> Iterator[str]:
        """The text of a link with its target, if that leads out of the document, was not told before and is not on the page."""
        if len(self.told) >= MAX_LINKS:
            return
        document, buffer = self.page.document, (ctypes.c_char * _URI_BYTES)()
        length = pdfium_c.FPDFAction_GetURIPath(document, action, buffer, _URI_BYTES)
        if length > _URI_BYTES:
            buffer = (ctypes.c_char * length)()
            pdfium_c.FPDFAction_GetURIPath(document, action, buffer, length)
        target = squeeze(buffer.value.decode("utf-8", "replace"))[:MAX_TARGET_CHARS]
        if not target.startswith(_SCHEMES) or target in self.told:
            return
        self.told.add(target)
        if target.removeprefix("mailto:").split("://")[-1].rstrip("/") in self.written:
            return
        rectangle = pdfium_c.FS_RECTF()
        text = ""
        if pdfium_c.FPDFLink_GetAnnotRect(link, rectangle):
            text = self._text_in(rectangle.left, rectangle.bottom, rectangle.right, rectangle.top)
        yield f"{text} ({target})" if text else target

    def _text_in(self, left: float, bottom: float, right: float, top: float) -> str:
        """The text in a box; pdfium looks at all characters of the page whenever it is asked, so it is asked once for most."""
        box, buffer = (self.page.textpage, left, top, right, bottom), (ctypes.c_ushort * _BOX_CHARS)()
        count = pdfium_c.FPDFText_GetBoundedText(*box, buffer, _BOX_CHARS)
        if count >= _BOX_CHARS:
            count = max(0, pdfium_c.FPDFText_GetBoundedText(*box, None, 0))
            buffer = (ctypes.c_ushort * count)()
            pdfium_c.FPDFText_GetBoundedText(*box, buffer, count)
        found = bytes(buffer)[: 2 * count].decode("utf-16-le", "ignore")
        return squeeze(found.replace("\x02", "").replace("\ufffe", ""))[:MAX_MARKED_CHARS]

    def _attached(self, annotation: Any) -> None:
        found = pdfium_c.FPDFAnnot_GetFileAttachment(annotation)
        if found:
            _add(pdfium.PdfAttachment(found, self.page.document), self.members, self.losses)


def _add(found: Any, members: list[Member], losses: Losses) -> None:
    try:
        name, data = found.get_name(), bytes(found.get_data())
    except pdfium.PdfiumError as error:
        losses.add(LossKind.ATTACHMENT, detail=str(error))
        return
    members.append(Member(name or f"attachment-{len(members) + 1}", partial(io.BytesIO, data)))


def attached(document: Any, losses: Losses) -> list[Member]:
    """The files that are attached to a PDF as a whole."""
    members: list[Member] = []
    for index in range(document.count_attachments()):
        try:
            found = document.get_attachment(index)
        except pdfium.PdfiumError as error:
            losses.add(LossKind.ATTACHMENT, detail=str(error))
        else:
            _add(found, members, losses)
    return members


def _field(annotation: Any, form: Any, number: int) -> Iterator[Element]:
    kind = pdfium_c.FPDFAnnot_GetFormFieldType(form, annotation)
    label = _told(partial(pdfium_c.FPDFAnnot_GetFormFieldAlternateName, form, annotation)) or _told(
        partial(pdfium_c.FPDFAnnot_GetFormFieldName, form, annotation)
    )
    value = _told(partial(pdfium_c.FPDFAnnot_GetFormFieldValue, form, annotation))
    if kind in _BUTTONS:
        if not pdfium_c.FPDFAnnot_IsChecked(form, annotation):
            return
        value = _told(partial(pdfium_c.FPDFAnnot_GetFormFieldExportValue, form, annotation)) or "yes"
    if value not in _UNSET and kind not in (pdfium_c.FPDF_FORMFIELD_PUSHBUTTON, pdfium_c.FPDF_FORMFIELD_SIGNATURE):
        yield Element(f"{label}: {value}" if label else value, page=number)


def _string(annotation: Any, key: bytes) -> str:
    return _told(partial(pdfium_c.FPDFAnnot_GetStringValue, annotation, key))


def _told(call: Callable[[Any, int], int]) -> str:
    """The text that a function of pdfium writes: UTF-16, with a zero at its end."""
    length = call(None, 0)
    if length <= 2:
        return ""
    buffer = ctypes.create_string_buffer(length)
    call(ctypes.cast(buffer, ctypes.POINTER(pdfium_c.FPDF_WCHAR)), length)
    return squeeze(buffer.raw[: length - 2].decode("utf-16-le", "replace"))
