"""OpenDocument files from their XML, for what converters do not write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests import documents as d

_OASIS = "urn:oasis:names:tc:opendocument:xmlns"
_PREFIXES = {
    "office": "office", "text": "text", "table": "table", "draw": "drawing", "style": "style", "fo": "xsl-fo-compatible",
    "svg": "svg-compatible", "number": "datastyle", "presentation": "presentation", "chart": "chart", "meta": "meta",
}  # fmt: skip
NAMES = " ".join(f'xmlns:{prefix}="{_OASIS}:{name}:1.0"' for prefix, name in _PREFIXES.items()) + (
    ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' xmlns:loext="urn:org:documentfoundation:names:experimental:office:xmlns:loext:1.0"'
)
_TYPE = "application/vnd.oasis.opendocument."


def package(kind: str, content: str, parts: Mapping[str, str] | None = None) -> bytes:
    """A file of the kind `text`, `presentation` or `spreadsheet`, with this content.xml."""
    others = {name: part.encode() for name, part in (parts or {}).items()}
    return d.zip_of({"mimetype": f"{_TYPE}{kind}".encode(), "content.xml": content.encode(), **others})


def content(kind: str, body: str, automatic: str = "", attributes: str = "") -> str:
    """A content.xml."""
    return (
        f"<office:document-content {NAMES}><office:automatic-styles>{automatic}</office:automatic-styles>"
        f"<office:body><office:{kind} {attributes}>{body}</office:{kind}></office:body></office:document-content>"
    )


def styles(common: str = "", master: str = "") -> str:
    """A styles.xml."""
    return (
        f"<office:document-styles {NAMES}><office:styles>{common}</office:styles>"
        f"<office:master-styles>{master}</office:master-styles></office:document-styles>"
    )


def text(body: str, automatic: str = "", parts: Mapping[str, str] | None = None, attributes: str = "") -> bytes:
    """A text."""
    return package("text", content("text", body, automatic, attributes), parts)


def deck(body: str, automatic: str = "", parts: Mapping[str, str] | None = None) -> bytes:
    """A presentation."""
    return package("presentation", content("presentation", body, automatic), parts)


def sheets(body: str, automatic: str = "", parts: Mapping[str, str] | None = None) -> bytes:
    """A spreadsheet."""
    return package("spreadsheet", content("spreadsheet", body, automatic), parts)


def frame(inside: str, attributes: str = "") -> str:
    """A frame."""
    return f"<draw:frame {attributes}>{inside}</draw:frame>"


def box(said: str, attributes: str = "") -> str:
    """A frame with a text box."""
    return frame(f"<draw:text-box><text:p>{said}</text:p></draw:text-box>", attributes)


def row(*cells: str) -> str:
    """A row of a sheet; a cell that begins with < is XML."""
    return f"<table:table-row>{''.join(c if c.startswith('<') else cell(c) for c in cells)}</table:table-row>"


def cell(said: str, attributes: str = 'office:value-type="string"') -> str:
    """A cell of a sheet."""
    return f"<table:table-cell {attributes}><text:p>{said}</text:p></table:table-cell>"


def sheet(name: str, *rows: str, style: str = "") -> str:
    """A sheet."""
    return f'<table:table table:name="{name}" table:style-name="{style}">{"".join(rows)}</table:table>'


def write_ods(path: Path) -> None:
    """Two sheets with the rows of the other samples."""
    fees = sheet("Fees", row("Fees of the harbour"), row(""), *(row(*cells) for cells in (d.HEADER, *d.ROWS)))
    path.write_bytes(sheets(fees + sheet("Berths", row("Berth", "Depth"), row("North", "4"))))


def write_odp(path: Path) -> None:
    """Two slides with the texts of the other samples."""
    items = "".join(f"<text:list-item><text:p>{item}</text:p></text:list-item>" for item in d.ITEMS)
    second = frame(f"<draw:text-box><text:list>{items}</text:list></draw:text-box>")
    first = box(d.TITLE, 'presentation:class="title"') + box(d.SENTENCE)
    slides = (first, box(d.SECTION, 'presentation:class="title"') + second)
    path.write_bytes(deck("".join(f"<draw:page>{slide}</draw:page>" for slide in slides)))
