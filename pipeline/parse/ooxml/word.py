"""Word files: paragraphs, headings, lists and tables in their order, with notes and comments after the paragraph they belong to.

Text that is inserted and tracked is text, deleted text is not. The body is read paragraph by paragraph, so that memory
depends on the largest table and not on the document.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree

from pipeline.errors import DocumentError
from pipeline.parse.ooxml.cells import AROUND, flat, in_cell, skipped
from pipeline.parse.ooxml.drawing import graphic, lines, picture, said
from pipeline.parse.ooxml.equations import linear
from pipeline.parse.ooxml.foreign import foreign
from pipeline.parse.ooxml.package import MC, A, M, Node, Package, R, W, children, chosen, local, note_damage, outermost
from pipeline.parse.ooxml.styles import Numbering, Style, heading_level, named_style, numbering_of, own_font, read_styles, value
from pipeline.parse.parsed import Losses, Parsed, clean, headed, parts, squeeze
from pipeline.parse.second_reader import second_reading
from pipeline.parse.symbols import has_symbols, in_font, symbol
from pipeline.parse.tables import MAX_CELL_CHARS, Cell, Row, table_elements
from pipeline.types import Element, ElementKind, LossKind, Reason

_WP = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}"
_PIC = "{http://schemas.openxmlformats.org/drawingml/2006/picture}"
_V = "{urn:schemas-microsoft-com:vml}"
_O = "{urn:schemas-microsoft-com:office:office}"
_W14 = "{http://schemas.microsoft.com/office/word/2010/wordml}"

_DELETED = frozenset(f"{W}{name}" for name in ("del", "moveFrom", "delText", "instrText", "delInstrText"))
_CHARACTERS = {f"{W}tab": " ", f"{W}ptab": " ", f"{W}br": "\n", f"{W}cr": "\n", f"{W}noBreakHyphen": "-"}
_OFF = ("0", "false", "off")
#: A box that is empty, and one that is checked.
_BOXES = ("[ ] ", "[x] ")
#: What can stand in a document besides its body, as the name of its relationship and of its element.
_NOTES = (("footnotes", "footnote", "Footnote"), ("endnotes", "endnote", "Endnote"), ("comments", "comment", "Comment"))
#: Maximum depth of text boxes inside text boxes.
MAX_NESTING = 60
_HARD_BREAK = re.compile(rb"type=[\"']page[\"']")


def parse_docx(path: Path, name: str) -> Parsed:
    """Elements of the Word file at `path`; pages only where the file records its page breaks.

    Raises DocumentError (corrupt) for a file without a readable body.
    """
    losses = Losses()
    package = Package(zipfile.ZipFile(path), losses)
    try:
        title, elements = headed(Document(package).elements())
    except (ValueError, TypeError, AttributeError, LookupError) as error:  # a defect of this reader
        return second_reading(path, name, "docx", error)
    named, properties = package.core()
    return Parsed(title or named, elements, losses=losses, metadata=properties)


@dataclass(slots=True)
class _Paragraph:
    """A paragraph that is being read."""

    texts: list[str] = field(default_factory=list)
    after: list[Element] = field(default_factory=list)  #: text boxes, charts and pictures that are anchored in it
    notes: list[tuple[str, str]] = field(default_factory=list)  #: kind and id of the notes that it refers to
    fields: list[bool] = field(default_factory=list)  #: for each open field, whether its result has begun


class Document:
    """The body of a Word file, and what belongs to it."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._losses = package.losses
        self._part = package.main
        data = package.data(self._part)
        if not data:
            raise DocumentError(Reason.CORRUPT, f"its part {self._part} cannot be read")
        self._data = data
        self._styles = read_styles(package)
        self._numbering = Numbering.of(package)
        self._notes = {kind: self._read_notes(kind, element) for kind, element, _ in _NOTES}
        self._rendered = b"lastRenderedPageBreak" in data
        self._page = 1 if self._rendered or _HARD_BREAK.search(data) is not None else None
        self._nesting = 0
        self._begun: _Paragraph | None = None  #: paragraphs whose tracked, deleted ends join them to the next one

    def elements(self) -> Iterator[Element]:
        """All elements; headers and footers come last, each once."""
        found = False
        for block in self._blocks_of_body():
            found = True
            yield from self._block(block)
        yield from self._rest()
        if not found:
            raise DocumentError(Reason.CORRUPT, "a Word file without a body")
        for kind, _, label in _NOTES:  # those that no paragraph refers to
            for key in list(self._notes[kind]):
                yield from self._note(kind, label, key)
        self._data = b""
        yield from self._running_texts()

    def _blocks_of_body(self) -> Iterator[Node]:
        """The children of the body, each removed when the next one is asked for."""
        context = etree.iterparse(
            io.BytesIO(self._data),
            events=("start", "end"),
            resolve_entities=False,
            no_network=True,
            huge_tree=True,
            recover=True,
            remove_comments=True,
            remove_pis=True,
        )
        depth, body = 0, None
        for event, node in context:
            if event == "start":
                depth += 1
                if body is None and node.tag == f"{W}body":
                    body = depth
                continue
            depth -= 1
            if body is not None and depth == body:
                yield node
                node.clear()
                while node.getprevious() is not None:
                    del node.getparent()[0]
        note_damage(self._losses, self._part, context.error_log)

    def _block(self, node: Node) -> Iterator[Element]:
        """Elements of a paragraph, a table, or of what stands around several; a block with surprises keeps its plain text."""
        try:
            yield from list(self._structured(node))
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            self._losses.add(LossKind.UNREADABLE_PART, self._part, f"structure of a {local(node)}: {error!r}; its text is kept")
            yield from parts(squeeze(" ".join(t.text or "" for t in node.iter(f"{W}t"))), page=self._page)

    def _structured(self, node: Node) -> Iterator[Element]:
        if node.tag == f"{W}p":
            yield from self._paragraph(node)
        elif node.tag == f"{W}tbl":
            yield from self._rest()
            yield from self._table(node)
        elif node.tag == f"{MC}AlternateContent":
            for child in chosen(node):
                yield from self._structured(child)
        elif node.tag in AROUND or node.tag.endswith("}txbxContent"):
            for child in children(node):
                yield from self._structured(child)
        elif node.tag in (f"{M}oMathPara", f"{M}oMath"):
            yield from (*self._rest(), *parts(linear(node), page=self._page))
        elif node.tag == f"{W}altChunk":
            yield from (*self._rest(), *self._foreign(self._package.target(self._part, node.get(f"{R}id"))))

    def _paragraph(self, node: Node) -> Iterator[Element]:
        paragraph, self._begun = self._begun or _Paragraph(), None
        page = self._page
        self._inline(node, paragraph)
        properties = node.find(f"{W}pPr")
        if properties is not None and any(properties.find(f"{W}rPr/{W}{name}") is not None for name in ("del", "moveFrom")):
            self._begun = paragraph
        else:
            yield from self._finished(paragraph, properties, page)

    def _rest(self) -> Iterator[Element]:
        """Paragraphs whose deleted ends have nothing to join them to."""
        if (paragraph := self._begun) is not None:
            self._begun = None
            yield from self._finished(paragraph, None, self._page)

    def _finished(self, paragraph: _Paragraph, properties: Node | None, page: int | None) -> Iterator[Element]:
        style = self._style(properties)
        raw = "".join(paragraph.texts)
        if style.is_code and not style.level:
            text = clean(raw, strip=False).strip("\n")
            found = [Element(text, ElementKind.CODE, page=page)] if text.strip() else []
        else:
            found = self._told(squeeze(raw), properties, style, page)
        yield from found
        yield from paragraph.after
        labels = {kind: label for kind, _, label in _NOTES}
        for kind, key in paragraph.notes:
            yield from self._note(kind, labels[kind], key)

    def _told(self, text: str, properties: Node | None, style: Style, page: int | None) -> list[Element]:
        """A paragraph as a heading, an item or text, with its number."""
        own = heading_level(properties)
        level = style.level if own is None else own
        numbering = numbering_of(properties) or style.numbering
        label = self._numbering.label(*numbering) if numbering else None  # empty paragraphs are counted, too
        if not text:
            return []
        if level:
            return [Element(f"{label} {text}" if label else text, ElementKind.HEADING, level, page=page)]
        if label is None and not style.is_item:
            return list(parts(text, page=page))
        return list(parts(f"{label} {text}" if label else text, ElementKind.LIST_ITEM, page=page))

    def _style(self, properties: Node | None) -> Style:
        key = value(properties, "pStyle") or ""
        return self._styles.get(key) or named_style(key)

    def _inline(self, node: Node, into: _Paragraph) -> None:
        """Collect the text of a paragraph or of a part of one."""
        for child in children(node):
            tag = child.tag
            if tag == f"{W}t":
                if not into.fields or all(into.fields):
                    text = child.text or ""
                    into.texts.append(in_font(text, own_font(node)) if has_symbols(text) else text)
            elif tag in _DELETED or tag.endswith("Pr"):
                continue
            elif tag in _CHARACTERS:
                if tag == f"{W}br" and child.get(f"{W}type") == "page" and not self._rendered:
                    self._turn()
                into.texts.append(_CHARACTERS[tag])
            elif tag == f"{W}sdt" and (mark := child.find(f"{W}sdtPr/{_W14}checkbox/{_W14}checked")) is not None:
                into.texts.append(_BOXES[mark.get(f"{_W14}val") in ("1", "true", "on")])
            elif tag in _SPECIAL:
                _SPECIAL[tag](self, child, into)
            elif tag.startswith(M):
                into.texts.append(linear(child))
            elif tag == f"{W}p" or tag.endswith("}txbxContent"):
                into.after += self._inner(child)
            else:
                self._inline(child, into)

    def _inner(self, node: Node) -> list[Element]:
        """The blocks of a text box."""
        if self._nesting >= MAX_NESTING:
            self._losses.add(LossKind.CUT_TEXT, self._part, f"text boxes nested more than {MAX_NESTING} deep")
            return []
        self._nesting += 1
        try:
            return self._apart([node])
        finally:
            self._nesting -= 1

    def _apart(self, blocks: Iterable[Node]) -> list[Element]:
        """Blocks whose last paragraph ends with them."""
        outside, self._begun = self._begun, None
        found = [*(element for block in blocks for element in self._structured(block)), *self._rest()]
        self._begun = outside
        return found

    def _turn(self) -> None:
        if self._page is not None:
            self._page += 1

    def _run(self, node: Node, into: _Paragraph) -> None:
        """A run of text; of a hidden one only the marks of fields count."""
        if value(node, "rPr/vanish") in _OFF or node.find(f"{W}rPr/{W}vanish") is None:
            self._inline(node, into)
        else:
            for mark in node.iterchildren(f"{W}fldChar"):
                self._field(mark, into)

    def _rendered_break(self, node: Node, into: _Paragraph) -> None:
        self._turn()

    def _field(self, node: Node, into: _Paragraph) -> None:
        """A field holds an instruction, which is no text, and its result."""
        kind = node.get(f"{W}fldCharType")
        if kind == "begin":
            into.fields.append(False)
        elif kind == "separate" and into.fields:
            into.fields[-1] = True
        elif kind == "end" and into.fields:
            into.fields.pop()
        if (box := node.find(f"{W}ffData/{W}checkBox")) is not None:
            checked = value(box, "checked") if box.find(f"{W}checked") is not None else value(box, "default")
            into.texts.append(_BOXES[checked not in (None, *_OFF)])

    def _symbol(self, node: Node, into: _Paragraph) -> None:
        into.texts.append(symbol(int(node.get(f"{W}char") or "20", 16), node.get(f"{W}font") or ""))

    def _ruby(self, node: Node, into: _Paragraph) -> None:
        if (base := node.find(f"{W}rubyBase")) is not None:
            self._inline(base, into)

    def _reference(self, node: Node, into: _Paragraph) -> None:
        kind = {"footnoteReference": "footnotes", "endnoteReference": "endnotes"}.get(local(node), "comments")
        into.notes.append((kind, node.get(f"{W}id") or ""))

    def _drawing(self, node: Node, into: _Paragraph) -> None:
        """A text box, a chart, a diagram or a picture."""
        boxes = list(outermost(node, "txbxContent"))
        for box in boxes:
            into.after += self._inner(box)
        if not boxes and next(node.iter(f"{A}tbl"), None) is None:
            into.after += (Element(line.text, page=self._page) for body in node.iter(f"{A}txBody") for line in lines(body))
        into.after += graphic(self._package, self._part, node, self._page)
        if pictures := sum(1 for _ in node.iter(f"{_PIC}pic")):
            into.after += self._picture(next(node.iter(f"{_WP}docPr"), None), pictures)
        elif not boxes and (image := next(node.iter(f"{_V}imagedata"), None)) is not None:
            shape = image.getparent()
            if words := squeeze(shape.get("alt") or ""):
                into.after.append(Element(f"Picture: {words}", page=self._page))
            elif next(node.iter(f"{_O}OLEObject"), None) is None:
                into.after += self._picture(None)
        for path in node.iter(f"{_V}textpath"):  # words drawn along a path
            into.after += parts(squeeze(path.get("string") or ""), page=self._page)
        for embedded in node.iter(f"{_O}OLEObject"):
            if not (embedded.get("ProgID") or "").startswith("Equation"):
                self._losses.add(LossKind.EMBEDDED_OBJECT, self._place(), embedded.get("ProgID") or "an object")

    def _picture(self, description: Node | None, count: int = 1) -> Iterator[Element]:
        return picture(description, self._losses, self._page, self._place(), count)

    def _place(self) -> str:
        return f"page {self._page}" if self._page is not None else self._part

    def _table(self, table: Node) -> Iterator[Element]:
        rows = [row for row in flat(table, f"{W}tr") if row.find(f"{W}trPr/{W}del") is None]
        cells = [list(flat(row, f"{W}tc")) for row in rows]
        page = self._page
        read = [[self._apart(children(cell)) for cell in row] for row in cells]
        single = len(rows) == 1 and len(cells[0]) == 1
        if single or any(sum(len(e.text) for e in found) > MAX_CELL_CHARS for row in read for found in row):
            yield from (e for row in read for found in row for e in found)  # a table that lays out a page
            return
        grid: list[Row] = []
        above: dict[int, Cell] = {}
        for row, nodes, contents in zip(rows, cells, read, strict=True):
            column = skipped(row, "gridBefore")
            told = [Cell("")] * column
            for node, found in zip(nodes, contents, strict=True):
                span = value(node, "tcPr/gridSpan") or "1"
                merge = node.find(f"{W}tcPr/{W}vMerge")
                cell = Cell(in_cell(found), int(span) if span.isdigit() else 1)
                if merge is not None and merge.get(f"{W}val") != "restart" and column in above and not cell.text:
                    cell = above[column]
                above[column] = cell
                told.append(cell)
                column += cell.columns
            grid.append(Row(told, heads=value(row, "trPr/tblHeader") not in (None, *_OFF)))
        yield from table_elements(grid, page)

    def _read_notes(self, kind: str, element: str) -> dict[str, Node]:
        """Notes by their ids, without the separators that Word keeps among them."""
        found: dict[str, Node] = {}
        for part in self._package.related(self._part, kind):
            root = self._package.tree(part)
            for node in root.iterchildren(f"{W}{element}") if root is not None else ():
                if node.get(f"{W}type") in (None, "normal"):
                    found[node.get(f"{W}id") or ""] = node
        return found

    def _note(self, kind: str, label: str, key: str) -> Iterator[Element]:
        """A note or comment, once."""
        node = self._notes[kind].pop(key, None)
        if node is None:
            return
        author = squeeze(node.get(f"{W}author") or "")
        prefix = f"{said(label, author, node.get(f'{W}date'))}: "
        for number, found in enumerate(self._apart(children(node))):
            kept = ElementKind.PARAGRAPH if found.kind is ElementKind.HEADING else found.kind
            yield Element((prefix if number == 0 else "") + found.text, kept, page=found.page, header=found.header)

    def _running_texts(self) -> Iterator[Element]:
        told: dict[str, None] = {}
        for kind in ("header", "footer"):
            for part in self._package.related(self._part, kind):
                if (root := self._package.tree(part)) is not None:
                    found = [*(e for block in children(root) for e in self._block(block)), *self._rest()]
                    told.update(dict.fromkeys(text for e in found for text in (e.header, e.text) if text))
        for text in told:
            if any(c.isalpha() for c in text):  # numbers of pages say nothing
                yield Element(text)

    def _foreign(self, part: str | None) -> Iterator[Element]:
        """A piece of another format inside the document."""
        if part is None:
            self._losses.add(LossKind.EMBEDDED_OBJECT, self._part, "a chunk of another format is missing")
        elif part.lower().endswith(".docx") and (data := self._package.data(part)):
            yield from Document(Package(zipfile.ZipFile(io.BytesIO(data)), self._losses)).elements()
        else:
            yield from foreign(self._package, part, self._page)


#: How a special element of a paragraph is read.
_SPECIAL: dict[str, Callable[[Document, Node, _Paragraph], None]] = {
    f"{W}r": Document._run,
    f"{W}lastRenderedPageBreak": Document._rendered_break,
    f"{W}fldChar": Document._field,
    f"{W}sym": Document._symbol,
    f"{W}ruby": Document._ruby,
    f"{W}footnoteReference": Document._reference,
    f"{W}endnoteReference": Document._reference,
    f"{W}commentReference": Document._reference,
    f"{W}drawing": Document._drawing,
    f"{W}pict": Document._drawing,
    f"{W}object": Document._drawing,
}
