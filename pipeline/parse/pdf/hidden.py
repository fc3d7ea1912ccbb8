"""Text of a page that nobody sees: on layers that are switched off, and invisible text that is no layer of text recognition."""

from __future__ import annotations

import ctypes
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pypdfium2.raw as pdfium_c

from pipeline.parse.hyphens import DIVIDED
from pipeline.parse.pdf.glyphs import WORD, Piece
from pipeline.parse.pdf.opened import Opened
from pipeline.parse.pdf.quick import Address, quick

#: A larger file is not searched for its layers, which are then all shown.
MAX_LAYERED_BYTES = 64 << 20

_mark = quick(pdfium_c.FPDFPageObj_GetMark, Address)
_mark_name = quick(pdfium_c.FPDFPageObjMark_GetName)
_HANDLE = pdfium_c.FPDF_PAGEOBJECTMARK
#: The name of the mark of what is on a layer, as pdfium writes it.
_LAYER = "OC\0".encode("utf-16-le")
_NO_TEXT, _INVISIBLE = pdfium_c.FPDF_TEXTRENDERMODE_UNKNOWN, pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE
_render_mode = quick(pdfium_c.FPDFTextObj_GetTextRenderMode)
_marks = quick(pdfium_c.FPDFPageObj_CountMarks)
_text_object = quick(pdfium_c.FPDFText_GetTextObject, Address)

_OFF = re.compile(rb"/(ON|OFF)\s?\[([\dR\s]*)\]")
_GROUP = re.compile(rb"(?:^|[\r\n])(\d{1,9}) 0 obj\s{0,9}<<")
_NAME = re.compile(rb"/Name\s?(?:\(((?:[^()\\]|\\.){0,500})\)|<([0-9A-Fa-f\s]{0,1000})>)", re.S)
_REFERENCE = re.compile(rb"(\d{1,9}) \d{1,5} R")
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.S)
_CONTROLS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


class Layers:
    """The names of a document's layers that are switched off; looked for when a page has any layer."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._off: frozenset[str] | None = None
        self._name, self._name_bytes, self._length = ctypes.create_string_buffer(16), ctypes.c_ulong(16), ctypes.c_ulong()
        self._at_name, self._at_length = ctypes.byref(self._name), ctypes.byref(self._length)

    def hides(self, found: Address) -> bool:
        """Whether an object of a page is on a layer that is off."""
        for index in range(_marks(found)):
            mark = _mark(found, index)
            _mark_name(mark, self._at_name, self._name_bytes, self._at_length)
            # Most marks are those of tags.
            if self._name.raw[: self._length.value] == _LAYER and _parameter(ctypes.cast(mark, _HANDLE)) in self.off:
                return True
        return False

    @property
    def off(self) -> frozenset[str]:
        """The names; a name that another layer has, which is on, is not among them."""
        if self._off is None:
            written = io.BytesIO()
            # pdfium does not tell what is off. It writes its dictionaries plainly.
            self._document.save(written)
            data = written.getvalue()
            self._off = _off(data) if len(data) <= MAX_LAYERED_BYTES else frozenset()
        return self._off


def texts_among(found: Sequence[Address]) -> tuple[list[Address], list[Address], bool]:
    """The objects of a page that are text, the others, and whether any text is invisible."""
    modes = list(map(_render_mode, found))
    texts = [one for one, mode in zip(found, modes, strict=True) if mode != _NO_TEXT]
    others = [one for one, mode in zip(found, modes, strict=True) if mode == _NO_TEXT] if _NO_TEXT in modes else []
    return texts, others, _INVISIBLE in modes


def visible(found: Sequence[Piece], page: Opened, texts: Sequence[Address], layers: Layers, hide_invisible: bool) -> list[Piece]:
    """The pieces without hidden words. `texts`: objects of the page; `hide_invisible`: whether invisible ones are hidden ones."""
    hidden = list(filter(layers.hides, texts)) if any(map(_marks, texts)) else []
    if hide_invisible:
        hidden += [text for text in texts if _render_mode(text) == _INVISIBLE]
    if not hidden:
        return list(found)
    addresses = {text.value for text in hidden}
    return [part for piece in found for part in _visible(piece, page.at_textpage, addresses)]


def _visible(piece: Piece, page: Any, hidden: set[int | None]) -> Iterator[Piece]:
    words = [word.span() for word in WORD.finditer(piece.text)]
    shown = [_text_object(page, piece.first + start).value not in hidden for start, _ in words]
    if all(shown) or len(words) != len(piece.lefts):
        if all(shown):
            yield piece
        return
    kept = [at for at, is_shown in enumerate(shown) if is_shown]
    if kept:
        text = " ".join(piece.text[slice(*words[at])] for at in kept).replace(f"{DIVIDED} ", DIVIDED)
        lefts, rights = [piece.lefts[at] for at in kept], [piece.rights[at] for at in kept]
        first = piece.first + words[kept[0]][0]
        yield piece._replace(text=text, left=min(lefts), right=max(rights), lefts=lefts, rights=rights, first=first)


def _parameter(mark: Any) -> str:
    buffer, length = ctypes.create_string_buffer(1024), ctypes.c_ulong()
    place = ctypes.cast(buffer, ctypes.POINTER(pdfium_c.FPDF_WCHAR))
    if not pdfium_c.FPDFPageObjMark_GetParamStringValue(mark, b"Name", place, 1024, length):
        return ""
    return buffer.raw[: max(0, min(length.value, 1024) - 2)].decode("utf-16-le", "replace")


def _off(data: bytes) -> frozenset[str]:
    """The names of the layers that are off in a file that pdfium wrote."""
    start = data.find(b"/OCProperties")
    if start < 0:
        return frozenset()
    part = data[start : start + 200_000]
    lists = {kind: set(_REFERENCE.findall(found)) for kind, found in reversed(_OFF.findall(part))}
    groups: dict[bytes, str] = {}
    for found in _GROUP.finditer(data):
        content = data[found.end() : found.end() + 2_000].split(b"endobj", 1)[0]
        if b"/OCG" in content and (name := _NAME.search(content)):
            groups[found.group(1)] = _string(name)
    off = lists.get(b"OFF", set())
    if re.search(rb"/BaseState\s?/OFF", part):
        off = groups.keys() - lists.get(b"ON", set())
    return frozenset(groups[key] for key in off if key in groups) - {name for key, name in groups.items() if key not in off}


def _string(found: re.Match[bytes]) -> str:
    if found.group(2) is not None:
        data = bytes.fromhex(re.sub(rb"\s", b"", found.group(2)).decode("ascii").ljust(2, "0")[: len(found.group(2)) // 2 * 2])
    else:
        data = _ESCAPE.sub(lambda escape: _unescaped(escape.group(1)), found.group(1))
    return data[2:].decode("utf-16-be", "replace") if data.startswith(b"\xfe\xff") else data.decode("latin-1")


def _unescaped(mark: bytes) -> bytes:
    return bytes([int(mark, 8) & 255]) if mark.isdigit() else _CONTROLS.get(mark, mark)
