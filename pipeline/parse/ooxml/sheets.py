"""Excel files: every sheet is a page, its cells as Excel shows them; rows are streamed, so that a sheet of any length fits.

A sheet may hold several tables: empty rows and columns separate them. A merged cell is repeated in each of its rows. A sheet
that Excel hides is not read, and is named as a loss.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree

from pipeline.errors import DocumentError
from pipeline.parse.ooxml.drawing import chart, lines, picture, said
from pipeline.parse.ooxml.number_format import BUILTIN, plain, shown
from pipeline.parse.ooxml.package import DAMAGED, A, Node, Package, R, children, note_damage, unescaped
from pipeline.parse.parsed import Losses, Parsed, Share, parts, squeeze
from pipeline.parse.sheet import Merged, fill, linked, merge, sheet_elements
from pipeline.types import Element, ElementKind, LossKind, Reason

_REFERENCE = re.compile(r"\$?([A-Z]{1,3})\$?(\d{1,7})")
_END_OF_CELLS = re.compile(rb"</(?:\w+:)?sheetData\s*>|<(?:\w+:)?sheetData\s*/>")
_HYPERLINK = re.compile(r'HYPERLINK\(.*[,;]\s*"((?:[^"]|"")*)"\s*\)$', re.S | re.I)
_LITERAL = re.compile(r'"((?:[^"]|"")*)"')
_ONLY_LITERALS = re.compile(r"(?:CONCATENATE\(|CONCAT\(|\))|[&,;\s]", re.I)
#: What follows the cells of a sheet: merged ranges, links, and names of its drawings.
MAX_TAIL_BYTES = 32 << 20
MAX_COLUMNS = 16_384


def parse_xlsx(path: Path, name: str) -> Parsed:
    """Rows of the workbook at `path`: every sheet is a heading and a page. Raises DocumentError (corrupt)."""
    losses, share = Losses(), Share()
    # The name of the first sheet says little about the workbook.
    package = Package(zipfile.ZipFile(path), losses)
    properties = package.core()[1]
    return Parsed(name, _Workbook(package).elements(share), share, losses, properties)


@dataclass(slots=True)
class _Tail:
    """What a sheet says after its cells."""

    merged: dict[int, list[Merged]] = field(default_factory=dict)  #: by row
    links: dict[tuple[int, int], str] = field(default_factory=dict)


class _Workbook:
    """The sheets of a workbook."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._losses = package.losses
        root = package.tree(package.main)
        if root is None or root.find("{*}sheets") is None:
            raise DocumentError(Reason.CORRUPT, "not a readable workbook: it lists no sheets")
        self._sheets = list(root.find("{*}sheets"))
        properties = root.find("{*}workbookPr")
        self._since_1904 = properties is not None and properties.get("date1904") in ("1", "true")
        self._strings = list(self._read_strings())
        self._formats = self._read_formats()
        self._people = self._read_people()

    def elements(self, share: Share) -> Iterator[Element]:
        """All sheets that Excel shows."""
        for number, sheet in enumerate(self._sheets, 1):
            share.count(number - 1, len(self._sheets))
            title = squeeze(sheet.get("name") or "") or str(number)
            if sheet.get("state") in ("hidden", "veryHidden"):
                self._losses.add(LossKind.HIDDEN_SHEET, title)
                continue
            key = next((v for k, v in sheet.attrib.items() if k.endswith("}id")), None)
            part = self._package.target(self._package.main, key)
            if part is None:
                self._losses.add(LossKind.UNREADABLE_PART, title, "the sheet is missing")
                continue
            found = self._sheet(part, title, number)
            first = next(found, None)
            if first is not None:
                yield Element(title, ElementKind.HEADING, 1, page=number)
                yield first
                yield from found

    def _sheet(self, part: str, title: str, page: int) -> Iterator[Element]:
        try:
            yield from sheet_elements(self._grid(part, title, self._tail(part)), page)
        except DAMAGED as error:
            self._losses.add(LossKind.UNREADABLE_PART, title, str(error))
        yield from self._around(part, title, page)

    def _grid(self, part: str, title: str, tail: _Tail) -> Iterator[tuple[int, list[str]]]:
        """The rows with at least one cell, with their numbers."""
        kept: dict[tuple[int, int], str] = {}  #: texts of cells that are repeated
        with closing(self._package.open(part)) as file:
            context = etree.iterparse(
                file, events=("end",), tag=("{*}row",), resolve_entities=False, no_network=True, huge_tree=True, recover=True
            )
            number = 0
            for _, row in context:
                given = row.get("r") or ""
                number = int(given) if given.isdigit() else number + 1
                cells = self._row(row, number, title, tail)
                if number in tail.merged:
                    fill(cells, number, tail.merged[number], kept)
                if any(cells):
                    yield number, cells
                row.clear()
                while row.getprevious() is not None:
                    del row.getparent()[0]
            note_damage(self._losses, part, context.error_log)

    def _row(self, row: Node, number: int, title: str, tail: _Tail) -> list[str]:
        cells: list[str] = []
        for cell in row.iterchildren("{*}c"):
            place = _REFERENCE.match(cell.get("r") or "")
            column = _column(place.group(1)) if place else len(cells)
            if column >= MAX_COLUMNS:
                continue
            cells += [""] * (column - len(cells))
            text = self._cell(cell, f"{title}!{cell.get('r') or number}")
            link = tail.links.get((number, column), "")
            cells[column:] = [linked(text, link)]
        return cells

    def _cell(self, cell: Node, place: str) -> str:
        kind = cell.get("t") or "n"
        value = cell.findtext("{*}v") or ""
        if kind == "inlineStr":
            inline = cell.find("{*}is")
            return _rich(inline) if inline is not None else ""
        if not value:
            formula = cell.findtext("{*}f") or ""
            return self._uncomputed(formula, place) if formula else ""
        if kind == "s":
            return self._strings[int(value)] if value.isdigit() and int(value) < len(self._strings) else ""
        if kind == "b":
            return "TRUE" if value in ("1", "true") else "FALSE"
        if kind in ("str", "e", "d"):
            return squeeze(unescaped(value))
        try:
            number = float(value)
        except ValueError:
            return squeeze(value)
        style = cell.get("s") or "0"
        code = self._formats[int(style)] if style.isdigit() and int(style) < len(self._formats) else "General"
        return squeeze(shown(number, code, since_1904=self._since_1904)) if code != "General" else plain(number)

    def _uncomputed(self, formula: str, place: str) -> str:
        """The text of a formula whose result the file does not hold: of a link its words, of joined texts the joined text."""
        if (link := _HYPERLINK.match(formula)) is not None:
            return squeeze(link.group(1).replace('""', '"'))
        if not _ONLY_LITERALS.sub("", _LITERAL.sub("", formula)):
            return squeeze("".join(found.replace('""', '"') for found in _LITERAL.findall(formula)))
        self._losses.add(LossKind.FORMULA, place, f"={formula}")
        return f"={squeeze(formula)}"

    def _tail(self, part: str) -> _Tail:
        """Read what follows the cells before the cells: their merged ranges and links stand there."""
        tail = _Tail()
        root = self._fragment(part)
        for node in root.iter("{*}mergeCell") if root is not None else ():
            first, _, last = (node.get("ref") or "").partition(":")
            (top, left), (bottom, right) = _place(first), _place(last or first)
            if top:
                merge(tail.merged, top, bottom, left, right)
        relations = self._package.relations(part)
        for node in root.iter("{*}hyperlink") if root is not None else ():
            relation = relations.get(node.get(f"{R}id") or "")
            if relation is not None and (place := _place(node.get("ref") or ""))[0]:
                tail.links[place] = squeeze(relation.target)
        return tail

    def _fragment(self, part: str) -> Node | None:
        kept, found = b"", False
        with closing(self._package.open(part)) as file:
            while window := file.read(1 << 20):
                kept += window
                if not found and (end := _END_OF_CELLS.search(kept)):
                    kept, found = kept[end.end() :], True
                elif not found:
                    kept = kept[-40:]
                if len(kept) > MAX_TAIL_BYTES:
                    self._losses.add(LossKind.CUT_TEXT, part, f"more than {MAX_TAIL_BYTES >> 20} MB after its cells")
                    break
        if not found:
            return None
        parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True, recover=True)
        return etree.fromstring(b'<x xmlns:r="' + R[1:-1].encode() + b'">' + kept, parser)

    def _around(self, part: str, title: str, page: int) -> Iterator[Element]:
        """Comments, drawings and charts of a sheet."""
        for kind in ("threadedComment", "comments"):
            for comments in self._package.related(part, kind):
                yield from self._comments(comments, title, page)
        for drawing in self._package.related(part, "drawing"):
            root = self._package.tree(drawing)
            for shape in root.iter("{*}sp", "{*}pic", "{*}graphicFrame") if root is not None else ():
                yield from self._shape(shape, drawing, title, page)
        for kind in ("oleObject", "package"):
            for embedded in self._package.related(part, kind):
                self._losses.add(LossKind.EMBEDDED_OBJECT, title, embedded.rpartition("/")[2])

    def _shape(self, shape: Node, part: str, title: str, page: int) -> Iterator[Element]:
        name = shape.tag.rpartition("}")[2]
        if name == "pic":
            yield from picture(next(shape.iter("{*}cNvPr"), None), self._losses, page, title)
        elif name == "sp":
            for line in lines(shape):
                yield from parts(line.text, page=page)
        else:
            for data in shape.iter(f"{A}graphicData"):
                keys = [child.get(f"{R}id") for child in children(data)]
                for key in filter(None, keys):
                    yield from chart(self._package, self._package.target(part, key), page)

    def _comments(self, part: str, title: str, page: int) -> Iterator[Element]:
        root = self._package.tree(part)
        if root is None:
            return
        authors = [squeeze(node.text or "") for node in root.iter("{*}author")]
        for node in root.iter("{*}comment", "{*}threadedComment"):
            body = node.find("{*}text")
            text = _rich(body) if body is not None else ""
            if "threaded comment" in text[:60].lower():  # a copy for old programs
                continue
            number = node.get("authorId") or ""
            author = self._people.get(node.get("personId") or "") or (
                authors[int(number)] if number.isdigit() and int(number) < len(authors) else ""
            )
            if text:
                yield from parts(f"{said('Comment', author, node.get('dT'))} on {title}!{node.get('ref') or ''}: {text}", page=page)

    def _read_people(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for part in self._package.related(self._package.main, "person"):
            root = self._package.tree(part)
            found |= {n.get("id") or "": squeeze(n.get("displayName") or "") for n in root} if root is not None else {}
        return found

    def _read_strings(self) -> Iterator[str]:
        for part in self._package.related(self._package.main, "sharedStrings"):
            with closing(self._package.open(part)) as file:
                context = etree.iterparse(
                    file, events=("end",), tag=("{*}si",), resolve_entities=False, no_network=True, huge_tree=True, recover=True
                )
                for _, node in context:
                    yield _rich(node)
                    node.clear()
                    while node.getprevious() is not None:
                        del node.getparent()[0]
                note_damage(self._losses, part, context.error_log)

    def _read_formats(self) -> list[str]:
        """The format of each cell style."""
        found: list[str] = []
        for part in self._package.related(self._package.main, "styles"):
            root = self._package.tree(part)
            if root is None:
                continue
            codes = {n.get("numFmtId"): n.get("formatCode") or "General" for n in root.iter("{*}numFmt")}
            for node in root.iterfind("{*}cellXfs/{*}xf"):
                key = node.get("numFmtId") or "0"
                found.append(codes.get(key) or (BUILTIN.get(int(key), "General") if key.isdigit() else "General"))
        return found


def _rich(node: Node) -> str:
    """The text of a string with formats, without the reading aids of Japanese."""
    own = [found.text or "" for found in node.iter("{*}t") if not any(a.tag.endswith("}rPh") for a in found.iterancestors())]
    return squeeze(unescaped("".join(own) or (node.text or "")))


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1


def _place(reference: str) -> tuple[int, int]:
    """Row (1-based) and column (0-based) of a cell; row 0 where it cannot be read."""
    found = _REFERENCE.match(reference)
    return (int(found.group(2)), _column(found.group(1))) if found else (0, 0)
