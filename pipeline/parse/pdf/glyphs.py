"""The text of a PDF page in pieces: runs of words on one line without a wide gap, with their places and their type."""

from __future__ import annotations

import ctypes
import math
import re
from bisect import bisect, bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import Any, NamedTuple

import pypdfium2.raw as pdfium_c

from pipeline.parse.hyphens import DIVIDED
from pipeline.parse.pdf.quick import ADDRESS, quick

#: Minimum gap between two pieces of a line, and minimum difference of their heights, in heights of the line: more than between
#: two words, and more than superscripts are raised.
MIN_GAP = 0.7
#: Largest coordinate, in points; broken files have any.
MAX_PLACE = 100_000.0
#: pdfium's characters for a hyphen at the end of a line.
_HYPHENS = ("\x02", "\xad")
#: Characters in the name of a font.
_NAME_CHARS = 80

#: A word; a part of a divided one ends with DIVIDED.
WORD = re.compile("[^\\s\ufffe]+\ufffe?|\ufffe")
_BOLD = re.compile(r"bold|black|heavy|demi|medi\b|(?:cm|sf|ec|lm)\w{0,4}bx|cmb\d", re.I)
_ALEF_LAM = re.compile("[\u0622\u0623\u0625\u0627]\u0644")
_SLANTED = re.compile(r"italic|oblique|slanted", re.I)
_FIXED = re.compile(r"mono|courier|typewriter|consolas|menlo|(?:cm|sf|ec|lm)\w{0,4}tt|txtt|\btt\d", re.I)
_FORCE_BOLD, _ITALIC, _FIXED_PITCH = 1 << 18, 1 << 6, 1
#: A number at the end of a word of three letters and more; units and formulas are shorter. One letter of Chinese, Japanese or
#: Korean suffices.
_NOTE = re.compile(r"\d(?:(?<=[^\W\d_]{3}.)|(?<=[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7a3].))\d{0,2}\)?(?!\w)")
#: Letters of scripts that are written from right to left.
TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")

#: Left, top, right and bottom, in points.
Box = tuple[float, float, float, float]

_loose_box = quick(pdfium_c.FPDFText_GetLooseCharBox, ctypes.c_int, ADDRESS, ctypes.c_int, ADDRESS)
_matrix = quick(pdfium_c.FPDFText_GetMatrix, ctypes.c_int, ADDRESS, ctypes.c_int, ADDRESS)
_font_size = quick(pdfium_c.FPDFText_GetFontSize, ctypes.c_double, ADDRESS, ctypes.c_int)
_font_info = quick(pdfium_c.FPDFText_GetFontInfo, ctypes.c_ulong, ADDRESS, ctypes.c_int, ADDRESS, ctypes.c_ulong, ADDRESS)


class Piece(NamedTuple):
    """Words of a line; lengths in points, in a frame in which the text is upright and y grows upwards."""

    text: str
    left: float
    bottom: float
    right: float
    top: float
    size: float  #: of its type
    bold: bool
    italic: bool
    fixed: bool  #: all characters have one width, as in code
    lefts: Sequence[float]  #: of its words
    rights: Sequence[float]
    first: int  #: index of its first character on the page
    angle: int = 0  #: of its text on the page, in degrees, counter-clockwise
    level: int = 0  #: of the heading that its tags say it belongs to; 0: none


def pieces(textpage: Any) -> list[Piece]:
    """The pieces of a page in pdfium's order."""
    text = textpage.get_text_range()
    for hyphen in _HYPHENS:
        if hyphen in text:
            text = text.replace(hyphen, DIVIDED)
    spans = list(map(re.Match.span, WORD.finditer(text)))
    return list(_Reading(textpage, text, spans).pieces()) if spans else []


def _indexes(textpage: Any, text: str) -> Sequence[int]:
    """The index on the page of each character of the text: its place, where each character has one code unit."""
    if max(text) <= "\uffff":
        if textpage.count_chars() == len(text):
            return range(len(text))
        units: Sequence[int] = range(len(text))
    else:
        units = list(accumulate((2 if mark > "\uffff" else 1 for mark in text[:-1]), initial=0))
    raw = textpage.raw
    return [max(0, pdfium_c.FPDFText_GetCharIndexFromTextIndex(raw, unit)) for unit in units]


def _begins(text: str, starts: Sequence[int]) -> Iterator[int]:
    """The indexes of the words that begin a line, but for the first, by the places where words start."""
    found = text.find("\n", starts[0])
    while found >= 0:
        at = bisect_left(starts, found)
        if at == len(starts):
            return
        if text[starts[at] - 1] == "\n":
            yield at
        found = text.find("\n", starts[at])


