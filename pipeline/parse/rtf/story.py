"""A story of an RTF file: its body, a note, a header or a text box, as paragraphs and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pipeline.parse.ooxml.styles import MAX_OUTLINE, Style, named_style
from pipeline.parse.parsed import clean, parts, squeeze
from pipeline.parse.rtf.tables import OpenTable, RowShape
from pipeline.types import Element, ElementKind

#: Maximum depth of tables in tables; deeper ones are read as part of the one around them.
MAX_TABLE_DEPTH = 6
#: Maximum number of styles from which one inherits.
MAX_ANCESTORS = 20
#: A longer paragraph is cut, which bounds memory.
MAX_PARAGRAPH_CHARS = 200_000
#: A paragraph that begins with a sign or a number and a tab, and hangs, is an item.
_ITEM = re.compile(r"\s{0,9}(?:([•◦▪‣●○■□–*-])|(\(?[0-9A-Za-z]{1,5}[.)]))\s{0,3}\t")
#: A number of a list; Word's second sign of a list is the letter o.
_NUMBER = re.compile(r"(?!o$).*\w")


@dataclass(frozen=True, slots=True)
class Properties:
    """What holds for paragraphs until it is changed."""

    style: int = 0
    outline: int | None = None  #: outline level, 0 the highest; None where the style decides
    in_table: bool = False
    depth: int = 1  #: of the table, where the paragraph is in one
    hangs: bool = False  #: whether its first line starts left of the other ones


@dataclass(slots=True)
class Sheet:
    """The style sheet, by the styles' numbers."""

    names: dict[int, str] = field(default_factory=dict)
    outlines: dict[int, int] = field(default_factory=dict)
    based_on: dict[int, int] = field(default_factory=dict)
    marks_code: bool = True  #: whether paragraphs in a font of fixed width are code
    _made: dict[int, Style] = field(default_factory=dict)

    def style(self, number: int) -> Style:
        """A style with what it inherits."""
        if number not in self._made:
            named, outline = Style(), None
            at: int | None = number
            for _ in range(MAX_ANCESTORS):  # styles may be based on each other in a circle
                if at not in self.names:
                    break
                outline = self.outlines.get(at) if outline is None else outline
                found = named_style(self.names[at])
                named = Style(
                    named.level or found.level, is_item=named.is_item or found.is_item, is_code=named.is_code or found.is_code
                )
                at = self.based_on.get(at)
            if outline is not None:
                named = Style(level_of(outline), True, None, named.is_item, named.is_code)
            self._made[number] = named
        return self._made[number]


def level_of(outline: int) -> int:
    """The level of a heading, 1 the highest; 0 for running text."""
    return outline + 1 if 0 <= outline <= MAX_OUTLINE else 0


class Story:
    """Collects the text of a story; finished elements are in `out`."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self.out: list[Element] = []
        self.pieces: list[str] = []  #: text of the current paragraph
        self.size = 0  #: its number of characters
        self.label: str | None = None  #: its number or sign in a list
        self.after: list[Element] = []  #: notes, boxes and pictures that are anchored in it
        self.proportional = False  #: whether some of its text is in a font without fixed width
        self.in_row = False  #: between the definition of a row and its end
        self._tables: list[OpenTable] = []

    def end_paragraph(self, properties: Properties) -> None:
        """The current paragraph is complete and has these properties."""
        self._reach(min(max(1, properties.depth), MAX_TABLE_DEPTH) if properties.in_table or self.in_row else 0)
        if self.pieces or self.after:
            self._put(self._told("".join(self.pieces), properties))
            self._put(self.after)
            self.pieces.clear()
            self.after.clear()
        self.size = 0
        self.label, self.proportional = None, False

    def cut(self, properties: Properties) -> None:
        """Turn the text of a huge paragraph into elements before it ends."""
        self._put(self._told("".join(self.pieces), properties))
        self.pieces.clear()
        self.size = 0

    def end_cell(self, properties: Properties, depth: int) -> None:
        """The current cell of a table at `depth` is complete."""
        self.end_paragraph(replace(properties, in_table=True, depth=depth))
        self._tables[-1].end_cell()

    def end_row(self, properties: Properties, depth: int, shape: RowShape) -> None:
        """The current row of a table at `depth` is complete."""
        depth = min(max(1, depth), MAX_TABLE_DEPTH)
        if self.pieces:
            self.end_cell(properties, depth)
        self._reach(depth)
        self._tables[-1].end_row(shape)
        self.in_row = self.in_row and depth > 1

    def end(self, properties: Properties) -> list[Element]:
        """All that is left, tables included."""
        self.end_paragraph(properties)
        self._reach(0)
        out, self.out = self.out, []
        return out

    def _reach(self, depth: int) -> None:
        while len(self._tables) > depth:
            ended = self._tables.pop()
            self._put(ended.elements())
        while len(self._tables) < depth:
            self._tables.append(OpenTable())

    def _put(self, found: Iterable[Element]) -> None:
        (self._tables[-1].cell if self._tables else self.out).extend(found)

    def _told(self, raw: str, properties: Properties) -> list[Element]:
        """A paragraph as a heading, an item, code or text."""
        style = self._sheet.style(properties.style)
        level = style.level if properties.outline is None else level_of(properties.outline)
        if not level and (style.is_code or (self._sheet.marks_code and not self.proportional)):
            text = clean(raw, strip=False).strip("\n")
            return [Element(text, ElementKind.CODE)] if text.strip() else []
        label, item = self.label, self.label is not None or style.is_item
        if label is None and properties.hangs and (sign := _ITEM.match(raw)) is not None:
            label, item, raw = sign[2] or "", True, raw[sign.end() :]
        text = squeeze(raw)
        if not text:
            return []
        label = squeeze(label or "")
        text = f"{label} {text}" if _NUMBER.match(label) else text
        if level:
            return [Element(text, ElementKind.HEADING, level)]
        return list(parts(text, ElementKind.LIST_ITEM if item else ElementKind.PARAGRAPH))
