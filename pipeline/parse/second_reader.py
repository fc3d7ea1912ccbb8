"""A second reader for Word and PowerPoint files, for those that a defect of the first one keeps from being read: unstructured."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lxml import etree

from pipeline.parse.offline import make_offline
from pipeline.parse.parsed import Losses, Parsed, clean, headed, parts, squeeze
from pipeline.parse.tables import Cell, Row, table_elements
from pipeline.types import Element, ElementKind, LossKind

if TYPE_CHECKING:
    from unstructured.documents.elements import Element as Found

_SILENT = frozenset(("PageBreak", "Header", "Footer", "Image"))
_KINDS = {"ListItem": ElementKind.LIST_ITEM, "CodeSnippet": ElementKind.CODE, "Title": ElementKind.LIST_ITEM}


def second_reading(path: Path, name: str, kind: Literal["docx", "pptx"], error: Exception) -> Parsed:
    """What unstructured reads of a file at which the first reader failed with `error`; that is named as a loss.

    Raises `error` where unstructured is not installed, fails too, or finds no text.
    """
    if importlib.util.find_spec("unstructured") is None:
        raise error
    make_offline()
    try:
        found = _docx(path, name) if kind == "docx" else _pptx(path, name)
    except Exception:  # the first reader's error says more
        raise error from None
    if not found:
        raise error
    losses = Losses()
    losses.add(LossKind.UNREADABLE_PART, detail=f"its structure ({error!r}); notes, comments and charts may be missing")
    title, elements = headed(iter(found))
    return Parsed(title, elements, losses=losses)


def _docx(path: Path, name: str) -> list[Element]:
    from unstructured.partition.docx import partition_docx

    found = partition_docx(filename=str(path), metadata_filename=name, languages=[""], strategy="fast")
    return [e for part in found for e in _element(part, slides=False)]


def _pptx(path: Path, name: str) -> list[Element]:
    from unstructured.partition.pptx import partition_pptx

    found = partition_pptx(filename=str(path), metadata_filename=name, languages=[""], strategy="fast", include_slide_notes=True)
    ordered: list[Element] = []
    # It puts notes before the heading of a slide, and a slide may have no heading.
    for page, group in itertools.groupby((e for part in found for e in _element(part, slides=True)), key=lambda e: e.page):
        slide = list(group)
        heading = next((e for e in slide if e.kind is ElementKind.HEADING), None)
        ordered.append(heading or Element(f"Slide {page}", ElementKind.HEADING, 1, page=page))
        ordered += [e for e in slide if e is not heading]
    return ordered


def _element(found: Found, *, slides: bool) -> Iterator[Element]:
    """`found` as elements; unstructured calls every short line of a slide a title, so only titles at the top level count."""
    page = found.metadata.page_number
    category = found.category
    text = clean(found.text)
    if category in _SILENT or not text:
        return
    if category == "Table":
        yield from _rows(found.metadata.text_as_html or "", page)
        return
    depth = found.metadata.category_depth or 0
    if category == "Title" and not (slides and depth):
        yield Element(squeeze(text), ElementKind.HEADING, depth + 1, page=page)
    else:
        yield from parts(text, _KINDS.get(category, ElementKind.PARAGRAPH), page=page)


def _rows(table: str, page: int | None) -> Iterator[Element]:
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, no_network=True)
    root = etree.fromstring(table.encode("utf-8", "replace"), parser) if table else None
    rows = [
        Row([Cell(squeeze(" ".join(cell.itertext()))) for cell in row if cell.tag in ("td", "th")])
        for row in (root.iter("tr") if root is not None else ())
    ]
    return table_elements(rows, page)
