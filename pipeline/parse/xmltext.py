"""XML by its text: JATS, TEI, DocBook, FictionBook, DITA, patents, feeds, and data of any vocabulary, read in one pass.

Elements are known by their local names, which these vocabularies share to a large part. In a vocabulary that is not known, an
element with text and nothing else in it is a field, `name: text`, and the fields of one record form one element.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from lxml import etree

from pipeline.parse import xmlnames as names
from pipeline.parse.decode import Encoding, codec_of, detect
from pipeline.parse.html import bare_text
from pipeline.parse.ooxml.package import note_damage
from pipeline.parse.parsed import Losses, Parsed, Share, clean, pieces, squeeze
from pipeline.parse.tables import Cell, Row, table_elements
from pipeline.types import Element, ElementKind, LossKind

#: A longer record continues in the next element.
MAX_RECORD_CHARS = 2_000
#: Characters that are fed to the parser at once.
_WINDOW = 64 << 10
_MAX_LEVEL = 6

_DECLARATION = re.compile(r"<\?xml[^<>]{0,200}\?>")
_DECLARED = re.compile(rb"\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_.:-]{2,40})", re.I)
_FORMULA_AROUND = re.compile(
    r"\$+|\\(?:begin|end)\{[a-z]{1,20}\*?\}|\\(?:documentclass|usepackage)(?:\[[^\[\]]{0,200}\])?\{[^{}]{0,200}\}"
)
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,31});")
_OWN_ENTITIES = frozenset(("amp", "lt", "gt", "quot", "apos"))


def parse_xml(path: Path, name: str) -> Parsed:
    """Elements of the XML file at `path`. A damaged file is read as far as possible."""
    share, losses = Share(), Losses()
    return Parsed("", _elements(path, share, losses), share, losses)


def _elements(path: Path, share: Share, losses: Losses) -> Iterator[Element]:
    found = detect(path) or Encoding("latin-1", False)
    with path.open("rb") as raw:
        declared = _DECLARED.match(raw.read(400))
    label = codec_of(declared.group(1).decode("ascii")) if declared is not None else ""
    # A file that says UTF-8 and is none does not say what it is.
    encoding = Encoding(label, False) if label and label != "utf-8" and not found.marked else found
    reader = _Reader(losses)
    # Entities are replaced only where the file defines them; without `huge_tree`, libxml2 stops bombs.
    parser = etree.XMLParser(target=reader, recover=True, no_network=True, resolve_entities="internal", encoding="utf-8")
    try:
        file = path.open(encoding=encoding.name, errors=encoding.errors, newline=None)
    except LookupError:
        file = path.open(encoding=found.name, errors=found.errors, newline=None)
    with file:
        share.follow(file)
        for text in _windows(file):
            parser.feed(text.encode("utf-8", "replace"))
            yield from reader.drain()
    try:
        parser.close()
    except etree.XMLSyntaxError as error:
        losses.add(LossKind.UNREADABLE_PART, detail=str(error))
    note_damage(losses, "", parser.feed_error_log)
    yield from reader.drain(last=True)


def _windows(file: TextIO) -> Iterator[str]:
    """The text in parts, without its declaration, and with the entities of HTML as characters."""
    kept, first = "", True
    while True:
        window = file.read(_WINDOW)
        text = kept + window
        if first:
            text, first = text.lstrip(), False
            if (declaration := _DECLARATION.match(text)) is not None:
                text = text[declaration.end() :]
        cut = text.rfind("&", len(text) - 40) if window else -1  # an entity may be cut
        kept, text = (text[cut:], text[:cut]) if cut > 0 else ("", text)
        yield _ENTITY.sub(lambda m: m.group() if m.group(1) in _OWN_ENTITIES else html.unescape(m.group()), text)
        if not window:
            return


@dataclass(slots=True)
class _Open:
    """An element that is open."""

    name: str
    attributes: Mapping[str, str]
    children: bool = False  #: whether it has elements that are no part of a sentence
    told: bool = False  #: whether its text has been used
    formula: str = ""  #: LaTeX of a formula in it, for where it has no other form
    drawn: bool = False  #: whether it has a formula in another form


@dataclass(slots=True)
class _Table:
    rows: list[Row] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    columns: dict[str, int] = field(default_factory=dict)  #: numbers of columns by their names
    heads: bool = False


class _Reader:
    """Receives the parser's events and collects elements."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._done: list[Element] = []
        self._open: list[_Open] = []
        self._run: list[str] = []
        self._fields: list[str] = []
        self._length = 0  # of the fields
        self._tables: list[_Table] = []
        self._formula = self._silent = self._code = self._citations = self._items = self._sections = self._inside = 0
        self._drawing = False
        self._root = ""
        self._label, self._owner = "", 0  # the number of a section or figure, and the depth of that
        self._due: tuple[str, int, int] | None = None  # a heading for the next text, its level, and the depth where it ends
        self._under = 0  # the depth of the section whose heading was due and has been emitted
        self._title = ""

    def drain(self, *, last: bool = False) -> list[Element]:
        """The elements that have been collected; `last`: the document has ended."""
        if last:
            self._flush()
            self._flush_fields()
        done, self._done = self._done, []
        return done

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        name = tag.rpartition("}")[2].lower()
        if not self._open:
            self._drawing, self._root = name == "svg", name
        if self._root == "patdoc" and name in names.PATDOC_TITLES:
            name = "heading"
        if self._open and self._open[-1].name in names.SPACED and self._run and self._run[-1][-1:] not in ("", " ", "("):
            self._run.append(" ")
        is_inline = name in names.INLINE and bool(self._inside or "".join(self._run[-3:]).strip())
        if not is_inline and not self._in_sentence(name):
            self._flush()
            if self._open:
                self._holds(self._open[-1])
        self._open.append(_Open(name, attributes, told=is_inline))
        if name in names.HEADED and self._root in names.HEADED_ROOTS:
            self._due = names.HEADED[name], min(self._sections + 1, _MAX_LEVEL), len(self._open)
        self._formula += name == "tex-math"
        self._count(name, 1)
        if name in ("table", "tgroup", "informaltable"):
            if name != "tgroup" or not self._tables:
                self._tables.append(_Table())
        elif self._tables and name == "colspec":
            columns = self._tables[-1].columns
            columns[attributes.get("colname") or str(len(columns) + 1)] = len(columns)
        elif self._tables and name == "thead":
            self._tables[-1].heads = True
        elif name == "binary" and (attributes.get("content-type") or "").startswith("image/"):
            self._losses.add(LossKind.PICTURE, detail="inside the file")
        elif name == "image" and any(value.startswith("data:") for value in attributes.values()):
            self._losses.add(LossKind.PICTURE, detail="inside the drawing")

    def data(self, text: str) -> None:
        """Text inside the innermost open element."""
        if self._formula and len(self._open) > 1:
            self._open[-2].formula += text
        elif not self._silent and (not self._drawing or any(one.name in names.DRAWN for one in self._open)):
            self._run.append(text)

    def end(self, tag: str) -> None:
        """An element ends."""
        one = self._open.pop()
        name = one.name
        self._formula -= name == "tex-math"
        if name == "math" and self._open:
            self._open[-1].drawn = True
        if one.formula and not one.drawn:
            self._run.append(_plain_formula(one.formula))
        if self._tables and self._end_in_table(one):
            self._count(name, -1)
            return
        if one.told or self._in_sentence(name):
            if name in ("p", "lb", "br", "line") or name in names.PARAGRAPHS:
                self._run.append(" ")
        else:
            self._flush(one)
            self._leave()
        self._count(name, -1)
        if one.children and not one.told and name not in names.SECTIONS:
            self._flush_fields()

    def close(self) -> None:
        """The document ends."""

    def comment(self, text: str) -> None:
        """Comments are no text."""

    def pi(self, target: str, data: str | None = None) -> None:
        """Instructions for programs are no text."""

    def _in_sentence(self, name: str) -> bool:
        """Whether an element of this name only continues the text around it."""
        if self._citations and name in names.TITLES:
            return bool(self._inside)
        if self._inside and name not in names.PARAGRAPHS | names.ITEMS | names.TITLES | names.CODE | names.SECTIONS | {
            "table",
            "list",
            "ul",
            "ol",
        }:
            return True
        # Paragraphs of a title or a cell do not end it.
        return bool(self._tables and any(o.name in names.CELLS for o in self._open)) or any(
            o.name in names.TITLES for o in self._open
        )

    def _count(self, name: str, step: int) -> None:
        self._silent += step * (name in names.SILENT)
        self._code += step * (name in names.CODE)
        self._citations += step * (name in names.CITATIONS)
        self._items += step * (name in names.ITEMS)
        self._sections += step * (name in names.SECTIONS)
        self._inside += step * (name in names.PARAGRAPHS or name in names.TITLES or name in names.CODE)

    def _end_in_table(self, one: _Open) -> bool:
        """Treat the end of a cell, a row or a table; False for other elements."""
        table = self._tables[-1]
        if one.name in names.CELLS:
            text = squeeze("".join(self._run))
            self._run.clear()
            table.cells.append(Cell(text, _columns(one.attributes, table.columns), _rows(one.attributes)))
        elif one.name in names.ROWS:
            table.rows.append(Row(table.cells, table.heads))
            table.cells = []
        elif one.name == "thead":
            table.heads = False
        elif one.name in ("table", "informaltable") or (
            one.name == "tgroup" and len(self._open) and not any(o.name in ("table", "informaltable") for o in self._open)
        ):
            self._tables.pop()
            self._flush_fields()
            self._announce()
            self._done += table_elements(table.rows)
        else:
            return False
        return True

    def _flush(self, one: _Open | None = None) -> None:
        """The text since the last element that is no part of a sentence began or ended."""
        raw = "".join(self._run)
        self._run.clear()
        name = one.name if one is not None else ""
        if self._code:
            text = clean(raw, strip=False).strip("\n").rstrip()
            self._emit(text, ElementKind.CODE)
            return
        text = squeeze(raw)
        if not text:
            if one is not None and not one.children and self._is_data():
                self._field(name, _described(one.attributes))
            return
        if name == "label" and not self._is_data():
            self._label, self._owner = text, len(self._open)
        elif name in names.TITLES and not self._citations and not self._items and not self._drawing:
            self._flush_fields()
            self._due = None
            self._title = self._title or text
            text, self._label = f"{self._label} {text}".strip(), ""
            self._done.append(Element(text, ElementKind.HEADING, min(max(1, self._sections), _MAX_LEVEL)))
        elif one is None or one.children or self._inside or name in names.PARAGRAPHS or name in names.ITEMS or not self._is_data():
            self._emit(text, ElementKind.LIST_ITEM if self._items else ElementKind.PARAGRAPH)
        else:
            told = _described(one.attributes)
            text = bare_text(text)[0].strip() if "<" in text and "</" in text else text
            self._field(name, f"{text} ({told})" if told else text)

    def _is_data(self) -> bool:
        return bool(self._open) and self._open[0].name not in names.KNOWN_ROOTS and not self._inside

    def _holds(self, one: _Open) -> None:
        """An element has begun inside `one`, which is data: its attributes come before those of what it holds."""
        if not one.children and self._is_data() and one.name not in names.PARAGRAPHS:
            attributes = dict(one.attributes)
            if one is self._open[0]:
                attributes.pop("version", None)  # of the format
            self._field(one.name, _described(attributes))
        one.children = True

    def _field(self, name: str, text: str) -> None:
        if not text:
            return
        if self._length > MAX_RECORD_CHARS:
            self._flush_fields()
        self._fields.append(f"{name}: {text}")
        self._length += len(text)

    def _flush_fields(self) -> None:
        text = clean("\n".join(self._fields))
        self._fields.clear()
        self._length = 0
        for first, last in pieces(text):
            if part := text[first:last].strip():
                self._done.append(Element(part))

    def _announce(self) -> None:
        """Emit the heading that waits for the first text under it."""
        if self._due is not None:
            heading, level, self._under = self._due
            self._due = None
            self._done.append(Element(heading, ElementKind.HEADING, level))

    def _leave(self) -> None:
        """Treat the end of an element: a number or a heading that waits for a text in it waits no longer."""
        depth = len(self._open)
        if self._label and depth < self._owner:
            label, self._label = self._label, ""
            self._emit(label, ElementKind.PARAGRAPH)
        if self._due is not None and depth < self._due[2]:
            self._due = None
        if depth < self._under:
            self._under = 0
            self._due = (self._title, 1, 0) if self._title else None

    def _emit(self, text: str, kind: ElementKind) -> None:
        self._flush_fields()
        self._announce()
        if self._label and kind is not ElementKind.CODE:
            text, self._label = f"{self._label} {text}", ""
        for first, last in pieces(text):
            if text[first:last].strip():
                self._done.append(Element(text[first:last].rstrip(), kind))


def _plain_formula(text: str) -> str:
    """LaTeX of a formula without what is around it."""
    return _FORMULA_AROUND.sub(" ", text)


def _described(attributes: Mapping[str, str]) -> str:
    """Attributes that may be read as text: those with a letter in them that are no address."""
    told = ((key, squeeze(value)) for key, value in attributes.items() if not key.startswith("{"))
    return "; ".join(f"{key}={text}" for key, text in told if "://" not in text and any(map(str.isalnum, text)))


def _columns(attributes: Mapping[str, str], names: Mapping[str, int]) -> int:
    if (span := attributes.get("colspan") or "").isdigit():
        return int(span)
    first, last = names.get(attributes.get("namest") or ""), names.get(attributes.get("nameend") or "")
    return last - first + 1 if first is not None and last is not None and last > first else 1


def _rows(attributes: Mapping[str, str]) -> int:
    if (span := attributes.get("rowspan") or "").isdigit():
        return int(span)
    more = attributes.get("morerows") or ""
    return int(more) + 1 if more.isdigit() else 1
