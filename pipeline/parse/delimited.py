"""CSV and TSV by row, streamed; the dialect is guessed from the start, and every row carries the header line."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

from pipeline.parse.decode import open_text
from pipeline.parse.parsed import Parsed, Share, squeeze
from pipeline.parse.tables import rows
from pipeline.types import Element

#: Characters and lines at the start from which the dialect is guessed.
SAMPLE_CHARS, SAMPLE_LINES = 64 << 10, 50

_SEPARATORS = ",;\t|"
#: The line with which Excel is told the delimiter.
_SEP_LINE = re.compile(r"sep=(.)\s*$", re.I)
#: Commas of whole numbers and of sentences.
_COMMAS_OF_TEXT = re.compile(r"(?<![\w.,:/-])[-+]?\d++,\d++(?![\w,:/-]|\.\d)|, ")
#: A character that separates nothing: for files of one column.
_NO_DELIMITER = "\x1f"
#: One text as a formula.
_PROTECTED = re.compile(r'="(?:[^"]|"")*+"', re.S)
_ESCAPED = re.compile(r"\\[,;\t|\"]")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the cells of a file are separated."""

    delimiter: str = ","
    escape: str | None = None  #: character in front of a delimiter or quote that belongs to a cell
    skip: int = 0  #: lines before the table


class Rows(Protocol):
    """What `csv.reader` gives, whose own type has no name."""

    @property
    def line_num(self) -> int:
        """Number of lines read so far."""

    def __iter__(self) -> Iterator[list[str]]:
        """The rows."""

    def __next__(self) -> list[str]:
        """The next row."""


def parse_csv(path: Path, name: str) -> Parsed:
    """Rows of the CSV file at `path`; the delimiter is guessed from its start."""
    share = Share()
    return Parsed("", _rows(path, None, share), share)


def parse_tsv(path: Path, name: str) -> Parsed:
    """Rows of the tab-separated file at `path`."""
    share = Share()
    return Parsed("", _rows(path, Dialect("\t"), share), share)


def _rows(path: Path, dialect: Dialect | None, share: Share) -> Iterator[Element]:
    with opened(path, dialect, share) as (file, found):
        yield from rows([squeeze(_shown(cell)) for cell in row] for row in reader(file, found))


def _shown(cell: str) -> str:
    """A cell without the formula around it that keeps Excel from reading a text as a number: `="00123"`."""
    return cell[2:-1].replace('""', '"') if _PROTECTED.fullmatch(cell) else cell


@contextmanager
def opened(path: Path, dialect: Dialect | None, share: Share) -> Iterator[tuple[TextIO, Dialect]]:
    """The file at `path` from its first row on, and its dialect, which is guessed if none is given."""
    # A cell may be as long as a file that passes the gate; with the default limit of 128 KB, csv rejects such rows.
    csv.field_size_limit(sys.maxsize)
    with open_text(path) as file:
        share.follow(file)
        dialect = dialect or guess(file.read(SAMPLE_CHARS))
        file.seek(0)
        for _ in range(dialect.skip):
            file.readline()
        yield file, dialect


def reader(lines: TextIO | list[str], dialect: Dialect) -> Rows:
    """The rows of some lines."""
    return csv.reader(
        (line.replace("\0", "") for line in lines), delimiter=dialect.delimiter, skipinitialspace=True, escapechar=dialect.escape
    )


def guess(sample: str) -> Dialect:
    """The dialect in which most rows have the same number of cells, and cells contain no other separator."""
    if found := _SEP_LINE.match(sample.split("\n", 1)[0]):
        return Dialect(found.group(1), skip=1)
    # The last line may be cut; a sample of one line is a row.
    lines = [line for line in sample.split("\n")[: SAMPLE_LINES + 1] if line.strip()]
    lines = lines[:-1] if len(lines) > SAMPLE_LINES else lines
    escape = "\\" if _ESCAPED.search(sample) else None
    single = bool(lines) and "," not in lines[0] and "," not in _COMMAS_OF_TEXT.sub("", "\n".join(lines))
    best, score = Dialect(_NO_DELIMITER if single else ",", escape), (0.0, 0.0, 0)
    for delimiter in _SEPARATORS:
        dialect = Dialect(delimiter, escape)
        found_rows = [row for row in reader([line + "\n" for line in lines], dialect) if row]
        widths = [len(row) for row in found_rows]
        width = max(set(widths), key=lambda w: (widths.count(w), w), default=0)
        if width < 2 or (delimiter == "," and single):
            continue
        cells = [cell for row in found_rows for cell in row if cell]
        others = set(_SEPARATORS) - {delimiter, ","}  # commas stand in numbers and sentences
        clean = sum(1 for cell in cells if others.isdisjoint(cell)) / max(1, len(cells))
        reached = (widths.count(width) / len(widths), clean, width)
        if reached > score:
            best, score = dialect, reached
    return best
