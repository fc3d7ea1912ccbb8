"""Tables by row: csv and tsv streamed, xlsx sheet by sheet; every row carries the header line."""

from __future__ import annotations

import csv
import datetime
import itertools
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import DocumentError
from pipeline.parse.decode import open_text
from pipeline.parse.parsed import Parsed, Share, squeeze
from pipeline.types import Element, ElementKind, Reason

#: Number of rows at the start that may contain titles and the header.
HEAD_ROWS = 10
#: A row with a smaller share of filled cells is reduced to those cells: they are far away from all other content.
MIN_FILLED = 0.25

_NUMBER = re.compile(r"[-+(]?[$€£¥]?\s?[.,]*\d[\d.,]*(?:e[-+]?\d+)?\s?[%€$)]?$|\d{4}-\d\d?-\d\d?|\d\d?[./]\d\d?[./]\d{2,4}", re.I)


def parse_csv(path: Path, name: str) -> Parsed:
    """Rows of the csv file at `path`; the delimiter is detected from its start."""
    share = Share()
    return Parsed("", _delimited(path, "", share), share)


def parse_tsv(path: Path, name: str) -> Parsed:
    """Rows of the tab-separated file at `path`."""
    share = Share()
    return Parsed("", _delimited(path, "\t", share), share)


def _delimited(path: Path, delimiter: str, share: Share) -> Iterator[Element]:
    # A cell may be as long as a file that passes the gate; with the default limit of 128 KB, csv rejects such rows.
    csv.field_size_limit(sys.maxsize)
    with open_text(path) as file:
        share.follow(file)
        start = file.read(64 << 10)
        file.seek(0)
        reader = csv.reader(
            (line.replace("\0", "") for line in file), delimiter=delimiter or _delimiter(start), skipinitialspace=True
        )
        yield from rows([squeeze(cell) for cell in row] for row in reader)


def _delimiter(sample: str) -> str:
    """The delimiter with which the most lines of `sample` have the same number of cells."""
    lines = [line for line in sample.split("\n")[:50] if line.strip()]
    best, most = ",", 0
    for candidate in ",;\t|":
        counts = [len(row) for row in csv.reader(lines, delimiter=candidate)]
        common = max(set(counts), key=counts.count, default=0)
        if common > 1 and counts.count(common) * common > most:
            best, most = candidate, counts.count(common) * common
    return best


def rows(table: Iterable[list[str]], page: int | None = None) -> Iterator[Element]:
    """Elements of `table`: titles above it as paragraphs, then its rows, each with the header line."""
    cells = (row for row in table if any(row))
    head = list(itertools.islice(cells, HEAD_ROWS))
    width = max((sum(map(bool, row)) for row in head), default=0)
    start = next((i for i, row in enumerate(head) if sum(map(bool, row)) > 1), 0) if width > 1 else 0
    for row in head[:start]:
        yield Element(_line(row), page=page)
    head = head[start:]
    header = ""
    if len(head) > 1 and _is_header(head):
        header = _line(head[0])
        head = head[1:]
    for row in itertools.chain(head, cells):
        if text := _line(row):
            yield Element(text, ElementKind.TABLE_ROW, page=page, header=header)


def _is_header(head: list[list[str]]) -> bool:
    """Whether the first row names columns: its cells are short, distinct words, nearly as many as the rows below have cells."""
    names = [cell for cell in head[0] if cell]
    below = max(sum(map(bool, row)) for row in head[1:])
    return (
        len(set(names)) == len(names)
        and 2 * len(names) > below
        and all(len(cell) <= 80 and not _NUMBER.match(cell) for cell in names)
    )


def _line(row: list[str]) -> str:
    """Cells joined by bars; empty ones keep their place, except at the end and in a nearly empty row."""
    filled = [cell for cell in row if cell]
    if len(filled) < MIN_FILLED * len(row):
        return " | ".join(filled)
    while row and not row[-1]:
        row = row[:-1]
    return " | ".join(row)


def parse_xlsx(path: Path, name: str) -> Parsed:
    """Rows of the workbook at `path`: every sheet is a heading and a page."""
    return Parsed(name, _sheets(path))  # the name of the first sheet says little


def _sheets(path: Path) -> Iterator[Element]:
    import warnings

    import openpyxl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about styles and extensions that hold no text
        with path.open("rb") as file:
            try:
                workbook = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise DocumentError(Reason.CORRUPT, f"not a readable workbook: {error!r}") from error
            try:
                for number, sheet in enumerate(workbook.worksheets, 1):
                    # The used range in the file may be wrong in both directions.
                    sheet.reset_dimensions()
                    found = rows(_cells(sheet.iter_rows(values_only=True)), number)
                    first = next(found, None)
                    if first is not None:
                        yield Element(squeeze(sheet.title) or str(number), ElementKind.HEADING, 1, page=number)
                        yield first
                        yield from found
            finally:
                workbook.close()


def _cells(values: Iterable[tuple[object, ...]]) -> Iterator[list[str]]:
    for row in values:
        # Programs mark up to a million empty rows as used.
        if any(value is not None for value in row):
            yield [_shown(value) for value in row]


def _shown(value: object) -> str:
    """A human-readable cell."""
    match value:
        case None:
            return ""
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case datetime.datetime() if value.time() == datetime.time():
            return value.date().isoformat()
        case datetime.datetime():
            return value.isoformat(" ", "seconds")
        case _:
            return squeeze(str(value))
