"""Equations of Office files as linear text: a fraction as (a)/(b), a power as x^2."""

from __future__ import annotations

import re
import unicodedata

from pipeline.parse.ooxml.package import M, Node

#: Property elements hold no text of the equation.
_PROPERTIES = re.compile(r"\w+Pr$")
#: Letters of their own for italic and bold variables, which nobody types.
_MATH_LETTERS = re.compile("[\U0001d400-\U0001d7ff\u210e]+")
_SINGLE = re.compile(r"\w+$|.$", re.S)


def linear(node: Node) -> str:
    """The text of an equation, or of one of its parts."""
    if not isinstance(node.tag, str):
        return ""
    name = node.tag.rpartition("}")[2]
    if name == "t":
        return _MATH_LETTERS.sub(lambda found: unicodedata.normalize("NFKC", found.group()), node.text or "")
    if _PROPERTIES.match(name):
        return ""
    shape = _SHAPES.get(name)
    return shape(node) if shape is not None and node.tag.startswith(M) else "".join(map(linear, node))


def _part(node: Node, name: str) -> str:
    found = node.find(f"{M}{name}")
    return linear(found).strip() if found is not None else ""


def _parts(node: Node, name: str) -> list[str]:
    return [linear(child).strip() for child in node.iterchildren(f"{M}{name}")]


def _property(node: Node, path: str, default: str) -> str:
    found = node.find("/".join(f"{M}{step}" for step in path.split("/")))
    return default if found is None else (found.get(f"{M}val") or "")


def _group(text: str) -> str:
    """`text` in parentheses, where it is more than one name or number."""
    return text if _SINGLE.match(text) else f"({text})"


def _scripted(base: str, sub: str = "", sup: str = "") -> str:
    return base + (f"_{_group(sub)}" if sub else "") + (f"^{_group(sup)}" if sup else "")


def _fraction(node: Node) -> str:
    return f"{_group(_part(node, 'num'))}/{_group(_part(node, 'den'))}"


def _script(node: Node) -> str:
    return _scripted(_part(node, "e"), _part(node, "sub"), _part(node, "sup"))


def _limit(node: Node) -> str:
    return _scripted(_part(node, "e"), _part(node, "lim"))


def _root(node: Node) -> str:
    degree = _part(node, "deg")
    return f"{degree}√({_part(node, 'e')})" if degree else f"√({_part(node, 'e')})"


def _operator(node: Node) -> str:
    sign = _property(node, "naryPr/chr", "∫")
    return f"{_scripted(sign, _part(node, 'sub'), _part(node, 'sup'))} {_part(node, 'e')}"


def _delimited(node: Node) -> str:
    opening, closing = _property(node, "dPr/begChr", "("), _property(node, "dPr/endChr", ")")
    return opening + _property(node, "dPr/sepChr", "|").join(_parts(node, "e")) + closing


def _function(node: Node) -> str:
    return f"{_part(node, 'fName')} {_part(node, 'e')}"


def _matrix(node: Node) -> str:
    return "[" + "; ".join(", ".join(_parts(row, "e")) for row in node.iterchildren(f"{M}mr")) + "]"


def _lines(node: Node) -> str:
    return "; ".join(_parts(node, "e"))


_SHAPES = {
    "f": _fraction,
    "sSup": _script,
    "sSub": _script,
    "sSubSup": _script,
    "sPre": _script,
    "limLow": _limit,
    "limUpp": _limit,
    "rad": _root,
    "nary": _operator,
    "d": _delimited,
    "func": _function,
    "m": _matrix,
    "eqArr": _lines,
}
