"""What OpenDocument files draw: pictures by their words, charts by their values, equations."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.parse.mathml import linear
from pipeline.parse.opendocument.package import CHART, DRAW, MATH, OFFICE, SVG, TABLE, TEXT, XLINK, Node, Package
from pipeline.parse.parsed import Losses, squeeze
from pipeline.parse.tables import Cell, Row, table_elements
from pipeline.types import Element, LossKind

#: Shapes that may hold text.
SHAPES = frozenset(
    f"{DRAW}{name}"
    for name in (
        "custom-shape", "rect", "ellipse", "circle", "line", "connector", "polygon", "polyline", "path", "regular-polygon",
        "caption", "measure", "g",
    )
)  # fmt: skip
_DECORATIVE = "}decorative"
#: The most rows of a chart's values that are read.
MAX_ROWS = 10_000


def picture(frame: Node, losses: Losses, page: int | None, place: str) -> Iterator[Element]:
    """The words that describe the picture in a frame; a loss where it has none."""
    told = squeeze(frame.findtext(f"{SVG}desc") or frame.findtext(f"{SVG}title") or "")
    if told:
        yield Element(f"Picture: {told}", page=page)
    elif not any(name.endswith(_DECORATIVE) and value == "true" for name, value in frame.attrib.items()):
        losses.add(LossKind.PICTURE, place, "without alternative text")


def equation_in(package: Package, frame: Node) -> str:
    """The equation in a frame as text; empty for any other content."""
    found = frame.find(f"{DRAW}object")
    if found is None:
        return ""
    root = found.find(f"{MATH}math")
    if root is None and (opened := package.object(found.get(f"{XLINK}href"))) is not None:
        root = opened if opened.tag == f"{MATH}math" else None
    return linear(root) if root is not None else ""


def chart(package: Package, node: Node, page: int | None, place: str) -> Iterator[Element]:
    """A chart's titles, and its stored values as a table; an object of another kind is a loss."""
    root = package.object(node.get(f"{XLINK}href"))
    found = root.find(f"{OFFICE}body/{OFFICE}chart/{CHART}chart") if root is not None else None
    if found is None:
        package.losses.add(LossKind.EMBEDDED_OBJECT, place, "an object")
        return
    titles = [_text(title) for name in ("title", "subtitle") for title in found.iter(f"{CHART}{name}")]
    table = found.find(f"{TABLE}table")
    rows = list(_rows(table))[:MAX_ROWS] if table is not None else []
    if not any(titles) and not any(cell.text for row in rows for cell in row.cells):
        package.losses.add(LossKind.CHART, place, "holds no text and no stored values")
        return
    if text := ", ".join(filter(None, titles)):
        kind = (found.get(f"{CHART}class") or "").rpartition(":")[2]
        yield Element(f"{kind.capitalize()} chart: {text}" if kind else f"Chart: {text}", page=page)
    yield from table_elements(rows, page, marked=True)


def _rows(table: Node) -> Iterator[Row]:
    for row in table.iter(f"{TABLE}table-row"):
        heads = row.getparent().tag == f"{TABLE}table-header-rows"
        yield Row([Cell(_text(cell)) for cell in row.iterchildren(f"{TABLE}table-cell")], heads)


def _text(node: Node) -> str:
    return squeeze(" ".join("".join(paragraph.itertext()) for paragraph in node.iter(f"{TEXT}p")))
