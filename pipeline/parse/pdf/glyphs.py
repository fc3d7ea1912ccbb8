"""The text of a PDF page in pieces: runs of words on one line without a wide gap, with their places and their type."""

from __future__ import annotations

import ctypes
import math
import re
from bisect import bisect, bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, repeat
from typing import Any, NamedTuple

import pypdfium2.raw as pdfium_c

from pipeline.parse.hyphens import DIVIDED
from pipeline.parse.pdf.boxes import Boxes, Places
from pipeline.parse.pdf.quick import address, quick

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

_new = tuple.__new__
_matrix = quick(pdfium_c.FPDFText_GetMatrix)
_font_size = quick(pdfium_c.FPDFText_GetFontSize, ctypes.c_double)
_font_info = quick(pdfium_c.FPDFText_GetFontInfo, None)
_index = quick(pdfium_c.FPDFText_GetCharIndexFromTextIndex)


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


def pieces(textpage: Any, text: str, boxes: Boxes) -> list[Piece]:
    """The pieces of a page, which has this text, in pdfium's order."""
    for hyphen in _HYPHENS:
        if hyphen in text:
            text = text.replace(hyphen, DIVIDED)
    starts, lasts = places_of_words(text)
    return list(_Reading(textpage, text, starts, lasts, boxes).pieces()) if starts else []


def places_of_words(text: str) -> tuple[list[int], list[int]]:
    """The places of the first and of the last character of each word, as WORD finds them, in half the time."""
    starts: list[int] = []
    lasts: list[int] = []
    at = 0
    plain = text.replace("\r\n", "  ")
    for part in plain.split(DIVIDED):
        word = ""
        for word in part.split(" "):
            if word:
                starts.append(at)
                at += len(word)
                lasts.append(at - 1)
            at += 1
        if word:  # DIVIDED ends it
            lasts[-1] += 1
        else:
            starts.append(at - 1)
            lasts.append(at - 1)
    if word:  # but not the last one
        lasts[-1] -= 1
    else:
        del starts[-1], lasts[-1]
    if sum(lasts) - sum(starts) + len(starts) == len("".join(plain.split())):
        return starts, lasts
    spans = [found.span() for found in WORD.finditer(text)]  # there is white space of other kinds
    return [start for start, _ in spans], [end - 1 for _, end in spans]


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


def _breaks(words: Places) -> list[int]:
    """The indexes of words that do not go on from the word before them."""
    lefts, rights, bottoms = words.lefts, words.rights, words.bottoms
    gaps = [MIN_GAP * (top - bottom) for top, bottom in zip(words.tops, bottoms, strict=True)]
    # Most words stand right of the one before, on its line: those are told first.
    return [
        at
        for at, (left, right, bottom, end, begin, before, gap) in enumerate(
            zip(lefts[1:], rights[1:], bottoms[1:], rights, lefts, bottoms, gaps, strict=False), 1
        )
        if not (bottom == before and end <= left <= end + gap and begin <= right + gap)
        and (left - end > gap or begin - right > gap or bottom - before > gap or before - bottom > gap)
    ]


def _turned(words: Places, span: slice, angle: int) -> Places:
    """Some of the words in the frame of text with this angle."""
    boxes = zip(words.lefts[span], words.tops[span], words.rights[span], words.bottoms[span], strict=True)
    return Places(*map(list, zip(*(upright(box, angle) for box in boxes), strict=True)))


