"""Equations in MathML as linear text, as `pipeline.parse.ooxml.equations` writes those of Office."""

from __future__ import annotations

import re

from pipeline.parse.opendocument.package import MATH, Node
from pipeline.parse.parsed import squeeze

_SINGLE = re.compile(r"\w+$|.$", re.S)
_SILENT = (f"{MATH}annotation", f"{MATH}annotation-xml")
_LEAVES = tuple(f"{MATH}{name}" for name in ("mi", "mn", "mo", "mtext", "ms"))
_SUBS, _SUPS = ("msub", "munder"), ("msup", "mover")
_BOTH = ("msubsup", "munderover")


def linear(node: Node) -> str:
    """The text of an equation, or of one of its parts."""
    if not isinstance(node.tag, str) or node.tag in _SILENT:
        return ""
    if node.tag in _LEAVES:
        return squeeze(node.text or "")
    name = node.tag.rpartition("}")[2]
    told = [linear(child) for child in node if child.tag not in _SILENT]
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


def _group(text: str) -> str:
    """`text` in parentheses, where it is more than one name or number."""
    return text if _SINGLE.match(text) else f"({text})"
