"""Styles of OpenDocument files: which paragraphs are headings, and the numbers of lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.parse.ooxml.styles import named_style, numeral
from pipeline.parse.opendocument.package import FO, STYLE, TABLE, TEXT, Node

_NUMERALS = {"a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman"}


@dataclass(slots=True)
class Style:
    """What a paragraph style and its ancestors say about structure."""

    level: int = 0  #: of a heading, 1 the highest; 0: no heading
    is_code: bool = False
    unnumbered: bool = False  #: whether it takes the number of the outline away
    breaks: tuple[bool, bool] = (False, False)  #: whether a page begins before it, and after it


@dataclass(frozen=True, slots=True)
class _Level:
    format: str = ""
    prefix: str = ""
    suffix: str = ""
    shown: int = 1  #: number of levels in a number
    start: int = 1


def number(text: str | None, otherwise: int = 1) -> int:
    """A whole number of an attribute; attributes of strangers may hold anything."""
    return int(text) if text is not None and text.isdecimal() and len(text) < 9 else otherwise


class Styles:
    """The styles of a document, by their names."""

    def __init__(self, *roots: Node | None) -> None:
        self._nodes: dict[tuple[str, str], Node] = {}
        self._lists: dict[str, dict[int, _Level]] = {}
        self._read: dict[str, Style] = {}
        for root in roots:
            if root is not None:
                self.add(root)

    def add(self, root: Node) -> None:
        """Read the styles below a node; later ones replace earlier ones of their name."""
        for node in root.iter(f"{STYLE}style"):
            self._nodes[node.get(f"{STYLE}family") or "", node.get(f"{STYLE}name") or ""] = node
        for node in root.iter(f"{TEXT}list-style", f"{TEXT}outline-style"):
            name = node.get(f"{STYLE}name") or "" if node.tag.endswith("}list-style") else ""
            self._lists[name] = dict(_levels(node))
        self._read.clear()

    def chain(self, family: str, name: str | None) -> Iterator[Node]:
        """A style, and those that it inherits from."""
        seen: set[str] = set()
        while name and name not in seen and (node := self._nodes.get((family, name))) is not None:
            seen.add(name)
            yield node
            name = node.get(f"{STYLE}parent-style-name")

    def paragraph(self, name: str | None) -> Style:
        """The style of a paragraph."""
        if (found := self._read.get(name or "")) is None:
            found = self._read[name or ""] = self._paragraph(name)
        return found

    def _paragraph(self, name: str | None) -> Style:
        made, outline = Style(), None
        lists: str | None = None
        nodes = list(self.chain("paragraph", name))
        for node in nodes:
            if outline is None:
                outline = node.get(f"{STYLE}default-outline-level")
            if lists is None:
                lists = node.get(f"{STYLE}list-style-name")
            named = named_style(node.get(f"{STYLE}display-name") or (node.get(f"{STYLE}name") or "").replace("_20_", " "))
            made.level = made.level or named.level
            made.is_code = made.is_code or named.is_code or (node.get(f"{STYLE}name") or "").startswith("Preformatted")
        if not nodes and name:
            made.level = named_style(name.replace("_20_", " ")).level
        made.level = number(outline, 0) or made.level
        made.unnumbered = lists == ""
        before = any(node.get(f"{STYLE}master-page-name") for node in nodes[:1])
        made.breaks = before or _breaks(nodes, "before"), _breaks(nodes, "after")
        return made

    def is_hidden_sheet(self, name: str | None) -> bool:
        """Whether a style of tables hides them."""
        properties = [node.find(f"{STYLE}table-properties") for node in self.chain("table", name)]
        shown = next((p.get(f"{TABLE}display") for p in properties if p is not None and p.get(f"{TABLE}display")), "true")
        return shown == "false"

    def data_style(self, cell_style: str | None) -> str:
        """The name of the number format of a cell's style; empty without one."""
        found = (node.get(f"{STYLE}data-style-name") for node in self.chain("table-cell", cell_style))
        return next(filter(None, found), "")

    def levels(self, list_style: str) -> dict[int, _Level]:
        """The levels of a list's style; those of the outline for an empty name."""
        return self._lists.get(list_style, {})


def _breaks(nodes: list[Node], side: str) -> bool:
    found = (node.find(f"{STYLE}paragraph-properties") for node in nodes)
    return next((p.get(f"{FO}break-{side}") for p in found if p is not None and p.get(f"{FO}break-{side}")), "") == "page"


def _levels(node: Node) -> Iterator[tuple[int, _Level]]:
    for child in node:
        numbered = child.tag in (f"{TEXT}list-level-style-number", f"{TEXT}outline-level-style")
        yield (
            number(child.get(f"{TEXT}level")),
            _Level(
                (child.get(f"{STYLE}num-format") or "") if numbered else "",
                child.get(f"{STYLE}num-prefix") or "",
                child.get(f"{STYLE}num-suffix") or "",
                number(child.get(f"{TEXT}display-levels")),
                number(child.get(f"{TEXT}start-value")),
            ),
        )


@dataclass(slots=True)
class Counts:
    """How far a list has counted, by level."""

    at: dict[int, int] = field(default_factory=dict)

    def label(self, levels: dict[int, _Level], level: int, start: str | None = None) -> str:
        """Count one more item, and return its number; empty for a bullet. `start` is a number that the item sets."""
        own = levels.get(level, _Level())
        self.at[level] = number(start, self.at.get(level, own.start - 1) + 1)
        for deeper in [at for at in self.at if at > level]:
            del self.at[deeper]
        if not own.format:
            return ""
        shown = [at for at in range(max(1, level - own.shown + 1), level + 1) if levels.get(at, _Level()).format]
        numbers = (numeral(_NUMERALS.get(levels[at].format, ""), self.at.get(at, levels[at].start)) for at in shown)
        return f"{own.prefix}{'.'.join(numbers)}{own.suffix}".strip()


class Lists:
    """The lists of a document that have begun; one may continue another one."""

    def __init__(self) -> None:
        self._by_id: dict[str, Counts] = {}
        self._by_style: dict[str, Counts] = {}

    def begin(self, node: Node, style: str) -> Counts:
        """The counts of the list `node`: those of the list that it continues, else new ones."""
        identity = node.get("{http://www.w3.org/XML/1998/namespace}id") or ""
        counts = self._by_id.get(node.get(f"{TEXT}continue-list") or "-")
        if counts is None and node.get(f"{TEXT}continue-numbering") == "true":
            counts = self._by_style.get(style)
        counts = counts or Counts()
        self._by_style[style] = counts
        if identity:
            self._by_id[identity] = counts
        return counts
