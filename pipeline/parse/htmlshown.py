"""What a browser shows of parts of an HTML tree: cells and captions of tables, and drawings."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from pipeline.parse.mathml import linear
from pipeline.parse.parsed import squeeze

#: lxml has no type information.
Node = Any

_UNSEEN_NAMES = "script style template head noscript svg iframe object select button input noembed noframes"
#: Elements whose content a browser does not show as text.
UNSEEN = frozenset(_UNSEEN_NAMES.split())
_BLOCK_NAMES = (
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure footer form "
    "h1 h2 h3 h4 h5 h6 header hgroup hr legend li listing main menu nav ol p plaintext pre section summary table tbody td tfoot "
    "textarea th thead tr ul xmp"
)
BLOCKS = frozenset(_BLOCK_NAMES.split())
#: Elements in which a button holds a title; elsewhere its label is a command.
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6", "dt", "summary")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)


def shown_text(node: Node) -> str:
    """The text of a cell or a caption, with the words that describe its pictures, without what is hidden."""
    parts = [node.text or ""]
    walk = etree.iterwalk(node, events=("start", "end"))
    for event, found in walk:
        if found is node:
            continue
        apart = found.tag in BLOCKS or found.tag == "br" or _is_placed(found)
        if event == "end":
            parts += [" " if apart else "", found.tail or ""]
        elif found.tag in UNSEEN or is_hidden(found):
            walk.skip_subtree()
        else:
            if found.tag == "math":
                parts.append(linear(found))
                walk.skip_subtree()
                continue
            parts += [" ", found.get("alt") or "", " "] if found.tag == "img" else [" " if apart else "", found.text or ""]
    return "".join(parts)


def is_hidden(node: Node) -> bool:
    """Whether a browser does not show `node`, by its attributes."""
    names = node.keys()
    return (
        ("hidden" in names and node.get("hidden") != "until-found")
        or ("aria-hidden" in names and node.get("aria-hidden") == "true")
        or ("style" in names and _HIDDEN.search(node.get("style", "")) is not None)
    )


def is_heading_button(node: Node) -> bool:
    """Whether `node` is a button inside a heading, whose label is the heading of the text that it opens."""
    return node.tag == "button" and next(node.iterancestors(*_HEADINGS), None) is not None


def _is_placed(node: Node) -> bool:
    """Whether `node` is a part of a drawn text that does not follow the part before it."""
    return node.tag == "tspan" and not {"x", "y", "dy"}.isdisjoint(node.keys())


def drawn_text(drawing: Node) -> str:
    """The texts of a drawing on lines of their own; of the forms among which a `switch` chooses, the first that has text."""
    told: list[str] = []
    chosen: set[Node] = set()  # switches of which a form has been read
    walk = etree.iterwalk(drawing, events=("start",))
    for _, node in walk:
        if node.getparent() in chosen:
            walk.skip_subtree()
        elif node.tag in ("text", "foreignobject"):
            walk.skip_subtree()
            if text := squeeze(shown_text(node)):
                told.append(text)
                chosen.update(node.iterancestors("switch"))
    return "\n".join(told)
