"""What an HTML table's tags say of its rows: which are its own, which names the columns, and how wide its cells are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.parse.parsed import squeeze
from pipeline.parse.tables import Row

#: lxml has no type information.
Node = Any

#: Classes of a row that names columns.
_HEAD_CLASSES = frozenset(("header", "head", "thead", "table-header", "header-row", "tableheader", "headerrow"))


def own_rows(table: Node) -> list[Node] | None:
    """The rows of `table` without those of tables in its cells; None where such tables are there because it lays out a page."""
    inner = False
    for nested in table.iterfind(".//table"):
        holder = next(nested.iterancestors("td", "th", "table"))
        if holder.tag == "table" or nested.find(".//table") is not None:
            return None
        inner = True
    rows = list(table.iter("tr"))
    if not inner:
        return rows
    own = [row for row in rows if next(row.iterancestors("table")) is table]
    if any(len(row) > 1 and all(cell.tag == "th" for cell in row) for row in own):
        return own
    plain = sum(1 for row in own if row.find(".//table") is None and sum(map(_has_text, row)) > 1)
    return own if plain > 1 and 2 * plain >= len(own) and not lays_out(table) else None


def lays_out(table: Node) -> bool:
    """Whether a table holds blocks of a page."""
    return bool(table.xpath("boolean(.//h1 | .//h2 | .//h3 | .//h4 | .//section | .//article | .//pre | .//p | .//ul | .//ol)"))


def names_columns(rows: Sequence[Node]) -> bool:
    """Whether the first of `rows`, without `th`, names columns: by its class, the scope of its cells, or its bold type."""
    if len(rows) < 2 or len(rows[0]) < 2 or any(cell.tag == "th" for row in rows for cell in row):
        return False
    first = rows[0]
    if not _HEAD_CLASSES.isdisjoint(first.get("class", "").lower().split()):
        return True
    if all(cell.get("scope") in ("col", "colgroup") for cell in first):
        return True
    return all(map(_is_bold, first)) and not any(all(map(_is_bold, row)) for row in rows[1:])


def capped(rows: Sequence[Row]) -> list[Row]:
    """`rows` with spans of no more columns than the other rows give the table."""
    most = max((len(row.cells) for row in rows), default=1)
    widths = (sum(c.columns for c in row.cells) for row in rows if all(c.columns <= most for c in row.cells))
    width = max(most, max(widths, default=0))
    return [replace(row, cells=[replace(c, columns=min(c.columns, width)) for c in row.cells]) for row in rows]


def _has_text(cell: Node) -> bool:
    return any(text.strip() for text in cell.itertext())


def _is_bold(cell: Node) -> bool:
    """Whether all text of `cell` is bold."""
    text = squeeze("".join(cell.itertext()))
    outer = (b for b in cell.iter("b", "strong") if next(b.iterancestors("b", "strong"), None) is None)
    bold = "".join("".join(b.itertext()) for b in outer)
    return bool(text) and "".join(bold.split()) == "".join(text.split())
