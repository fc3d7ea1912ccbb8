"""Rows and cells of Word tables, those inside content controls included, and the text of a cell."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.parse.ooxml.package import Node, W, children
from pipeline.parse.ooxml.styles import value
from pipeline.parse.parsed import squeeze
from pipeline.types import Element, ElementKind

#: Elements around other content, at any place.
AROUND = frozenset(
    f"{W}{name}" for name in ("sdt", "sdtContent", "customXml", "smartTag", "ins", "moveTo", "hyperlink", "fldSimple", "dir", "bdo")
)


def flat(node: Node, tag: str) -> Iterator[Node]:
    """The rows of a table or the cells of a row, those inside content controls included."""
    for child in children(node):
        if child.tag == tag:
            yield child
        elif child.tag in AROUND:
            yield from flat(child, tag)


def skipped(row: Node, name: str) -> int:
    """The number of columns that a row leaves free before or after its cells; `name` is that of the property."""
    number = value(row, f"trPr/{name}") or "0"
    return min(int(number), 100) if number.isdigit() else 0


def in_cell(found: list[Element]) -> str:
    """The blocks of a cell as one text; rows of a table inside it are separated by semicolons."""
    told = ""
    for before, element in zip([None, *found], found, strict=False):
        row = element.kind is ElementKind.TABLE_ROW
        text = element.text.replace(" | ", ", ") if row else squeeze(element.text)
        if row and element.header and (before is None or before.header != element.header):
            text = f"{element.header.replace(' | ', ', ')}; {text}"
        told += (("; " if row else " ") if told else "") + text
    return told
