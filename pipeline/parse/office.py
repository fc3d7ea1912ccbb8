"""Word and PowerPoint files through unstructured, checked against the text in the file."""

from __future__ import annotations

import itertools
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxml import etree

from pipeline.parse.offline import make_offline
from pipeline.parse.parsed import Parsed, clean, pieces, squeeze
from pipeline.types import Element, ElementKind

if TYPE_CHECKING:
    from unstructured.documents.elements import Element as Found

#: Minimum share of the file's characters that the elements must contain.
MIN_SHARE = 0.95

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_HEADING_STYLE = re.compile(r"heading\s*(\d)", re.I)
_SILENT = frozenset(("PageBreak", "Header", "Footer", "Image"))


def parse_docx(path: Path, name: str) -> Parsed:
    """Elements of the Word file at `path`; pages only where the file records its page breaks."""
    make_offline()
    from unstructured.partition.docx import partition_docx

    found = partition_docx(filename=str(path), metadata_filename=name, languages=[""], strategy="fast")
    elements = [e for part in found for e in _element(part, slides=False)]
    with zipfile.ZipFile(path) as archive:
        body = _paragraphs(archive, "word/document.xml")
        if _weight(elements) < MIN_SHARE * _weight(body):
            elements = body
        notes = [e for part in ("word/footnotes.xml", "word/endnotes.xml") for e in _paragraphs(archive, part)]
        title = next((e.text for e in elements if e.kind is ElementKind.HEADING), "") or _core_title(archive)
    return Parsed(title, iter([*elements, *notes]))


def parse_pptx(path: Path, name: str) -> Parsed:
    """Elements of the PowerPoint file at `path`: a slide's title is its heading, its number is the page; notes are included."""
    make_offline()
    from pptx import Presentation
    from unstructured.partition.pptx import partition_pptx

    found = partition_pptx(filename=str(path), metadata_filename=name, languages=[""], strategy="fast", include_slide_notes=True)
    elements = _by_slide([e for part in found for e in _element(part, slides=True)])
    slides = [
        Element(text, page=number)
        for number, slide in enumerate(Presentation(str(path)).slides, 1)
        for paragraph in slide.element.iter(f"{_A}p")
        if (text := squeeze("".join(t.text or "" for t in paragraph.iter(f"{_A}t"))))
    ]
    if _weight(elements) < MIN_SHARE * _weight(slides):
        elements = slides
    with zipfile.ZipFile(path) as archive:
        title = next((e.text for e in elements if e.kind is ElementKind.HEADING), "") or _core_title(archive)
    return Parsed(title, iter(elements))


def _by_slide(elements: list[Element]) -> list[Element]:
    """`elements` with the heading of every slide first: unstructured puts notes before it, and a slide may have no heading."""
    ordered: list[Element] = []
    for page, group in itertools.groupby(elements, key=lambda e: e.page):
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
        yield from _rows(found.metadata.text_as_html or "", text, page)
        return
    depth = found.metadata.category_depth or 0
    if category == "Title" and not (slides and depth):
        yield Element(squeeze(text), ElementKind.HEADING, depth + 1, page=page)
        return
    kind = {"ListItem": ElementKind.LIST_ITEM, "CodeSnippet": ElementKind.CODE, "Title": ElementKind.LIST_ITEM}.get(
        category, ElementKind.PARAGRAPH
    )
    for first, last in pieces(text):
        if part := text[first:last].strip():
            yield Element(part, kind, page=page)


def _rows(table: str, text: str, page: int | None) -> Iterator[Element]:
    """Rows of a table; the first of several rows is the header, because office tables do not mark it."""
    lines: list[str] = []
    if table:
        parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, no_network=True)
        for row in etree.fromstring(table.encode("utf-8", "replace"), parser).iter("tr"):
            cells = [squeeze(" ".join(cell.itertext())) for cell in row if cell.tag in ("td", "th")]
            if any(cells):
                lines.append(" | ".join(cells))
    lines = lines or [line for line in text.split("\n") if line.strip()]
    header = lines[0] if len(lines) > 1 and len(lines[0]) <= 400 else ""
    for line in lines[1:] if header else lines:
        yield Element(line, ElementKind.TABLE_ROW, page=page, header=header)


def _paragraphs(archive: zipfile.ZipFile, part: str) -> list[Element]:
    """Every paragraph of an XML part, including text boxes and tables, but not alternatives for old programs."""
    if part not in archive.namelist():
        return []
    elements: list[Element] = []
    texts: list[str] = []
    style = ""
    skipping = 0
    with archive.open(part) as file:
        for event, node in etree.iterparse(file, events=("start", "end"), resolve_entities=False, no_network=True, huge_tree=True):
            if node.tag == _FALLBACK:
                skipping += 1 if event == "start" else -1
            elif skipping:
                continue
            elif event == "start":
                if node.tag == f"{_W}p" and texts:  # a text box inside a paragraph
                    elements += _paragraph(texts, style)
                    texts, style = [], ""
            elif node.tag == f"{_W}t":
                texts.append(node.text or "")
            elif node.tag in (f"{_W}tab", f"{_W}br", f"{_W}cr"):
                texts.append(" ")
            elif node.tag == f"{_W}pStyle":
                style = node.get(f"{_W}val") or ""
            elif node.tag == f"{_W}p":
                elements += _paragraph(texts, style)
                texts, style = [], ""
                node.clear()
    return elements


def _paragraph(texts: Sequence[str], style: str) -> list[Element]:
    text = squeeze("".join(texts))
    heading = _HEADING_STYLE.match(style)
    if heading and text:
        return [Element(text, ElementKind.HEADING, int(heading.group(1)) or 1)]
    return [Element(part) for first, last in pieces(text) if (part := text[first:last].strip())]


def _core_title(archive: zipfile.ZipFile) -> str:
    if "docProps/core.xml" not in archive.namelist():
        return ""
    with archive.open("docProps/core.xml") as file:
        tree: Any = etree.parse(file, etree.XMLParser(resolve_entities=False, no_network=True))
    return squeeze(tree.findtext(".//{http://purl.org/dc/elements/1.1/}title") or "")


def _weight(elements: Sequence[Element]) -> int:
    """Characters without white space; a table's header counts once for each table."""
    headers = {e.header for e in elements if e.header}
    texts = [*(e.text for e in elements), *headers]
    return sum(sum(map(len, text.split())) - text.count("|") for text in texts)