@dataclass(slots=True)
class _Words:
    """The places of words, each in a list."""

    lefts: list[float]
    tops: list[float]
    rights: list[float]
    bottoms: list[float]

    def breaks(self) -> list[int]:
        """The indexes of words that do not go on from the word before them."""
        lefts, rights, bottoms = self.lefts, self.rights, self.bottoms
        gaps = [MIN_GAP * (top - bottom) for top, bottom in zip(self.tops, bottoms, strict=True)]
        # Most words stand right of the one before, on its line: those are told first.
        return [
            at
            for at, (left, right, bottom, end, begin, before, gap) in enumerate(
                zip(lefts[1:], rights[1:], bottoms[1:], rights, lefts, bottoms, gaps, strict=False), 1
            )
            if not (bottom == before and end <= left <= end + gap and begin <= right + gap)
            and (left - end > gap or begin - right > gap or bottom - before > gap or before - bottom > gap)
        ]

    def turned(self, first: int, end: int, angle: int) -> _Words:
        """Some of the words in the frame of text with this angle."""
        span = slice(first, end)
        boxes = zip(self.lefts[span], self.tops[span], self.rights[span], self.bottoms[span], strict=True)
        return _Words(*map(list, zip(*(upright(box, angle) for box in boxes), strict=True)))


def _places(page: int, firsts: Sequence[int], lasts: Sequence[int], to_left: bool) -> _Words:
    """The places of words by the boxes of their first and last characters; zeros where pdfium knows none."""
    count = len(firsts)
    buffer = (ctypes.c_float * (8 * count))()
    base = ctypes.addressof(buffer)
    middle, end = base + 16 * count, base + 32 * count
    deque(map(_loose_box, repeat(page), firsts, range(base, middle, 16)), 0)
    deque(map(_loose_box, repeat(page), lasts, range(middle, end, 16)), 0)
    flat = buffer[:]
    half = 4 * count
    lefts, tops, rights, bottoms = flat[0:half:4], flat[1:half:4], flat[half + 2 :: 4], flat[3:half:4]
    return _Words(lefts, tops, rights, bottoms) if not to_left else _wide(flat, half)


def _wide(flat: list[float], half: int) -> _Words:
    """The places of words whose last character may stand on any side of the first."""
    pairs = [zip(flat[at:half:4], flat[half + at :: 4], strict=True) for at in range(4)]
    lows, highs = list(map(min, pairs[0])), list(map(max, pairs[2]))
    return _Words(lows, list(map(max, pairs[1])), highs, list(map(min, pairs[3])))


