"""What Office files draw: text bodies, charts, diagrams, and the words that describe a picture."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from pipeline.parse.ooxml.equations import linear
from pipeline.parse.ooxml.number_format import plain
from pipeline.parse.ooxml.package import A, M, Node, Package, R, children, local, unescaped
from pipeline.parse.ooxml.styles import numeral
from pipeline.parse.parsed import Losses, squeeze
from pipeline.parse.tables import Cell, Row, table_elements
from pipeline.types import Element, ElementKind, LossKind

_C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_DGM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_DECORATIVE = "{http://schemas.microsoft.com/office/drawing/2017/decorative}decorative"
#: Fields that differ from one printing to the next.
_SILENT_FIELDS = ("slidenum", "datetime")
#: Formats of numbered lists, by the beginning of their names.
_NUMERALS = {"alphaLc": "lowerLetter", "alphaUc": "upperLetter", "romanLc": "lowerRoman", "romanUc": "upperRoman"}
#: The most points of a chart's series that are read.
MAX_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class Line:
    """A paragraph of a text body."""

    text: str
    level: int  #: depth of indentation, 0 the outermost
    is_item: bool  #: whether it has a bullet or a number


def lines(body: Node) -> Iterator[Line]:
    """The paragraphs of a DrawingML text body that have text."""
    counts: dict[int, int] = {}
    for paragraph in body.iter(f"{A}p"):
        text = squeeze("".join(_inline(paragraph)))
        if not text:
            continue
        properties = paragraph.find(f"{A}pPr")
        level, bullets, numbered = 0, False, None
        if properties is not None:
            level = int(properties.get("lvl") or 0) if (properties.get("lvl") or "0").isdigit() else 0
            numbered = properties.find(f"{A}buAutoNum")
            bullets = numbered is not None or any(properties.find(f"{A}{name}") is not None for name in ("buChar", "buBlip"))
        counts = {at: count for at, count in counts.items() if at < level or (at == level and numbered is not None)}
        if numbered is not None:
            start = numbered.get("startAt") or "1"
            counts[level] = counts.get(level, (int(start) if start.isdigit() else 1) - 1) + 1
            text = f"{_numeral(numbered.get('type') or '', counts[level])}. {text}"
        yield Line(text, level, bullets or level > 0)


def _numeral(kind: str, number: int) -> str:
    shape = next((shape for name, shape in _NUMERALS.items() if kind.startswith(name)), "decimal")
    return numeral(shape, number)


def _inline(node: Node) -> Iterator[str]:
    for child in children(node):
        if child.tag == f"{A}t":
            yield unescaped(child.text or "")
        elif child.tag == f"{A}br":
            yield "\n"
        elif child.tag == f"{M}oMath":
            yield linear(child)
        elif child.tag == f"{A}fld" and (child.get("type") or "").startswith(_SILENT_FIELDS):
            continue
        elif child.tag != f"{A}pPr":
            yield from _inline(child)


def table(node: Node, page: int | None) -> Iterator[Element]:
    """The rows of a DrawingML table."""
    properties = node.find(f"{A}tblPr")
    first = properties is not None and properties.get("firstRow") in ("1", "true")
    rows = []
    for number, row in enumerate(node.iterchildren(f"{A}tr")):
        cells = [_cell(cell) for cell in row.iterchildren(f"{A}tc") if not _continues(cell)]
        rows.append(Row(cells, heads=first and number == 0))
    return table_elements(rows, page)


def _continues(cell: Node) -> bool:
    """Whether a cell is covered by the one to its left or above."""
    return cell.get("hMerge") in ("1", "true") or cell.get("vMerge") in ("1", "true")


def _cell(cell: Node) -> Cell:
    spans = [int(value) if (value := cell.get(name) or "1").isdigit() else 1 for name in ("gridSpan", "rowSpan")]
    return Cell(" ".join(line.text for line in lines(cell)), *spans)


def said(what: str, author: str, when: str | None) -> str:
    """`Comment by Jane Smith, 2026-06-18T17:35:37`: in front of what somebody has written."""
    return f"{what}{f' by {author}' if author else ''}{f', {when[:19]}' if when else ''}"


def chart(package: Package, part: str | None, page: int | None = None) -> Iterator[Element]:
    """A chart's titles, and its stored values as a table: one row for each category."""
    found = package.tree(part) if part else None
    root = etree.Element("none") if found is None else found
    titles = [_title(title) for title in root.iter(f"{_C}title")]
    series = [_Series.of(node) for node in root.iter(f"{_C}ser")]
    rows = list(_chart_rows(series))
    if not any(titles) and not rows:
        package.losses.add(LossKind.CHART, _place(page, part or "a chart"), "holds no text and no stored values")
        return
    if text := ", ".join(filter(None, titles)):
        kinds = [local(node) for node in root.iter() if isinstance(node.tag, str) and node.tag.endswith("Chart")]
        kind = kinds[0].removesuffix("Chart").removesuffix("3D") if kinds else ""
        yield Element(f"{kind.capitalize()} chart: {text}" if kind else f"Chart: {text}", page=page)
    yield from table_elements(rows, page, marked=True)