class _Reading:
    """The text page whose words are put together."""

    def __init__(self, textpage: Any, text: str, starts: list[int], lasts: list[int], boxes: Boxes) -> None:
        self._page, self._text, self._boxes = address(textpage.raw), text, boxes
        self._starts, self._lasts = starts, lasts  #: places in the text of the first and last character of each word
        #: The code unit of each character of the text, where these are not its characters; and whether units count as on the page.
        self._units: list[int] = []
        if len(text.encode("utf-16-le")) > 2 * len(text):
            self._units = list(accumulate((2 if mark > "\uffff" else 1 for mark in text[:-1]), initial=0))
        self._is_plain = not self._units and textpage.count_chars() == len(text)
        self._first, self._last = self._indexes(starts), self._indexes(lasts)
        numbers = (ctypes.c_float * 6)()
        self._numbers, self._at_numbers = memoryview(numbers).cast("B").cast("f"), ctypes.byref(numbers)
        self._name, self._name_chars = ctypes.create_string_buffer(_NAME_CHARS), ctypes.c_ulong(_NAME_CHARS)
        self._flags = ctypes.c_int()
        self._at_flags = ctypes.byref(self._flags)
        self._raised: list[int] = []  #: places of the numbers of footnotes in the text
        self._faces: dict[tuple[bytes, int], tuple[bool, bool, bool]] = {}  #: by name and flags of a font

    def _indexes(self, places: list[int]) -> list[int]:
        """The indexes on the page of the characters at some places of the text."""
        if self._is_plain:
            return places
        units = [self._units[place] for place in places] if self._units else places
        return [max(0, index) for index in map(_index, repeat(self._page), units)]

    def pieces(self) -> Iterator[Piece]:
        """The pieces of the page."""
        text, starts, first = self._text, self._starts, self._first
        to_left = not text.isascii() and TO_LEFT.search(text) is not None
        if to_left:
            text = self._text = self._with_ligatures(text)
        words = (self._boxes.of_wide_words if to_left else self._boxes.of_words)(self._page, first, self._last)
        self._raised = [found.start() for found in _NOTE.finditer(text) if self._is_raised(found.start())]
        lines = list(_begins(text, starts))
        splits = _breaks(words)
        for begin, end in zip([0, *lines], [*lines, len(starts)], strict=True):
            turn = self._turn(first[begin])
            if turn[0]:
                span = slice(begin, end)
                wide = words if to_left else self._boxes.of_wide_words(self._page, first[span], self._last[span])
                own, base = _turned(wide, span if to_left else slice(None), turn[0]), begin
                cuts = [base + cut for cut in _breaks(own)]
            else:
                own, base = words, 0
                cuts = splits[bisect(splits, begin) : bisect_left(splits, end)]
            if not cuts:
                yield self._piece(own, base, begin, end, turn)
                continue
            for at, until in zip([begin, *cuts], [*cuts, end], strict=True):
                yield self._piece(own, base, at, until, turn if at == begin else (turn[0], self._turn(first[at])[1]))

    def _is_raised(self, at: int) -> bool:
        """Whether a number stands higher than the word before it, in smaller type, as that of a footnote."""
        found = self._boxes.of(self._page, *self._indexes([at - 1, at]))
        (top, number_top), (bottom, number_bottom) = found.tops, found.bottoms
        return number_top - number_bottom < 0.85 * (top - bottom) and number_bottom > bottom

    def _with_ligatures(self, text: str) -> str:
        """The text with lam before alef where both are one glyph: pdfium turns them round with the line."""
        marks = list(text)
        for found in _ALEF_LAM.finditer(text):
            at = found.start()
            pair = self._boxes.of(self._page, *self._indexes([at, at + 1]))
            (alef_left, lam_left), (alef_right, lam_right) = pair.lefts, pair.rights
            if abs(alef_left - lam_left) < 0.01 and abs(alef_right - lam_right) < 0.01:
                marks[at], marks[at + 1] = marks[at + 1], marks[at]
        return "".join(marks)

    def _turn(self, index: int) -> tuple[int, float]:
        """The angle of a character, in degrees, and the factor between the size of its font and its size on the page."""
        if not _matrix(self._page, index, self._at_numbers):
            return 0, 1.0
        a, b, c, d, _, _ = self._numbers.tolist()
        if not b and a >= 0:
            return 0, abs(d) if not c else math.hypot(c, d)
        return round(math.degrees(math.atan2(b, a))) % 360, math.hypot(c, d)

    def _piece(self, words: Places, base: int, at: int, until: int, turn: tuple[int, float]) -> Piece:
        """The words from `at` to `until` of the page as a piece; `words` begin with that at `base`."""
        first, start, end, final = self._first[at], self._starts[at], self._lasts[at], self._lasts[until - 1]
        fixed, bold, italic = self._font(first)
        if (bold or italic) and until - at > 1:
            _, final_bold, final_italic = self._font(self._first[until - 1])
            bold, italic = bold and final_bold, italic and final_italic
        angle, scale = turn
        if start == end and until - at > 1 and not self._text[start].isalnum():  # a bullet may have a size of its own
            second = self._first[at + 1]
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
        text = self._text[start : final + 1]
        if self._raised:
            for place in reversed(self._raised[bisect(self._raised, start) : bisect(self._raised, final)]):
                text = f"{text[: place - start]} {text[place - start :]}"
        size = size or top - bottom
        # In half the time of Piece(...), which names its arguments.
        return _new(Piece, (text, left, bottom, right, top, size, bold, italic, fixed, lefts, rights, first, angle, 0))

    def _font(self, index: int) -> tuple[bool, bool, bool]:
        """Whether all characters of a character's font have one width, whether it is bold, and whether it is italic."""
        _font_info(self._page, index, self._name, self._name_chars, self._at_flags)
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
