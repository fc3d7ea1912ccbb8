"""Equations in MathML, of OpenDocument files and pages, as `pipeline.parse.ooxml.equations` writes those of Office."""

from __future__ import annotations

import re
from typing import Any

from pipeline.parse.parsed import squeeze

#: lxml has no type information.
Node = Any

_SINGLE = re.compile(r"\w+$|.$", re.S)
_SILENT = ("annotation", "annotation-xml")
_LEAVES = ("mi", "mn", "mo", "mtext", "ms")
#: Leaves that are words among the signs.
_WORDS = ("mtext", "ms")
_SUBS, _SUPS = ("msub", "munder"), ("msup", "mover")
_BOTH = ("msubsup", "munderover")


def linear(node: Node) -> str:
    """The text of an equation; one that is nested too deeply keeps its words alone."""
    try:
        return squeeze(_linear(node))
    except RecursionError:
        return squeeze("".join(node.itertext()))


def _linear(node: Node) -> str:
    """The text of an equation, or of one of its parts."""
    name = _name(node)
    if not name or name in _SILENT:
        return ""
    if name in _LEAVES:
        text = squeeze("".join(node.itertext()))
        return f" {text} " if name in _WORDS else text
    children = [child for child in node if _name(child) not in ("", *_SILENT)]
    told = {child: _linear(child) for child in children}
    between = [_stray(node.text)]
    for child in node:
        between += [told.get(child, ""), _stray(child.tail)]
    whole = "".join(between)
    if any(between[::2]):  # not MathML as it should be
        return whole
    return f"√({whole.strip()})" if name == "msqrt" else _shaped(name, [part.strip() for part in told.values()]) or whole


def _shaped(name: str, told: list[str]) -> str:
    """The parts of an equation as the element `name` puts them together; empty for one that puts them side by side."""
    if name == "mfrac" and len(told) == 2:
        return f"{_group(told[0])}/{_group(told[1])}"
    if name in _SUBS and len(told) == 2:
        return f"{told[0]}_{_group(told[1])}"
    if name in _SUPS and len(told) == 2:
        return f"{told[0]}^{_group(told[1])}"
    if name in _BOTH and len(told) == 3:
        return f"{told[0]}_{_group(told[1])}^{_group(told[2])}"
    if name == "mroot" and len(told) == 2:
        return f"{told[1]}√({told[0]})"
    if name == "mtable":
        return f"[{'; '.join(told)}]"
    return ", ".join(told) if name == "mtr" else ""


def _stray(text: str | None) -> str:
    """Text beside the elements of an equation, with its spaces; white space alone only sets them apart."""
    if not text or text.isspace():
        return ""
    return f"{' ' * text[0].isspace()}{squeeze(text)}{' ' * text[-1].isspace()}"


def _name(node: Node) -> str:
    """The name of an element in its namespace or without one; empty for what is no element."""
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""


def _group(text: str) -> str:
    """`text` in parentheses, where it is more than one name or number."""
    return text if _SINGLE.match(text) else f"({text})"
