"""The walk over an HTML tree: groups the text, classifies it, and assigns it to headings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from lxml import etree

from pipeline.parse.htmlshown import BLOCKS, UNSEEN, drawn_text, is_heading_button, is_hidden, shown_text
from pipeline.parse.htmltable import capped, lays_out, names_columns, own_rows
from pipeline.parse.mathml import linear
from pipeline.parse.parsed import clean, pieces, squeeze
from pipeline.parse.tables import MAX_CELL_CHARS, Cell, Row, table_elements
from pipeline.types import Element, ElementKind

#: lxml has no type information.
Node = Any

_PRE = frozenset(("pre", "listing", "xmp", "plaintext"))
_BOILERPLATE_ROLES = frozenset(("navigation", "search", "banner", "contentinfo"))
#: Roles of lists of commands; some pages give them to content.
_COMMAND_ROLES = frozenset(("menu", "menubar", "toolbar"))
#: Minimum share of links and buttons in the text of a list of commands.
COMMAND_SHARE = 0.8
_BOILERPLATE_CLASSES = frozenset(
    ("headerlink", "anchorjs-link", "footer", "navbar", "navigation", "sphinxsidebar", "breadcrumb", "breadcrumbs", "mobile-nav",
     "skip-link", "sr-only", "visually-hidden", "linenos", "linenodiv", "gutter", "mw-editsection")
)  # fmt: skip
_PERMALINK = re.compile(r"[¶§#\uf0c1🔗\s]+$")
#: Parts whose `header` and `footer` children belong to the content.
_SECTIONS = frozenset(("article", "main", "section", "blockquote", "td"))
#: Minimum share of a page's text in its main part for the rest to count as boilerplate.
MAIN_SHARE = 0.5
MAX_NAME_CHARS = 100


@dataclass(slots=True)
class Walk:
    """One pass over a tree; `left_out` and the other results are final when `elements` is exhausted."""

    root: Node
    contained: bool = False  #: whether the pictures that the page refers to lie in its document, as in a book
    title: str = ""  #: the first heading of the highest level
    left_out: int = 0  #: number of characters, without white space, skipped on purpose
    pictures: int = 0  #: number of pictures inside the page that nothing describes
    in_headers: int = 0  #: number of characters, without white space, in table headers, which rows repeat
    _run: list[str] = field(default_factory=list)
    _drawn: list[str] = field(default_factory=list)  #: words of the drawings inside the current text
    _context: list[str] = field(default_factory=list)  #: open elements that determine the kind of text
    _heading: tuple[int, str] | None = None  #: the heading above the current text
    _stale: bool = False  #: object headings have ended; the heading above must be repeated
    _lists: list[tuple[int, str] | None] = field(default_factory=list)  #: headings at the start of the open definition lists
    _label: str = ""  #: title of a note; waits for the note's first paragraph
    _mark: str = ""  #: number of the item in an ordered list
    _counts: list[int] = field(default_factory=list)  #: items so far in the open lists; -1 for unordered lists
    _top: int = 99  #: level of `title`

    @classmethod
    def of(cls, page: str, *, contained: bool = False) -> Walk | None:
        """A walk over the tree of `page`; None where lxml finds none in it."""
        # huge_tree raises libxml2's maximum tree depth from 256 to 2,048.
        parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, no_network=True, remove_comments=True, remove_pis=True)
        try:
            root = etree.fromstring(page.encode("utf-8", "replace"), parser)
        except (etree.XMLSyntaxError, ValueError):
            return None
        return cls(root, contained) if root is not None else None

    def elements(self) -> Iterator[Element]:
        """Elements of the page, or of its main part where it is marked and holds most of the text."""
        body = self.root.find(".//body")
        body = self.root if body is None else body
        main = self._main(body)
        if main is not None:
            body, around = main
            self.left_out += around
        walk = etree.iterwalk(body, events=("start", "end"))
        skipped: Node | None = None  # an element that the walk does not enter; its end comes next
        for event, node in walk:
            tag = node.tag if isinstance(node.tag, str) else ""
            if event == "start":
                if tag == "math" and _is_equation(node) and not self._is_boilerplate(node, tag):
                    self._equation(node)
                    walk.skip_subtree()
                    skipped = node
                elif node is not body and self._is_boilerplate(node, tag):
                    if tag == "svg" and not is_hidden(node):
                        self._drawing(node)
                    self.left_out += _size(node)
                    walk.skip_subtree()
                    skipped = node
                elif tag == "table" and (rows := self._data_rows(node)) is not None:
                    yield from self._flush()
                    for row in rows:
                        yield from self._emit(row)
                    walk.skip_subtree()
                    skipped = node
                elif tag in BLOCKS or tag == "br":
                    yield from self._open(node, tag)
                elif tag == "img":
                    self._picture(node)
                elif node.text:
                    self._run.append(node.text)
            else:
                if node is skipped:
                    skipped = None
                elif tag in BLOCKS:
                    yield from self._close(node, tag)
                if node is not body and node.tail:
                    self._run.append(node.tail)
        yield from self._flush()

    def _main(self, body: Node) -> tuple[Node, int] | None:
        """The part marked as the main one, and the amount of text around it; None where it is not most of the page."""
        found = body.xpath(".//main | .//*[@role='main']")
        if len(found) != 1:
            return None
        sizes = 0
        for part in body.xpath(".//nav | .//*[@role='navigation'] | .//header | .//footer"):
            if part.getparent() is not None and not any(a is found[0] for a in part.iterancestors()):
                sizes += _size(part)
        whole, inside = _size(body), _size(found[0])
        return (found[0], whole - inside) if inside >= MAIN_SHARE * max(0, whole - sizes) else None

    def _is_boilerplate(self, node: Node, tag: str) -> bool:
        if (tag in UNSEEN and not is_heading_button(node)) or tag == "nav":
            return True
        names = node.keys()
        role = node.get("role") if "role" in names else ""
        if role in _BOILERPLATE_ROLES or (role in _COMMAND_ROLES and _is_commands(node)):
            return True
        # A panel of tabs is hidden until its tab is chosen, and is content all the same.
        if role != "tabpanel" and is_hidden(node):
            return True
        if "class" in names and not _BOILERPLATE_CLASSES.isdisjoint(node.get("class", "").split()):
            return True
        if tag == "a" and len(node) == 0 and node.text and len(node.text) < 4 and _PERMALINK.match(node.text):
            return True
        return tag in ("header", "footer") and self._is_page_part(node)

    @staticmethod
    def _is_page_part(node: Node) -> bool:
        """Whether a `header` or `footer` belongs to the page; one with the page's only heading is content."""
        if any(a.tag in _SECTIONS for a in node.iterancestors()):
            return False
        return node.tag == "footer" or node.find(".//h1") is None

    def _picture(self, node: Node) -> None:
        """The words that describe a picture are part of the text around it; one inside the page without words is a loss."""
        if words := squeeze(node.get("alt") or ""):
            self._run.append(f" {words} ")
            self.left_out -= sum(map(len, words.split()))  # they are no text of the page
        else:
            self.pictures += self._is_silent(node)

    def _is_silent(self, node: Node) -> bool:
        """Whether a picture lies inside the document and nothing describes it; an empty description marks decoration."""
        inside = self.contained or (node.get("src") or "").startswith("data:")
        return inside and "alt" not in node.keys()  # noqa: SIM118

    def _equation(self, node: Node) -> None:
        """An equation as linear text, without the formula in another language that it may carry."""
        told = linear(node)
        self._run.append(f" {told} " if node.get("display") == "block" else told)

    def _drawing(self, node: Node) -> None:
        """The words of a drawing, which follow the text that it stands in."""
        if text := drawn_text(node):
            self._drawn.append(text)
            self.left_out -= sum(map(len, text.split()))  # it is not counted as text of the page

    def _open(self, node: Node, tag: str) -> Iterator[Element]:
        if tag == "br":
            self._run.append("\n" + (node.text or ""))
            return
        yield from self._flush()
        if tag in ("ul", "ol", "menu", "dir"):
            start = _number(node.get("start"), 1)
            self._counts.append(max(0, start - 1) if tag == "ol" else -1)
        elif tag == "li":
            self._mark = ""
            if self._counts and self._counts[-1] >= 0:
                self._counts[-1] = _number(node.get("value"), self._counts[-1] + 1)
                self._mark = f"{self._counts[-1]}. "
            self._context.append("li")
        elif tag == "dl":
            self._lists.append(self._heading)
        elif tag in ("dt", "dd") or tag in _PRE or (len(tag) == 2 and tag[0] == "h" and tag[1].isdigit()):
            self._context.append("pre" if tag in _PRE else tag)
        if node.text:
            self._run.append(node.text)

    def _close(self, node: Node, tag: str) -> Iterator[Element]:
        if tag == "p" and "admonition-title" in node.get("class", ""):
            self._label = squeeze("".join(self._run))
            self._run.clear()
            return
        yield from self._flush(node)
        if tag in ("ul", "ol", "menu", "dir") and self._counts:
            self._counts.pop()
        elif tag == "dl" and self._lists:
            outer = self._lists.pop()
            if outer != self._heading:
                self._heading, self._stale = outer, outer is not None
        elif self._context and (tag == self._context[-1] or (tag in _PRE and self._context[-1] == "pre")):
            self._context.pop()

    def _flush(self, closing: Node | None = None) -> Iterator[Element]:
        """Emit the text since the last block began or ended, then the words of the drawings in it."""
        yield from self._text(closing)
        drawn, self._drawn = self._drawn, []
        for text in drawn:
            yield from self._emit(Element(text))

    def _text(self, closing: Node | None) -> Iterator[Element]:
        if not self._run:
            return
        raw = "".join(self._run)
        self._run.clear()
        context = self._context[-1] if self._context else ""
        if context == "pre":
            text = clean(raw, strip=False).strip("\n").rstrip()
            if text.strip():
                yield from self._emit(Element(text, ElementKind.CODE))
            return
        text = squeeze(raw)
        if not text:
            return
        if context[:1] == "h":
            yield from self._title(int(context[1]) or 1, text)
        elif context == "dt" and closing is not None and (name := self._object_name(closing, text)):
            base = self._lists[-1] if self._lists else None
            self._stale = False
            yield from self._titled((base[0] if base else 0) + 1, name)
            if name != text:
                yield Element(text)
        else:
            if self._label:
                text, self._label = f"{self._label}: {text}", ""
            text, self._mark = self._mark + text, ""
            is_item = context == "li" or text.startswith("• ")  # what lists become in rich text
            yield from self._emit(Element(text.removeprefix("• "), ElementKind.LIST_ITEM if is_item else ElementKind.PARAGRAPH))

    @staticmethod
    def _object_name(node: Node, text: str) -> str:
        """The name that a definition list defines in `node`: a Sphinx signature or a term that can be linked to."""
        classes = node.get("class", "").split()
        if "sig" in classes or node.find(".//*[@class='sig-name descname']") is not None:
            parts = node.xpath(".//*[contains(@class, 'sig-prename') or contains(@class, 'sig-name')]")
            if not node.get("id") and _follows_dt(node):  # a second signature of one object stays under the first
                return ""
            return squeeze("".join("".join(p.itertext()) for p in parts))[:MAX_NAME_CHARS]
        return text if node.get("id") and len(text) <= MAX_NAME_CHARS else ""

    def _title(self, level: int, text: str) -> Iterator[Element]:
        if self._stale and self._heading is not None and level > self._heading[0] + 1:
            yield self._again()
        self._stale = False
        if level < self._top:
            self._top, self.title = level, text
        yield from self._titled(level, text)

    def _titled(self, level: int, text: str) -> Iterator[Element]:
        self._heading = level, text
        yield Element(text, ElementKind.HEADING, level)

    def _again(self) -> Element:
        level, text = cast("tuple[int, str]", self._heading)
        self.left_out -= sum(map(len, text.split()))  # repeated, but counted once
        return Element(text, ElementKind.HEADING, level)

    def _emit(self, element: Element) -> Iterator[Element]:
        if self._stale:
            self._stale = False
            yield self._again()
        for first, last in pieces(element.text):
            part = element.text[first:last].rstrip()
            if part.strip():
                yield Element(part, element.kind, header=element.header)

    def _data_rows(self, table: Node) -> list[Element] | None:
        """The rows of a table of data; None for a table that lays out a page."""
        if table.get("role") in ("presentation", "none") or (nodes := own_rows(table)) is None:
            return None
        rows: list[Row] = []
        left = Counter(node.getparent() for node in nodes)  # rows of each part of the table
        named = names_columns(nodes)
        for node in nodes:
            cells = [c for c in node if c.tag in ("td", "th")]
            texts = [squeeze(shown_text(c)) for c in cells]
            if any(len(text) > MAX_CELL_CHARS for text in texts):
                return None
            heads = bool(cells) and (all(c.tag == "th" for c in cells) or _in_head(node) or (named and node is nodes[0]))
            if any(texts) or rows or any(_rows(c, 2) > 1 for c in cells):
                below = left[node.getparent()]
                told = [Cell(t, _span(c, "colspan"), _rows(c, below)) for c, t in zip(cells, texts, strict=True)]
                rows.append(Row(told, heads if cells or not rows else rows[-1].heads))
            left[node.getparent()] -= 1
        width = max((len(row.cells) for row in rows), default=0)
        filled = sum(1 for row in rows if any(cell.text for cell in row.cells))
        if not rows or (width < 2 and (filled == 1 or lays_out(table))):
            return None
        self.pictures += sum(map(self._is_silent, table.iter("img")))
        found = list(table_elements(capped(rows), marked=True))
        caption = table.find("caption")
        title = squeeze(shown_text(caption)) if caption is not None else ""
        self.in_headers += sum(sum(map(len, header.split())) for header in {e.header for e in found})
        return [*([Element(title)] if title else []), *found]


