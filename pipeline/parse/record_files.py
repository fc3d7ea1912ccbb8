"""The records of JSON lines, JSON arrays and tables, read one by one; memory use does not grow with the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from pipeline.parse import kinds
from pipeline.parse.decode import open_text
from pipeline.parse.delimited import SAMPLE_CHARS, Dialect, opened, reader
from pipeline.parse.json_text import MAX_VALUE_CHARS, JsonText, only_array, said
from pipeline.parse.parsed import Share, clean, squeeze
from pipeline.parse.tables import HEAD_ROWS

#: A longer record is left out.
MAX_RECORD_CHARS = MAX_VALUE_CHARS

_ARRAY_OF_OBJECTS = re.compile(r"\s*\[\s*\{")


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as its file has it, or why it cannot be read."""

    place: str  #: as people find it: a line, or the number of an item
    fields: dict[str, Any] | None  #: of a table: texts by column
    why: str = ""


def raw_records(path: Path, media_type: str, share: Share, array: str = "") -> Iterator[RawRecord] | None:
    """The records of the file at `path`, lazily; None for a file that does not consist of objects or rows.

    `array`: of an object, the path of the array that has the records; empty: its only array of objects.

    Raises DocumentError (corrupt), here or while the records are read, for an array that is damaged: what follows is unknown.
    """
    if media_type in (kinds.CSV, kinds.TSV):
        return _rows(path, Dialect("\t") if media_type == kinds.TSV else None, share)
    if media_type not in (kinds.JSON, kinds.JSON_LINES):
        return None
    with open_text(path) as file:
        start = file.read(SAMPLE_CHARS)
        file.seek(0)
        # The first two lines: an object over several lines begins with one that is no value.
        first = list(islice((line for line in iter(lambda: file.readline(MAX_RECORD_CHARS), "") if not line.isspace()), 2))
    if _ARRAY_OF_OBJECTS.match(start):
        return _items(path, share)
    if media_type == kinds.JSON_LINES or (len(first) == 2 and all(map(_is_object, first))):
        return _lines(path, share)
    with open_text(path) as file:
        found = only_array(file, array) if start.lstrip("\ufeff \t\n\r").startswith("{") else None
    return _inside(path, found, share) if found is not None else None


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _lines(path: Path, share: Share) -> Iterator[RawRecord]:
    with open_text(path) as file:
        share.follow(file)
        number = 0
        while line := file.readline(MAX_RECORD_CHARS):
            number += 1
            whole = line.endswith("\n") or len(line) < MAX_RECORD_CHARS
            while not line.endswith("\n") and not whole and (more := file.readline(MAX_RECORD_CHARS)):
                line = more
            if not line.isspace() or not whole:
                yield _line(f"line {number}", line) if whole else _too_long(f"line {number}")


def _too_long(place: str) -> RawRecord:
    return RawRecord(place, None, f"it is longer than {MAX_RECORD_CHARS:,} characters")


def _line(place: str, line: str) -> RawRecord:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return RawRecord(place, None, f"it is not JSON: {said(error)}")
    return RawRecord(place, value) if isinstance(value, dict) else RawRecord(place, None, "it is not an object")


def _items(path: Path, share: Share) -> Iterator[RawRecord]:
    with open_text(path) as file:
        share.follow(file)
        text = JsonText(file)
        text.take()
        yield from map(_item, text.items())


def _inside(path: Path, array: str, share: Share) -> Iterator[RawRecord]:
    """The items of an array inside an object, which has been looked through before."""
    with open_text(path) as file:
        share.follow(file)
        for name, items in JsonText(file).arrays():
            if name == array:
                yield from map(_item, items)
                return


def _item(numbered: tuple[int, Any]) -> RawRecord:
    number, value = numbered
    found = isinstance(value, dict)
    return RawRecord(f"item {number}", value if found else None, "" if found else "it is not an object")


def _rows(path: Path, dialect: Dialect | None, share: Share) -> Iterator[RawRecord]:
    with opened(path, dialect, share) as (file, found):
        names: list[str] = []
        rows = _numbered(file, found)
        for number, row in _from_header(rows):
            if not names:
                names = _columns(row)
                continue
            cells = {_name(names, at): text for at, cell in enumerate(row) if (text := clean(cell))}
            long = sum(map(len, row)) > MAX_RECORD_CHARS
            yield _too_long(f"line {number}") if long else RawRecord(f"line {number}", cells)


def _numbered(file: TextIO, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Rows with something in them, and the lines that they begin at."""
    found = reader(file, dialect)
    line = 1 + dialect.skip
    for row in found:
        if any(cell.strip() for cell in row):
            yield line, row
        line = 1 + dialect.skip + found.line_num


def _from_header(rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """The rows from the one with the names of the columns on: the first of several cells, where any row has several."""
    head = list(islice(rows, HEAD_ROWS))
    start = next((at for at, (_, row) in enumerate(head) if sum(1 for cell in row if cell.strip()) > 1), 0)
    yield from head[start:]
    yield from rows


def _columns(row: list[str]) -> list[str]:
    """Different names for all columns."""
    names: list[str] = []
    for at, cell in enumerate(row):
        name = squeeze(cell) or f"column_{at + 1}"
        again = sum(1 for one in row[:at] if squeeze(one) == name)
        names.append(f"{name}_{again + 1}" if again else name)
    return names


def _name(names: list[str], at: int) -> str:
    return names[at] if at < len(names) else f"column_{at + 1}"
