"""What a PDF holds besides the text of its pages: filled-in forms, comments, and attached files."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from pipeline.parse.parsed import Losses, Member, squeeze
from pipeline.types import Element, LossKind

#: Annotations that repeat others, or only lead elsewhere.
_SILENT = (pdfium_c.FPDF_ANNOT_POPUP, pdfium_c.FPDF_ANNOT_LINK, pdfium_c.FPDF_ANNOT_WIDGET)
_BUTTONS = (pdfium_c.FPDF_FORMFIELD_CHECKBOX, pdfium_c.FPDF_FORMFIELD_RADIOBUTTON)
_UNSET = ("", "Off")


def notes(page: Any, form: Any, number: int, losses: Losses) -> Iterator[Element]:
    """Fields with a value and comments of a page, in their order; `form` is the document's form environment, if it has one."""
    for index in range(pdfium_c.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium_c.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        try:
            kind = pdfium_c.FPDFAnnot_GetSubtype(annotation)
            if kind == pdfium_c.FPDF_ANNOT_WIDGET and form:
                yield from _field(annotation, form, number)
            elif kind in (pdfium_c.FPDF_ANNOT_SOUND, pdfium_c.FPDF_ANNOT_MOVIE, pdfium_c.FPDF_ANNOT_RICHMEDIA):
                losses.add(LossKind.EMBEDDED_OBJECT, f"page {number}", "a video or a sound")
            elif kind not in _SILENT and (text := _string(annotation, b"Contents")):
                if kind == pdfium_c.FPDF_ANNOT_FREETEXT:  # written onto the page
                    yield Element(text, page=number)
                else:
                    author = _string(annotation, b"T")
                    yield Element(f"Comment by {author}: {text}" if author else f"Comment: {text}", page=number)
        finally:
            pdfium_c.FPDFPage_CloseAnnot(annotation)


def attached(document: Any, losses: Losses) -> Iterator[Member]:
    """The files that are attached to a PDF."""
    for index in range(document.count_attachments()):
        try:
            found = document.get_attachment(index)
            name, data = found.get_name(), bytes(found.get_data())
        except pdfium.PdfiumError as error:
            losses.add(LossKind.ATTACHMENT, detail=str(error))
            continue
        yield Member(name or f"attachment-{index + 1}", partial(io.BytesIO, data))


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