def _is_equation(node: Node) -> bool:
    """Whether `node` was closed: one that was left open holds the blocks that follow it."""
    block = next(node.iter(*BLOCKS), None)
    return block is None or any(a.tag == "annotation-xml" for a in block.iterancestors())


def _is_commands(node: Node) -> bool:
    """Whether nearly all text of `node` is in links and buttons."""
    inside = sum(
        _size(link) for link in node.iter("a", "button") if not any(a.tag in ("a", "button") for a in link.iterancestors())
    )
    return inside >= COMMAND_SHARE * (_size(node) + sum(len("".join(b.itertext()).split()) for b in node.iter("button")))


def _number(value: str | None, otherwise: int) -> int:
    return int(value) if value is not None and value.isdecimal() and len(value) < 9 else otherwise


def _span(cell: Node, name: str) -> int:
    value = (cell.get(name) or "1").strip()
    return int(value) if value.isdigit() and len(value) < 6 else 1


def _rows(cell: Node, below: int) -> int:
    """The number of rows that a cell spans: not more than its part of the table has from it on, and for 0 all of those."""
    return min(_span(cell, "rowspan") or below, below)


def _in_head(row: Node) -> bool:
    parent = row.getparent()
    return parent is not None and parent.tag == "thead"


def _follows_dt(node: Node) -> bool:
    before = node.getprevious()
    return before is not None and before.tag == "dt"


def _size(node: Node) -> int:
    """Number of visible characters of `node` without white space."""
    total = sum(map(len, " ".join(node.itertext()).split()))
    for unseen in node.iter(*UNSEEN):
        if not any(a.tag in UNSEEN for a in unseen.iterancestors()):
            total -= sum(map(len, " ".join(unseen.itertext()).split()))
    return total
