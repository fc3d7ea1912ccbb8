"""Equations of RTF files, which name the elements of Office's mathematical markup."""

from __future__ import annotations

from lxml import etree

from pipeline.parse.ooxml.equations import linear
from pipeline.parse.ooxml.package import M, Node
from pipeline.parse.parsed import clean

#: Maximum depth of an equation; deeper parts are read as text of the part around them.
MAX_DEPTH = 60


class Equation:
    """An equation, or a part of one, that is being read."""

    def __init__(self, node: Node, depth: int = 0) -> None:
        self._node = node
        self._depth = depth

    @classmethod
    def begin(cls) -> Equation:
        """An equation without parts."""
        return cls(etree.Element(f"{M}oMath"))

    def inner(self, name: str) -> Equation:
        """A part that begins; only groups have parts, and other words describe how a part looks."""
        if self._depth >= MAX_DEPTH:
            return self
        return Equation(etree.SubElement(self._node, f"{M}{name}"), self._depth + 1)

    def say(self, text: str) -> None:
        """Text of the part, or the value of a property."""
        text = clean(text, strip=False)
        if self._node.tag in (f"{M}r", f"{M}oMath") or self._depth >= MAX_DEPTH:
            etree.SubElement(self._node, f"{M}t").text = text
        else:
            self._node.set(f"{M}val", text)

    def linear(self) -> str:
        """The whole as text."""
        return linear(self._node)