class _Reading:
    """The text page whose words are put together."""

    def __init__(self, textpage: Any, text: str, spans: Sequence[tuple[int, int]]) -> None:
        self._page, self._text, self._spans = ctypes.cast(textpage.raw, ADDRESS).value or 0, text, spans
        self._index = _indexes(textpage, text)
        self._numbers = (ctypes.c_float * 6)()
        self._address = ctypes.addressof(self._numbers)
        self._name = ctypes.create_string_buffer(_NAME_CHARS)
        self._flags = ctypes.c_int()
        self._at_name, self._at_flags = ctypes.addressof(self._name), ctypes.addressof(self._flags)
        self._raised: list[int] = []  #: places of the numbers of footnotes in the text
        self._faces: dict[tuple[bytes, int], tuple[bool, bool, bool]] = {}  #: by name and flags of a font

    def pieces(self) -> Iterator[Piece]:
        """The pieces of the page."""
        text, spans, index = self._text, self._spans, self._index
        starts, ends = zip(*spans, strict=True)
        first, last = list(starts), [end - 1 for end in ends]
        if not isinstance(index, range):
            first, last = [index[at] for at in first], [index[at] for at in last]
        to_left = not text.isascii() and TO_LEFT.search(text) is not None
        if to_left:
            text = self._text = self._with_ligatures(text)
        words = _places(self._page, first, last, to_left)
        self._raised = [found.start() for found in _NOTE.finditer(text) if self._is_raised(found.start())]
        lines = list(_begins(text, starts))
        splits = words.breaks()
        for begin, end in zip([0, *lines], [*lines, len(spans)], strict=True):
            turn = self._turn(first[begin])
            if turn[0]:
                own = words.turned(begin, end, turn[0]) if to_left else self._all(begin, end, turn[0])
                cuts = own.breaks()
                base = begin
            else:
                own, base = words, 0
                cuts = splits[bisect(splits, begin) : bisect_left(splits, end)]
            if not cuts:
                yield self._piece(own, base, begin, end, turn)
                continue
            cuts = [base + cut for cut in cuts]
            for at, until in zip([begin, *cuts], [*cuts, end], strict=True):
                yield self._piece(own, base, at, until, turn if at == begin else (turn[0], self._turn(first[at])[1]))

    def _is_raised(self, at: int) -> bool:
        """Whether a number stands higher than the word before it, in smaller type, as that of a footnote."""
        found = _places(self._page, self._index[at - 1 : at + 1], self._index[at - 1 : at + 1], False)
        (top, number_top), (bottom, number_bottom) = found.tops, found.bottoms
        return number_top - number_bottom < 0.85 * (top - bottom) and number_bottom > bottom

    def _with_ligatures(self, text: str) -> str:
        """The text with lam before alef where both are one glyph: pdfium turns them round with the line."""
        marks = list(text)
        for found in _ALEF_LAM.finditer(text):
            at = found.start()
            alef = _places(self._page, [self._index[at]], [self._index[at]], False)
            lam = _places(self._page, [self._index[at + 1]], [self._index[at + 1]], False)
            if abs(alef.lefts[0] - lam.lefts[0]) < 0.01 and abs(alef.rights[0] - lam.rights[0]) < 0.01:
                marks[at], marks[at + 1] = marks[at + 1], marks[at]
        return "".join(marks)

    def _all(self, begin: int, end: int, angle: int) -> _Words:
        """The places of words of turned text, whose last characters stand beside, above or below the first."""
        spans, index = self._spans[begin:end], self._index
        wide = _places(self._page, [index[start] for start, _ in spans], [index[stop - 1] for _, stop in spans], True)
        return wide.turned(0, len(spans), angle)

    def _turn(self, index: int) -> tuple[int, float]:
        """The angle of a character, in degrees, and the factor between the size of its font and its size on the page."""
        if not _matrix(self._page, index, self._address):
            return 0, 1.0
        a, b, c, d, _, _ = self._numbers
        if not b and a >= 0:
            return 0, abs(d) if not c else math.hypot(c, d)
        return round(math.degrees(math.atan2(b, a))) % 360, math.hypot(c, d)

    def _piece(self, words: _Words, base: int, at: int, until: int, turn: tuple[int, float]) -> Piece:
        """The words from `at` to `until` of the page as a piece; `words` begin with that at `base`."""
        (start, end), (last, final) = self._spans[at], self._spans[until - 1]
        first = self._index[start]
        fixed, bold, italic = self._font(first)
        if (bold or italic) and last != start:
            _, final_bold, final_italic = self._font(self._index[last])
            bold, italic = bold and final_bold, italic and final_italic
        angle, scale = turn
        if until - at > 1 and end - start == 1 and not self._text[start].isalnum():  # a bullet may have a size of its own
            second = self._index[self._spans[at + 1][0]]
            size = _font_size(self._page, second) * self._turn(second)[1]
        else:
            size = _font_size(self._page, first) * scale
        at, until = at - base, until - base
        lefts, rights = words.lefts[at:until], words.rights[at:until]
        top, bottom = words.tops[at], words.bottoms[at]
        left, right = (lefts[0], rights[0]) if end == final else (min(lefts), max(rights))
        if not (-MAX_PLACE < left <= right < MAX_PLACE and -MAX_PLACE < bottom <= top < MAX_PLACE):  # also for what is no number
            left, right = sorted(_place(x) for x in (left, right))
            bottom, top = sorted(_place(y) for y in (bottom, top))
            lefts, rights = [left] * len(lefts), [right] * len(rights)
        text = self._text[start:final]
        if self._raised:
            for place in reversed(self._raised[bisect(self._raised, start) : bisect_left(self._raised, final)]):
                text = f"{text[: place - start]} {text[place - start :]}"
        return Piece(text, left, bottom, right, top, size or top - bottom, bold, italic, fixed, lefts, rights, first, angle)

    def _font(self, index: int) -> tuple[bool, bool, bool]:
        """Whether all characters of a character's font have one width, whether it is bold, and whether it is italic."""
        _font_info(self._page, index, self._at_name, _NAME_CHARS, self._at_flags)
        key = self._name.value, self._flags.value
        if (face := self._faces.get(key)) is None:
            text, flags = key[0].decode("latin-1"), key[1]
            fixed = bool(flags & _FIXED_PITCH) or _FIXED.search(text) is not None
            bold = bool(flags & _FORCE_BOLD) or _BOLD.search(text) is not None
            face = self._faces[key] = fixed, bold, bool(flags & _ITALIC) or _SLANTED.search(text) is not None
        return face


def _place(value: float) -> float:
    return value if -MAX_PLACE < value < MAX_PLACE else 0.0


def upright(box: Box, angle: int) -> Box:
    """A box (left, top, right, bottom) of the page in the frame of text with this angle."""
    if not angle:
        return box
    left, top, right, bottom = box
    quarter = round(angle / 90) % 4
    if quarter == 1:
        return bottom, -left, top, -right
    if quarter == 2:
        return -right, -bottom, -left, -top
    if quarter == 3:
        return -top, right, -bottom, left
    return box
