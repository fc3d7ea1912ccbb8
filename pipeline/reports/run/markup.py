"""Pieces of HTML from the template beside this file; whatever is not HTML already is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from string import Template

from pipeline.text import visible


class Html(str):
    """Text that is HTML already; everything else is escaped."""

    __slots__ = ()


@cache
def _parts() -> dict[str, Template]:
    text = (Path(__file__).parent / "page.html").read_text("utf-8")
    names = re.split(r"^<!-- part (\w+) -->\n", text, flags=re.MULTILINE)
    return {name: Template(body) for name, body in zip(names[1::2], names[2::2], strict=True)}


def part(name: str, **values: str) -> Html:
    """A part of the template with its values."""
    return Html(_parts()[name].substitute({key: _html(value) for key, value in values.items()}))


def _html(value: str) -> str:
    return value if isinstance(value, Html) else escape(visible(value))


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """A table; a first cell is its row's head, and a column is of numbers where the name begins with `#`."""
    classes = [' class="n"' if name.startswith("#") else "" for name in head]
    heads = "".join(f'<th scope="col"{css}>{_html(name.lstrip("#"))}</th>' for name, css in zip(head, classes, strict=True))
    body = []
    for row in rows:
        cells = [
            cell if isinstance(cell, Html) and cell.startswith("<td") else Html(f"<td{css}>{_html(cell)}</td>")
            for cell, css in zip(row, classes, strict=True)
        ]
        first = re.sub(r"^<td(.*)</td>\s*$", r'<th scope="row"\1</th>', cells[0], flags=re.DOTALL)
        body.append(f"<tr>{first}{''.join(cells[1:])}</tr>")
    return Html(f"<table><caption>{_html(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>")
