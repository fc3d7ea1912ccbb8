"""Lines of text out of pieces: spaced-out letters and drop capitals become words, raised numbers are set apart."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.parse.hyphens import DIVIDED
from pipeline.parse.pdf.glyphs import TO_LEFT, Piece
from pipeline.parse.pdf.order import Region, Row

#: Minimum size of a drop capital relative to the text beside it.
DROP_CAPITAL = 1.8

#: Where Arabic and Latin words meet.
_TURN = re.compile("(?<=[A-Za-z])(?=[\u0620-\u064a])|(?<=[\u0620-\u064a])(?=[A-Za-z])")
_new = tuple.__new__  # in half the time of Line(...)
_SPACED = re.compile(r"(?<!\S)[^\W\d_](?: [^\W\d_]){3,}(?!\S)")


class Line(NamedTuple):
    """A line of a column; lengths in points, in the frame of its text."""

    text: str
    size: float  #: of most of its type
    bold: bool
    italic: bool
    fixed: bool
    left: float
    bottom: float
    right: float
    top: float
    margin: float  #: right edge of its column
    first: int = 0  #: index of its first character on the page
    angle: int = 0
    level: int = 0  #: of the heading that its tags say it is; 0: none

    @property
    def height(self) -> float:
        """Height of its letters' boxes."""
        return self.top - self.bottom


def lines_of(region: Region) -> Iterator[Line]:
    """The lines of a region."""
    region = _with_capitals(region)
    margin = max((piece.right for row in region for piece in row), default=0.0)
    for row in region:
        yield line_of(row, margin)


def line_of(row: Row, margin: float) -> Line:
    """The line of a row of pieces."""
    if len(row) == 1:
        only = row[0]
        _, left, bottom, right, top, size, bold, italic, fixed, _, _, first, angle, level = only
        return _new(Line, (_whole(only), size, bold, italic, fixed, left, bottom, right, top, margin, first, angle, level))
    main = max(row, key=lambda piece: len(piece.text))
    return Line(
        text=" ".join(_whole(piece) for piece in row).replace(f"{DIVIDED} ", DIVIDED),
        size=main.size,
        bold=all(piece.bold for piece in row),
        italic=all(piece.italic for piece in row),
        fixed=main.fixed,
        left=min(piece.left for piece in row),
        bottom=min(piece.bottom for piece in row),
        right=max(piece.right for piece in row),
        top=max(piece.top for piece in row),
        margin=margin,
        first=min(piece.first for piece in row),
        angle=main.angle,
        level=main.level,
    )


def _whole(piece: Piece) -> str:
    """The text of a piece with its spaced-out letters as words."""
    text = piece.text
    if not text.isascii() and TO_LEFT.search(text):
        text = _TURN.sub(" ", text)  # pdfium loses the space there, or the file has none, where a search needs two words
    if len(text) < 7 or 2 * len(piece.lefts) <= len(text) or not _SPACED.search(text):
        return text
    return _SPACED.sub(lambda match: _joined(match, piece), text)


def _joined(match: re.Match[str], piece: Piece) -> str:
    first = match.string.count(" ", 0, match.start())
    letters = match.group().split(" ")
    span = slice(first, first + len(letters))
    if len(piece.lefts[span]) != len(letters):
        return match.group()
    gaps = [left - right for left, right in zip(piece.lefts[span][1:], piece.rights[span], strict=False)]
    usual = statistics.median_low(gaps)
    told = letters[0]
    for letter, gap in zip(letters[1:], gaps, strict=True):
        told += (" " if gap > 1.7 * max(usual, 0.5) else "") + letter
    return told


def _with_capitals(region: Region) -> Region:
    """The region with drop capitals joined to the lines that they begin."""
    if not any(len(row[0].text) == 1 and _is_capital(row[0]) for row in region):
        return region
    found: list[Row] = []
    capitals = [row[0] for row in region if _is_capital(row[0])]
    for row in region:
        rest = [piece for piece in row if piece not in capitals]
        if rest:
            found.append(rest)
    for capital in capitals:
        beside = next((at for at, row in enumerate(found) if _is_beside(row[0], capital)), None)
        if beside is None:
            place = next((at for at, row in enumerate(found) if row[0].top < capital.bottom), len(found))
            found.insert(place, [capital])
            continue
        piece = found[beside][0]
        gap = "" if piece.left - capital.right < 0.25 * piece.size or piece.text[:1].islower() else " "
        text = f"{capital.text}{gap}{piece.text}"
        lefts = [capital.left, *piece.lefts[0 if gap else 1 :]]
        rights = [capital.right, *piece.rights] if gap else piece.rights
        found[beside] = [
            piece._replace(text=text, left=capital.left, lefts=lefts, rights=rights, first=capital.first),
            *found[beside][1:],
        ]
    return found


def _is_capital(piece: Piece) -> bool:
    return len(piece.text) == 1 and piece.text.isupper()


def _is_beside(piece: Piece, capital: Piece) -> bool:
    return (
        capital.size > DROP_CAPITAL * piece.size
        and 0 <= piece.left - capital.right + 0.3 * piece.size < 2 * piece.size
        and capital.bottom < (piece.top + piece.bottom) / 2 < capital.top + 0.3 * piece.size
    )
