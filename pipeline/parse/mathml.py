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
_SUBS, _SUPS = ("msub", "munder"), ("msup", "mover")
_BOTH = ("msubsup", "munderover")


def linear(node: Node) -> str:
    """The text of an equation; one that is nested too deeply keeps its words alone."""
    try:
        return _linear(node)
    except RecursionError:
        return squeeze("".join(node.itertext()))


def _linear(node: Node) -> str:
    """The text of an equation, or of one of its parts."""
    name = _name(node)
    if not name or name in _SILENT:
        return ""
    if name in _LEAVES:
        return squeeze("".join(node.itertext()))
    told = [_linear(child) for child in node if _name(child) not in _SILENT]
    if name == "mfrac" and len(told) == 2:
        return f"{_group(told[0])}/{_group(told[1])}"
    if name in _SUBS and len(told) == 2:
        return f"{told[0]}_{_group(told[1])}"
    if name in _SUPS and len(told) == 2:
        return f"{told[0]}^{_group(told[1])}"
    if name in _BOTH and len(told) == 3:
        return f"{told[0]}_{_group(told[1])}^{_group(told[2])}"
    if name == "msqrt":
        return f"√({''.join(told)})"
    if name == "mroot" and len(told) == 2:
        return f"{told[1]}√({told[0]})"
    if name == "mtable":
        return f"[{'; '.join(told)}]"
    return (", " if name == "mtr" else "").join(told)


def _name(node: Node) -> str:
    """The name of an element in its namespace or without one; empty for what is no element."""
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""


def _group(text: str) -> str:
    """`text` in parentheses, where it is more than one name or number."""
    return text if _SINGLE.match(text) else f"({text})"
