"""Jupyter notebooks: cells in their order; outputs as text, pictures as losses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.parse.decode import read_text
from pipeline.parse.html import html_parsed
from pipeline.parse.markdown import markdown_elements
from pipeline.parse.parsed import Losses, Parsed, Share, clean, pieces
from pipeline.parse.records import flat
from pipeline.types import Element, ElementKind, LossKind

#: The most characters that are kept of one output: a cell may print a log of megabytes.
MAX_OUTPUT_CHARS = 20_000
#: What says in words what a picture beside it shows.
_IN_WORDS = frozenset({"text/latex", "text/html", "text/markdown"})
#: What Python shows of an object without a text: `<Figure size 640x480 with 1 Axes>`.
_NAME = re.compile(r"<[^<>]{1,300}>")


def parse_notebook(path: Path, name: str) -> Parsed:
    """Elements of the notebook at `path`; content that is no notebook is read as JSON."""
    try:
        book = json.loads(read_text(path))
    except (ValueError, RecursionError):
        book = None
    sheets = book.get("worksheets") if isinstance(book, dict) else None  # until format 3
    cells = book.get("cells") if isinstance(book, dict) else None
    if cells is None and isinstance(sheets, list):
        cells = [cell for sheet in sheets if isinstance(sheet, dict) for cell in sheet.get("cells") or ()]
    if not isinstance(cells, list):
        from pipeline.parse.records import parse_json

        return parse_json(path, name)
    share, losses = Share(), Losses()
    return Parsed("", _cells([cell for cell in cells if isinstance(cell, dict)], share, losses), share, losses)


def _cells(cells: list[dict[str, Any]], share: Share, losses: Losses) -> Iterator[Element]:
    for number, cell in enumerate(cells, 1):
        share.count(number - 1, len(cells))
        text = _text(cell.get("source", cell.get("input")))
        match cell.get("cell_type"):
            case "markdown":
                for element in markdown_elements(text, losses=losses):
                    # Offsets in a cell are none in the file.
                    yield Element(element.text, element.kind, element.level, header=element.header)
            case "heading":
                level = cell.get("level")
                yield Element(clean(text), ElementKind.HEADING, level if isinstance(level, int) else 1)
            case "code":
                yield from _code(text)
                for output in cell.get("outputs") or ():
                    if isinstance(output, dict):
                        yield from _output(output, number, losses)
            case _:
                yield from _code(text)


def _output(output: dict[str, Any], number: int, losses: Losses) -> Iterator[Element]:
    if output.get("output_type") in ("stream", "pyout") or "text" in output:
        yield from _printed(_text(output.get("text")), number, losses)
    if output.get("output_type") in ("error", "pyerr"):
        yield from _printed(f"{output.get('ename')}: {output.get('evalue')}", number, losses)
    data = output.get("data")
    if not isinstance(data, dict):
        return
    plain = _text(data.get("text/plain"))
    page = _text(data.get("text/html"))
    pictured = any(kind.startswith("image/") for kind in data)
    is_name = not plain or _NAME.fullmatch(plain.strip()) is not None  # of an object, where others show its content
    if "<table" in page:
        yield from html_parsed(page, losses=losses).elements
    elif "text/markdown" in data:
        found = markdown_elements(_text(data["text/markdown"]), losses=losses)
        yield from (Element(e.text, e.kind, 0, header=e.header) for e in found)
    elif is_name and pictured:
        losses.add(LossKind.PICTURE, f"cell {number}", "an output")
    elif is_name and (shown := list(html_parsed(page).elements)):
        yield from shown
    elif is_name and "application/json" in data:
        yield from _printed("\n".join(flat(data["application/json"], "")), number, losses)
    elif plain or "text/latex" in data:
        if pictured and _IN_WORDS.isdisjoint(data):
            losses.add(LossKind.PICTURE, f"cell {number}", "an output")
        yield from _printed(plain or _text(data["text/latex"]), number, losses)


def _printed(text: str, number: int, losses: Losses) -> Iterator[Element]:
    text = "\n".join(map(_last_written, text.replace("\r\n", "\n").split("\n")))
    if len(text) > MAX_OUTPUT_CHARS:
        losses.add(
            LossKind.CUT_TEXT, f"cell {number}", f"an output of {len(text):,} characters, of which {MAX_OUTPUT_CHARS:,} are kept"
        )
    yield from _code(text[:MAX_OUTPUT_CHARS])


def _last_written(line: str) -> str:
    """A line as it was last written, as bars of progress are; blanks that erase it at its end do not count."""
    return next((part for part in reversed(line.split("\r")) if part.strip()), "") if "\r" in line else line


def _code(text: str) -> Iterator[Element]:
    text = clean(text, strip=False).strip("\n").rstrip()
    for first, last in pieces(text):
        if text[first:last].strip():
            yield Element(text[first:last].rstrip(), ElementKind.CODE)


def _text(value: object) -> str:
    """A text of a notebook, which may be a list of lines."""
    return "".join(line for line in value if isinstance(line, str)) if isinstance(value, list) else str(value or "")
