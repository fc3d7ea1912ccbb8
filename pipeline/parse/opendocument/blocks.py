"""Blocks of OpenDocument files: paragraphs, headings, lists and tables, with the notes and comments that belong to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.parse.ooxml.cells import in_cell
from pipeline.parse.ooxml.drawing import said
from pipeline.parse.opendocument.drawing import SHAPES, chart, equation_in, picture
from pipeline.parse.opendocument.package import DC, DRAW, LOEXT, OFFICE, TABLE, TEXT, XLINK, Node, Package
from pipeline.parse.opendocument.styles import Counts, Lists, Styles, number
from pipeline.parse.parsed import clean, parts, squeeze
from pipeline.parse.tables import MAX_CELL_CHARS, Cell, Row, table_elements
from pipeline.types import Element, ElementKind, LossKind

#: Maximum spaces that one mark stands for.
_MAX_SPACES = 100
#: Maximum times that a row of equal ones is repeated.
_MAX_REPEATED = 100
#: Maximum depth of shapes, lists and tables inside each other.
MAX_NESTING = 60
_SILENT = frozenset(
    [f"{TEXT}{name}" for name in ("tracked-changes", "ruby-text", "script", "variable-decls", "sequence-decls", "user-field-decls")]
    + [f"{OFFICE}annotation-end", f"{OFFICE}forms", f"{DRAW}control"]
)
_SECTIONS = f"{TEXT}section"
#: Elements around blocks: of an index, only its body has text.
_AROUND = frozenset(
    [f"{TEXT}{name}" for name in ("section", "index-body", "index-title", "numbered-paragraph")]
    + [f"{TEXT}{name}-index" for name in ("alphabetical", "illustration", "table", "object", "user")]
    + [f"{TEXT}table-of-content", f"{TEXT}bibliography", f"{DRAW}text-box", f"{DRAW}a", f"{DRAW}g"]
)
_CHECKBOX = f"{LOEXT}checkbox"
#: A box that is empty, and one that is checked.
_BOXES = ("[ ] ", "[x] ")
_PAGE_BREAK = f"{TEXT}soft-page-break"


@dataclass(slots=True)
class _Paragraph:
    """A paragraph that is being read."""

    texts: list[str] = field(default_factory=list)
    after: list[Element] = field(default_factory=list)  #: text boxes, charts and pictures that are anchored in it
    notes: list[Node] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Item:
    """The list that a block stands in."""

    style: str
    level: int
    counts: Counts
    start: str | None = None
    numbered: bool = True  #: False for a paragraph that continues its item


class Blocks:
    """Reads blocks; `page` is the page that they are on, where it is known."""

    def __init__(self, package: Package, styles: Styles, page: int | None = None) -> None:
        self.page = page
        self.turns = False  #: whether the document records its page breaks
        self._package = package
        self._losses = package.losses
        self._styles = styles
        self._lists = Lists()
        self._outline = Counts()
        self._nesting = 0
        self._begun = False  #: whether there was text: a break before it makes no page

    def kept(self, node: Node) -> Iterator[Element]:
        """Elements of a block; one with surprises keeps its plain text, and that is a loss."""
        try:
            yield from list(self.block(node))
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            name = str(node.tag).rpartition("}")[2]
            self._losses.add(LossKind.UNREADABLE_PART, self._place(), f"structure of a {name}: {error!r}; its text is kept")
            yield from parts(squeeze(" ".join(node.itertext())), page=self.page)

    def block(self, node: Node, item: _Item | None = None) -> Iterator[Element]:
        """Elements of a paragraph, list, table or shape, or of what stands around several."""
        if node.tag in (f"{TEXT}p", f"{TEXT}h"):
            yield from self._paragraph(node, item)
        elif node.tag == f"{TEXT}list":
            yield from self._list(node, item)
        elif node.tag == f"{TABLE}table":
            yield from self.table(node)
        elif node.tag == _PAGE_BREAK:
            self._turn(self.turns)
        elif node.tag == _SECTIONS and node.get(f"{TEXT}display") == "none":
            return
        elif node.tag in _AROUND:
            yield from self.inner(node)
        elif node.tag == f"{DRAW}frame" or node.tag in SHAPES:
            yield from self.shape(node)
        elif node.tag == f"{OFFICE}annotation":
            yield from self._note(node)

    def inner(self, node: Node) -> Iterator[Element]:
        """Elements of the blocks inside a node; nothing for those that lie too deep."""
        if self._nesting >= MAX_NESTING:
            self._losses.add(LossKind.CUT_TEXT, self._place(), f"content more than {MAX_NESTING} levels deep")
            return
        self._nesting += 1
        try:
            for child in node:
                yield from self.block(child)
        finally:
            self._nesting -= 1

    def text(self, node: Node) -> tuple[str, list[str], list[Element]]:
        """The text of a paragraph, the targets of its links, and what is drawn in it; without notes."""
        paragraph = _Paragraph()
        self._inline(node, paragraph)
        return squeeze("".join(paragraph.texts)), paragraph.links, paragraph.after

    def _paragraph(self, node: Node, item: _Item | None) -> Iterator[Element]:
        style = self._styles.paragraph(node.get(f"{TEXT}style-name"))
        self._turn(self.turns and style.breaks[0])
        paragraph, page = _Paragraph(), self.page
        self._inline(node, paragraph)
        raw = "".join(paragraph.texts)
        self._begun = True
        level = number(node.get(f"{TEXT}outline-level")) if node.tag == f"{TEXT}h" else style.level
        label = self._label(node, item, level if node.tag == f"{TEXT}h" else 0, style.unnumbered)
        text = squeeze(f"{label} {raw}" if label and raw.strip() else raw)
        if style.is_code and not level and item is None:
            code = clean(raw, strip=False).strip("\n")
            yield from [Element(code, ElementKind.CODE, page=page)] if code.strip() else []
        elif level and text:
            yield Element(text, ElementKind.HEADING, level, page=page)
        else:
            yield from parts(text, ElementKind.PARAGRAPH if item is None else ElementKind.LIST_ITEM, page=page)
        yield from paragraph.after
        for note in paragraph.notes:
            yield from self._note(note)
        self._turn(self.turns and style.breaks[1])

    def _label(self, node: Node, item: _Item | None, outline: int, unnumbered: bool) -> str:
        """The number in front of a paragraph; empty without one."""
        if item is not None and item.numbered:
            return item.counts.label(self._styles.levels(item.style), item.level, item.start)
        if item is None and outline and not unnumbered and node.get(f"{TEXT}is-list-header") != "true":
            return self._outline.label(self._styles.levels(""), outline, node.get(f"{TEXT}start-value"))
        return ""

    def _list(self, node: Node, outer: _Item | None) -> Iterator[Element]:
        if outer is not None and outer.level >= MAX_NESTING:
            self._losses.add(LossKind.CUT_TEXT, self._place(), f"a list more than {MAX_NESTING} levels deep")
            return
        style = node.get(f"{TEXT}style-name") or (outer.style if outer else "")
        counts = outer.counts if outer is not None else self._lists.begin(node, style)
        level = outer.level + 1 if outer is not None else 1
        for child in node:
            numbered = child.tag == f"{TEXT}list-item"
            for block in child:
                item = _Item(style, level, counts, child.get(f"{TEXT}start-value"), numbered)
                yield from self.block(block, item)
                numbered = numbered and block.tag not in (f"{TEXT}p", f"{TEXT}h")

    def _inline(self, node: Node, into: _Paragraph) -> None:
        """Collect the text of a paragraph or of a part of one."""
        into.texts.append(node.text or "")
        for child in node:
            tag = child.tag
            if tag == f"{TEXT}s":
                into.texts.append(" " * min(number(child.get(f"{TEXT}c")), _MAX_SPACES))
            elif tag == f"{TEXT}tab":
                into.texts.append(" ")
            elif tag == f"{TEXT}line-break":
                into.texts.append("\n")
            elif tag == _PAGE_BREAK:
                self._turn(self.turns)
            elif tag in (f"{TEXT}note", f"{OFFICE}annotation"):
                into.notes.append(child)
            elif tag == f"{DRAW}frame" or tag in SHAPES or tag in _AROUND:
                self._drawn(child, into)
            elif child.get(_CHECKBOX) == "true":
                into.texts.append(_BOXES[child.get(f"{LOEXT}checked") == "true"])
            elif tag not in _SILENT:
                if tag == f"{TEXT}a":
                    into.links.append(child.get(f"{XLINK}href") or "")
                self._inline(child, into)
            into.texts.append(child.tail or "")

    def _drawn(self, node: Node, into: _Paragraph) -> None:
        if text := equation_in(self._package, node):
            into.texts.append(text)
        else:
            into.after += self.inner(node) if node.tag in _AROUND else self.shape(node)

    def shape(self, node: Node) -> Iterator[Element]:
        """A text box, chart, picture, equation or table in a frame, or the text in a shape."""
        if node.tag != f"{DRAW}frame":
            yield from self.inner(node)
            return
        if text := equation_in(self._package, node):
            yield from parts(text, page=self.page)
            return
        for child in node:
            if child.tag == f"{DRAW}text-box":
                yield from self.inner(child)
            elif child.tag == f"{TABLE}table":
                yield from self.table(child)
                return  # a picture of it follows
            elif child.tag == f"{DRAW}object":
                yield from chart(self._package, child, self.page, self._place())
                return
            elif child.tag in (f"{DRAW}object-ole", f"{DRAW}plugin", f"{DRAW}applet", f"{DRAW}floating-frame"):
                kind = "a video or a sound" if child.tag == f"{DRAW}plugin" else "an object"
                self._losses.add(LossKind.EMBEDDED_OBJECT, self._place(), kind)
                return
            elif child.tag == f"{DRAW}image":
                yield from picture(node, self._losses, self.page, self._place())
                return  # others are the same picture in other formats

    def table(self, table: Node) -> Iterator[Element]:
        """The rows of a table of a text or a slide."""
        page = self.page
        found: list[tuple[list[tuple[Node, list[Element]]], bool]] = []
        for row, heads in _rows(table):
            cells = [cell for cell in row if cell.tag == f"{TABLE}table-cell"]
            read = [(cell, list(self.inner(cell))) for cell in cells]
            found += [(read, heads)] * min(number(row.get(f"{TABLE}number-rows-repeated")), _MAX_REPEATED)
            self._turn(self.turns and row.getprevious() is not None and row.getprevious().tag == _PAGE_BREAK)
        single = len(found) == 1 and len(found[0][0]) == 1
        if single or any(sum(len(e.text) for e in inside) > MAX_CELL_CHARS for row, _ in found for _, inside in row):
            for inside in (inside for row, _ in found for _, inside in row):  # a table that lays out a page
                yield from inside
            return
        yield from table_elements([Row(list(_cells(row)), heads) for row, heads in found], page)

    def _note(self, node: Node) -> Iterator[Element]:
        """A footnote, an endnote or a comment."""
        if node.tag == f"{OFFICE}annotation":
            author = squeeze(node.findtext(f"{DC}creator") or "")
            label, body = said("Comment", author, node.findtext(f"{DC}date")), node
        else:
            label = "Endnote" if node.get(f"{TEXT}note-class") == "endnote" else "Footnote"
            body = node.find(f"{TEXT}note-body")
        for at, found in enumerate(self.inner(body) if body is not None else ()):
            kept = ElementKind.PARAGRAPH if found.kind is ElementKind.HEADING else found.kind
            yield Element((f"{label}: " if at == 0 else "") + found.text, kept, page=found.page, header=found.header)

    def _turn(self, turns: bool) -> None:
        if turns and self._begun and self.page is not None:
            self.page += 1

    def _place(self) -> str:
        return f"page {self.page}" if self.page is not None else "content.xml"


def _rows(table: Node) -> Iterator[tuple[Node, bool]]:
    """The rows of a table, and whether each is a row of column names."""
    for child in table:
        if child.tag == f"{TABLE}table-row":
            yield child, table.tag == f"{TABLE}table-header-rows"
        elif child.tag in (f"{TABLE}table-header-rows", f"{TABLE}table-rows", f"{TABLE}table-row-group"):
            yield from _rows(child)


def _cells(row: list[tuple[Node, list[Element]]]) -> Iterator[Cell]:
    for node, inside in row:
        columns, rows = (number(node.get(f"{TABLE}number-{name}-spanned")) for name in ("columns", "rows"))
        cell = Cell(in_cell(inside), columns, rows)
        yield from [cell] * min(number(node.get(f"{TABLE}number-columns-repeated")), _MAX_REPEATED)
