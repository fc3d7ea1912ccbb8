"""Styles and numbering of a Word file: the level of a heading, and the number in front of a paragraph."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.parse.ooxml.package import Node, Package, W

_HEADING_NAME = re.compile(r"heading\s*(\d)", re.I)
#: Levels of outlines: 0 to 8 are headings, 9 is running text.
MAX_OUTLINE = 8
_PLACE = re.compile(r"%(\d)")
_ROMAN = (
    (1000, "m"),
    (900, "cm"),
    (500, "d"),
    (400, "cd"),
    (100, "c"),
    (90, "xc"),
    (50, "l"),
    (40, "xl"),
    (10, "x"),
    (9, "ix"),
    (5, "v"),
    (4, "iv"),
    (1, "i"),
)


@dataclass(frozen=True, slots=True)
class Style:
    """What a paragraph style says about structure."""

    level: int = 0  #: of a heading, 1 the highest; 0: no heading
    outline: bool = False  #: whether `level` comes from an outline level
    numbering: tuple[str, int] | None = None  #: id of a numbering, and its level
    is_item: bool = False
    is_code: bool = False


def value(node: Node | None, path: str) -> str | None:
    """The value of a property element below `node`; None where it is missing."""
    found = node.find("/".join(f"{W}{step}" for step in path.split("/"))) if node is not None else None
    return None if found is None else found.get(f"{W}val") or ""


def own_font(run: Node) -> str:
    """The font that a run names for itself."""
    fonts = run.find(f"{W}rPr/{W}rFonts")
    return "" if fonts is None else fonts.get(f"{W}ascii") or fonts.get(f"{W}hAnsi") or ""


def numbering_of(properties: Node | None) -> tuple[str, int] | None:
    """The id of a numbering and the level in it; the id 0 means none."""
    number = value(properties, "numPr/numId")
    if number is None:
        return None
    level = value(properties, "numPr/ilvl") or "0"
    return number, int(level) if level.isdigit() else 0


def heading_level(properties: Node | None) -> int | None:
    """The heading level of an outline level; 0 for running text, None where there is none."""
    outline = value(properties, "outlineLvl")
    if outline is None or not outline.isdigit():
        return None
    return int(outline) + 1 if int(outline) <= MAX_OUTLINE else 0


def read_styles(package: Package) -> dict[str, Style]:
    """The paragraph styles by their ids, each with what it inherits."""
    nodes: dict[str, Node] = {}
    for part in package.related(package.main, "styles"):
        root = package.tree(part)
        for node in root.iterchildren(f"{W}style") if root is not None else ():
            nodes.setdefault(node.get(f"{W}styleId") or "", node)
    return {key: _style(key, nodes) for key in nodes}


def named_style(name: str) -> Style:
    """The style that a name or an id stands for, in files that do not describe their styles."""
    heading = _HEADING_NAME.match(name)
    low = name.lower()
    return Style(
        level=max(1, int(heading.group(1))) if heading else int(low == "title"),
        is_item=low.startswith("list") and "table" not in low,
        is_code="code" in low or low in ("htmlpreformatted", "html preformatted", "plaintext", "plain text", "macro"),
    )


def _style(key: str, nodes: dict[str, Node]) -> Style:
    outline: int | None = None
    numbering: tuple[str, int] | None = None
    named = Style()
    seen: set[str] = set()
    while key in nodes and key not in seen:  # styles may be based on each other in a circle
        seen.add(key)
        node = nodes[key]
        properties = node.find(f"{W}pPr")
        outline = heading_level(properties) if outline is None else outline
        numbering = numbering_of(properties) if numbering is None else numbering
        found = named_style(value(node, "name") or key)
        named = Style(named.level or found.level, is_item=named.is_item or found.is_item, is_code=named.is_code or found.is_code)
        key = value(node, "basedOn") or ""
    return Style(named.level if outline is None else outline, outline is not None, numbering, named.is_item, named.is_code)


@dataclass(slots=True)
class _Level:
    format: str = "decimal"
    text: str = ""
    start: int = 1
    style: str = ""


@dataclass(slots=True)
class Numbering:
    """The numberings of a document, and how far each has counted."""

    _levels: dict[str, dict[int, _Level]] = field(default_factory=dict)  #: by numbering id and level
    _abstract: dict[str, str] = field(default_factory=dict)  #: numberings of the same list count together
    _counts: dict[str, dict[int, int]] = field(default_factory=dict)
    _restarts: dict[str, dict[int, int]] = field(default_factory=dict)  #: starts that a numbering of its own sets

    @classmethod
    def of(cls, package: Package) -> Numbering:
        """The numberings of a document."""
        made = cls()
        for part in package.related(package.main, "numbering"):
            if (root := package.tree(part)) is not None:
                made._read(root)
        return made

    def label(self, number: str, level: int) -> str | None:
        """Count one more paragraph, and return its number; empty for a bullet, None where there is no such numbering."""
        levels = self._levels.get(number)
        if levels is None:
            return None
        if (own := levels.get(level)) is None:
            return ""
        counts = self._counts.setdefault(self._abstract[number], {})
        for at, start in self._restarts.pop(number, {}).items():
            counts[at] = start - 1
        counts[level] = counts.get(level, own.start - 1) + 1
        for deeper in [at for at in counts if at > level]:
            del counts[deeper]
        if own.format in ("bullet", "none"):
            return ""

        def at_level(match: re.Match[str]) -> str:
            at = int(match.group(1)) - 1
            shape = levels.get(at, own)
            return numeral(shape.format, counts.get(at, shape.start))

        return _PLACE.sub(at_level, own.text).strip()

    def _read(self, root: Node) -> None:
        abstract = {
            node.get(f"{W}abstractNumId") or "": {
                int(found.get(f"{W}ilvl") or 0): _level(found) for found in node.iterchildren(f"{W}lvl")
            }
            for node in root.iterchildren(f"{W}abstractNum")
        }
        for node in root.iterchildren(f"{W}num"):
            key, of = node.get(f"{W}numId") or "", value(node, "abstractNumId") or ""
            levels = dict(abstract.get(of, {}))
            for override in node.iterchildren(f"{W}lvlOverride"):
                at = int(override.get(f"{W}ilvl") or 0)
                if (found := override.find(f"{W}lvl")) is not None:
                    levels[at] = _level(found)
                start = value(override, "startOverride")
                if start is not None and start.isdigit():
                    self._restarts.setdefault(key, {})[at] = int(start)
            self._levels[key], self._abstract[key] = levels, of


def _level(node: Node) -> _Level:
    start = value(node, "start") or "1"
    return _Level(value(node, "numFmt") or "decimal", value(node, "lvlText") or "", int(start) if start.isdigit() else 1)


def numeral(shape: str, number: int) -> str:
    """A number in a format of WordprocessingML, such as `lowerRoman`; decimal where the format is not known."""
    return _FORMATS.get(shape, str)(number)


def _roman(number: int) -> str:
    told = ""
    for worth, sign in _ROMAN:
        while number >= worth and len(told) < 20:
            told, number = told + sign, number - worth
    return told


def _letters(number: int) -> str:
    """A to z, then aa, bb and so on, as Word counts."""
    return chr(97 + (number - 1) % 26) * min(1 + (number - 1) // 26, 10) if number > 0 else str(number)


_FORMATS: dict[str, Callable[[int], str]] = {
    "lowerRoman": _roman,
    "upperRoman": lambda n: _roman(n).upper(),
    "lowerLetter": _letters,
    "upperLetter": lambda n: _letters(n).upper(),
    "decimalZero": lambda n: f"{n:02}",
}
