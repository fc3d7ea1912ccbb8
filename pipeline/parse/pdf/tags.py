"""Headings by the tags of a PDF: what its structure tree calls them."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from typing import Any

import pypdfium2.raw as pdfium_c

from pipeline.parse.pdf.glyphs import Piece
from pipeline.parse.pdf.opened import Opened

#: Elements of the structure of a page that are looked at, and how deep they may lie.
MAX_ELEMENTS, MAX_DEPTH = 20_000, 60
#: Maximum share of the text of a page that headings may be; where there is more, the tags only stand for the size of type.
MAX_SHARE = 0.5

_HEADING = re.compile(r"(?:H([1-6])|H|Title)$")


def tagged(page: Opened, found: Sequence[Piece]) -> list[Piece]:
    """The pieces of a page, those of headings with the level that their tags say."""
    levels = _levels(page.page)
    if not levels:
        return list(found)
    marked = [piece._replace(level=levels.get(_content(page.textpage, piece.first), 0)) for piece in found]
    heading = sum(len(piece.text) for piece in marked if piece.level)
    return marked if heading <= MAX_SHARE * sum(len(piece.text) for piece in marked) else list(found)


def _content(textpage: Any, index: int) -> int:
    """The number of the marked content that a character belongs to; -1: none."""
    found = pdfium_c.FPDFText_GetTextObject(textpage, index)
    return int(pdfium_c.FPDFPageObj_GetMarkedContentID(found)) if found else -1


def _levels(page: Any) -> dict[int, int]:
    """The levels of headings by the numbers of their marked contents."""
    tree = pdfium_c.FPDF_StructTree_GetForPage(page)
    if not tree:
        return {}
    levels: dict[int, int] = {}
    try:
        count = pdfium_c.FPDF_StructTree_CountChildren(tree)
        stack = [(pdfium_c.FPDF_StructTree_GetChildAtIndex(tree, at), 0, 0) for at in range(min(count, MAX_ELEMENTS))]
        seen = 0
        while stack and seen < MAX_ELEMENTS:
            element, level, depth = stack.pop()
            seen += 1
            if not element or depth > MAX_DEPTH:
                continue
            level = level or _level(element)
            children = pdfium_c.FPDF_StructElement_CountChildren(element)
            for at in range(min(children, MAX_ELEMENTS)):
                number = pdfium_c.FPDF_StructElement_GetChildMarkedContentID(element, at)
                if number >= 0:
                    if level:
                        levels[number] = level
                else:
                    stack.append((pdfium_c.FPDF_StructElement_GetChildAtIndex(element, at), level, depth + 1))
    finally:
        pdfium_c.FPDF_StructTree_Close(tree)
    return levels


def _level(element: Any) -> int:
    buffer = ctypes.create_string_buffer(64)
    length = pdfium_c.FPDF_StructElement_GetType(element, buffer, 64)
    match = _HEADING.match(buffer.raw[: max(0, min(length, 64) - 2)].decode("utf-16-le", "replace"))
    return int(match.group(1) or 1) if match else 0
