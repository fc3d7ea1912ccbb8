"""The walk over an HTML tree: groups the text, classifies it, and assigns it to headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from lxml import etree

from pipeline.parse.parsed import clean, pieces, squeeze
from pipeline.types import Element, ElementKind

#: lxml has no type information.
Node = Any

_UNSEEN_NAMES = "script style template head noscript svg iframe object select textarea button input noembed noframes"
_UNSEEN = frozenset(_UNSEEN_NAMES.split())
_BLOCK_NAMES = (
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure footer form "
    "h1 h2 h3 h4 h5 h6 header hgroup hr legend li listing main menu nav ol p plaintext pre section summary table tbody td tfoot "
    "th thead tr ul xmp"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_PRE = frozenset(("pre", "listing", "xmp", "plaintext"))
_BOILERPLATE_ROLES = frozenset(("navigation", "search", "banner", "contentinfo", "menu", "menubar", "toolbar"))
_BOILERPLATE_CLASSES = frozenset(
    ("headerlink", "anchorjs-link", "footer", "navbar", "navigation", "sphinxsidebar", "breadcrumb", "breadcrumbs", "mobile-nav",
     "skip-link", "sr-only", "visually-hidden", "linenos", "linenodiv", "gutter", "mw-editsection")
)  # fmt: skip
_PERMALINK = re.compile(r"[¶§#\uf0c1🔗\s]+$")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
#: Parts whose `header` and `footer` children belong to the content.
_SECTIONS = frozenset(("article", "main", "section", "blockquote", "td"))
#: Minimum share of a page's text in its main part for the rest to count as boilerplate.
MAIN_SHARE = 0.5
#: A longer cell holds layout, not data.
MAX_CELL_CHARS = 1_500
MAX_NAME_CHARS = 100


@dataclass(slots=True)
class Walk:
    """One pass over a tree; `left_out` and the other results are final when `elements` is exhausted."""

    root: Node
    title: str = ""  #: the first heading of the highest level
    left_out: int = 0  #: number of characters, without white space, skipped on purpose
    in_headers: int = 0  #: number of characters, without white space, in table headers, which rows repeat
    _run: list[str] = field(default_factory=list)
    _context: list[str] = field(default_factory=list)  #: open elements that determine the kind of text
    _heading: tuple[int, str] | None = None  #: the heading above the current text
    _stale: bool = False  #: object headings have ended; the heading above must be repeated
    _lists: list[tuple[int, str] | None] = field(default_factory=list)  #: headings at the start of the open definition lists
    _label: str = ""  #: title of a note; waits for the note's first paragraph
    _mark: str = ""  #: number of the item in an ordered list
    _counts: list[int] = field(default_factory=list)  #: items so far in the open lists; -1 for unordered lists
    _top: int = 99  #: level of `title`

    @classmethod
    def of(cls, page: str) -> Walk | None:
        """A walk over the tree of `page`; None where lxml finds none in it."""
        # huge_tree raises libxml2's maximum tree depth from 256 to 2,048.
        parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, no_network=True, remove_comments=True, remove_pis=True)
        try:
            root = etree.fromstring(page.encode("utf-8", "replace"), parser)
        except (etree.XMLSyntaxError, ValueError):
            return None
        return cls(root) if root is not None else None

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
                if node is not body and self._is_boilerplate(node, tag):
                    self.left_out += _size(node)
                    walk.skip_subtree()
                    skipped = node
                elif tag == "table" and (rows := self._data_rows(node)) is not None:
                    yield from self._flush()
                    for row in rows:
                        yield from self._emit(row)
                    walk.skip_subtree()
                    skipped = node
                elif tag in _BLOCKS or tag == "br":
                    yield from self._open(node, tag)
                elif node.text:
                    self._run.append(node.text)
            else:
                if node is skipped:
                    skipped = None
                elif tag in _BLOCKS:
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
        if tag in _UNSEEN or tag == "nav":
            return True
        names = node.keys()
        if "hidden" in names or ("role" in names and node.get("role") in _BOILERPLATE_ROLES):
            return True
        if "style" in names and _HIDDEN.search(node.get("style", "")):
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

    def _open(self, node: Node, tag: str) -> Iterator[Element]:
        if tag == "br":
            self._run.append("\n" + (node.text or ""))
            return
        yield from self._flush()
        if tag in ("ul", "ol", "menu", "dir"):
            self._counts.append(0 if tag == "ol" else -1)
        elif tag == "li":
            self._mark = ""
            if self._counts and self._counts[-1] >= 0:
                self._counts[-1] += 1
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
        """Emit the text since the last block began or ended."""
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
        if table.get("role") in ("presentation", "none") or table.find(".//table") is not None:
            return None
        if table.find(".//pre") is not None or table.xpath("boolean(.//h1 | .//h2 | .//h3 | .//h4 | .//section | .//article)"):
            return None
        header, rows = "", list[Element]()
        found: list[tuple[str, bool]] = []
        for row in table.iter("tr"):
            cells = [c for c in row if c.tag in ("td", "th")]
            texts = [squeeze(" ".join(c.itertext())) for c in cells]
            if any(len(t) > MAX_CELL_CHARS for t in texts):
                return None
            line = " | ".join(texts) if any(texts) else ""
            is_head = bool(cells) and (all(c.tag == "th" for c in cells) or _in_head(row))
            if line:
                found.append((line, is_head))
        if not found or (len(found) == 1 and " | " not in found[0][0]):
            return None
        for line, is_head in found:
            if is_head and not rows:
                header = f"{header} / {line}" if header else line
            else:
                rows.append(Element(line, ElementKind.TABLE_ROW, header=header))
        caption = table.find("caption")
        title = squeeze("".join(caption.itertext())) if caption is not None else ""
        self.in_headers += sum(map(len, header.split())) if rows else 0
        return [*([Element(title)] if title else []), *(rows or [Element(header, ElementKind.TABLE_ROW)])]


def _in_head(row: Node) -> bool:
    parent = row.getparent()
    return parent is not None and parent.tag == "thead"


def _follows_dt(node: Node) -> bool:
    before = node.getprevious()
    return before is not None and before.tag == "dt"


def _size(node: Node) -> int:
    """Number of visible characters of `node` without white space."""
    total = sum(map(len, " ".join(node.itertext()).split()))
    for unseen in node.iter(*_UNSEEN):
        if not any(a.tag in _UNSEEN for a in unseen.iterancestors()):
            total -= sum(map(len, " ".join(unseen.itertext()).split()))
    return total
