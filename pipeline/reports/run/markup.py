"""HTML fragments from the template next to this file; text that is not marked as HTML is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from string import Template

from pipeline.text import visible


class Html(str):
    """Text that is HTML already; all other text is escaped."""

    __slots__ = ()


@cache
def _parts() -> dict[str, Template]:
    text = (Path(__file__).parent / "page.html").read_text("utf-8")
    names = re.split(r"^<!-- part (\w+) -->\n", text, flags=re.MULTILINE)
    return {name: Template(body) for name, body in zip(names[1::2], names[2::2], strict=True)}


def part(name: str, **values: str) -> Html:
    """A part of the template, filled with values."""
    return Html(_parts()[name].substitute({key: _html(value) for key, value in values.items()}))


def _html(value: str) -> str:
    return value if isinstance(value, Html) else escape(visible(value))


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """A table; the first cell of a row is its header, and a column whose name begins with `#` contains numbers."""
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