def _title(node: Node) -> str:
    written = " ".join(line.text for line in lines(node))
    return written or squeeze(" ".join(v.text or "" for v in node.iter(f"{_C}v")))


@dataclass(frozen=True, slots=True)
class _Series:
    name: str
    categories: dict[int, str]
    values: dict[int, str]

    @classmethod
    def of(cls, node: Node) -> _Series:
        names = _cached(node, "tx")
        name = " ".join(names.values()) or squeeze(node.findtext(f"{_C}tx/{_C}v") or "")
        return cls(name, _cached(node, "cat") or _cached(node, "xVal"), _cached(node, "val") or _cached(node, "yVal"))


def _cached(node: Node, name: str) -> dict[int, str]:
    """The values that the file keeps of cells in a workbook, by their index."""
    found = node.find(f"{_C}{name}")
    points = itertools.islice(found.iter(f"{_C}pt"), MAX_POINTS) if found is not None else ()
    told = ((point.get("idx") or "", _value(point.findtext(f"{_C}v") or "")) for point in points)
    return {int(index): text for index, text in told if index.isdigit()}


def _value(text: str) -> str:
    """A stored value: numbers without the digits that binary fractions add."""
    try:
        return plain(float(text))
    except ValueError:
        return squeeze(text)


def _chart_rows(series: list[_Series]) -> Iterator[Row]:
    if not any(one.values for one in series):
        return
    yield Row([Cell(""), *(Cell(one.name) for one in series)], heads=True)
    categories: dict[int, str] = {}
    for one in series:
        categories = one.categories | categories
    for index in sorted({index for one in series for index in one.values}):
        yield Row([Cell(categories.get(index, "")), *(Cell(one.values.get(index, "")) for one in series)])


def diagram(package: Package, part: str | None, page: int | None = None) -> Iterator[Element]:
    """The texts of a SmartArt diagram, in their order."""
    root = package.tree(part) if part else None
    found = [] if root is None else [line.text for point in root.iter(f"{_DGM}pt") for line in lines(point)]
    if not found:
        package.losses.add(LossKind.EMBEDDED_OBJECT, _place(page, part or "a diagram"), "a diagram without text")
    for text in found:
        yield Element(text, ElementKind.LIST_ITEM, page=page)


def graphic(package: Package, part: str, node: Node, page: int | None = None) -> Iterator[Element]:
    """A chart, diagram, table or embedded object that is referred to by an element of `part`."""
    for data in node.iter(f"{A}graphicData"):
        uri = data.get("uri") or ""
        if uri.endswith("/table"):
            for found in data.iterchildren(f"{A}tbl"):
                yield from table(found, page)
        elif uri.endswith(("/chart", "/chartex")):
            found = next((child for child in data if child.get(f"{R}id")), None)
            yield from chart(package, package.target(part, found.get(f"{R}id")) if found is not None else None, page)
        elif uri.endswith("/diagram"):
            found = next((child for child in data if child.get(f"{R}dm")), None)
            yield from diagram(package, package.target(part, found.get(f"{R}dm")) if found is not None else None, page)


def picture(description: Node | None, losses: Losses, page: int | None, place: str, count: int = 1) -> Iterator[Element]:
    """The words that describe `count` pictures; `description` holds their name, title and description. A loss where it has none."""
    told = "" if description is None else squeeze(description.get("descr") or description.get("title") or "")
    if told:
        yield Element(f"Picture: {told}", page=page)
    elif description is None or next(description.iter(_DECORATIVE), None) is None:
        losses.add(LossKind.PICTURE, place, "without alternative text", count)


def _place(page: int | None, part: str) -> str:
    return f"page {page}, {part}" if page is not None else part
