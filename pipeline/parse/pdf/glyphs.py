"""The text of a PDF page in pieces: runs of words on one line without a wide gap, with their places and their type."""

from __future__ import annotations

import re
from bisect import bisect, bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, compress, count, islice, repeat
from operator import le, sub
from typing import NamedTuple

import pypdfium2.raw as pdfium_c

from pipeline.parse.hyphens import DIVIDED
from pipeline.parse.pdf.boxes import Box, Boxes, Places
from pipeline.parse.pdf.fonts import Face, Fonts, Turn
from pipeline.parse.pdf.opened import Opened
from pipeline.parse.pdf.quick import quick

#: Minimum gap between two pieces of a line, and minimum difference of their heights, in heights of the line: more than between
#: two words, and more than superscripts are raised.
MIN_GAP = 0.7
#: Largest coordinate, in points; broken files have any.
MAX_PLACE = 100_000.0
#: pdfium's characters for a hyphen at the end of a line.
_HYPHENS = ("\x02", "\xad")

#: A word; a part of a divided one ends with DIVIDED.
WORD = re.compile("[^\\s\ufffe]+\ufffe?|\ufffe")
_OTHER_SPACE = re.compile(r"[^\S ]")
_ALEF_LAM = re.compile("[\u0622\u0623\u0625\u0627]\u0644")
#: A number at the end of a word of three letters and more; units and formulas are shorter. One letter of Chinese, Japanese or
#: Korean suffices.
_NOTE = re.compile(r"\d(?:(?<=[^\W\d_]{3}.)|(?<=[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7a3].))\d{0,2}\)?(?!\w)")
#: Letters of scripts that are written from right to left.
TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")

_new = tuple.__new__
#: From the length of a word to that with the space after it, and from the place after that space to that of the last character.
_WITH_SPACE, _BEFORE_SPACE = (1).__add__, (-2).__add__
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


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What pdfium tells of the characters of a document."""

    boxes: Boxes = field(default_factory=Boxes)
    fonts: Fonts = field(default_factory=Fonts)


def pieces(page: Opened, glyphs: Glyphs) -> list[Piece]:
    """The pieces of a page in pdfium's order."""
    text = page.text
    for hyphen in _HYPHENS:
        if hyphen in text:
            text = text.replace(hyphen, DIVIDED)
    starts, lasts = places_of_words(text)
    return list(_Reading(page, text, starts, lasts, glyphs).pieces()) if starts else []


def places_of_words(text: str) -> tuple[list[int], list[int]]:
    """The places of the first and of the last character of each word, as WORD finds them, in half the time."""
    starts: list[int] = []
    lasts: list[int] = []
    at = 0
    plain = text.replace("\r\n", "  ").replace("\xa0", " ")
    if not plain.replace(DIVIDED, "-").isprintable():
        plain = _OTHER_SPACE.sub(" ", plain)
    for part in plain.split(DIVIDED):
        lengths = list(map(len, part.split(" ")))
        begins = list(accumulate(map(_WITH_SPACE, lengths), initial=at))
        starts += compress(begins, lengths)
        lasts += map(_BEFORE_SPACE, compress(islice(begins, 1, None), lengths))
        at = begins[-1]
        word = lengths[-1]
        if word:  # DIVIDED ends it
            lasts[-1] += 1
        else:
            starts.append(at - 1)
            lasts.append(at - 1)
    if word:  # but not the last one
        lasts[-1] -= 1
    else:
        del starts[-1], lasts[-1]
    return starts, lasts


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
    lefts, rights, tops, bottoms = words.lefts, words.rights, words.tops, words.bottoms
    # Most words stand right of the one before, on its line, with a space that would be none in the smallest type.
    least = MIN_GAP * min(map(sub, tops, bottoms)) if all(map(le, lefts, rights)) else -1.0
    spaces = map(sub, islice(lefts, 1, None), rights)
    others = [
        at
        for at, (space, bottom, before) in enumerate(zip(spaces, islice(bottoms, 1, None), bottoms, strict=False), 1)
        if bottom != before or not 0.0 <= space <= least
    ]
    return [at for at in others if _is_break(words, at)]


def _is_break(words: Places, at: int) -> bool:
    lefts, rights, bottoms = words.lefts, words.rights, words.bottoms
    gap = MIN_GAP * (words.tops[at - 1] - bottoms[at - 1])
    return lefts[at] - rights[at - 1] > gap or lefts[at - 1] - rights[at] > gap or abs(bottoms[at] - bottoms[at - 1]) > gap


class _Reading:
    """The page whose words are put together."""

    def __init__(self, page: Opened, text: str, starts: list[int], lasts: list[int], glyphs: Glyphs) -> None:
        self._page, self._text, self._boxes, self._fonts = page.at_textpage, text, glyphs.boxes, glyphs.fonts
        self._starts, self._lasts = starts, lasts  #: places in the text of the first and last character of each word
        #: The code unit of each character of the text, where these are not its characters; and whether units count as on the page.
        self._units: list[int] = []
        if len(text.encode("utf-16-le")) > 2 * len(text):
            self._units = list(accumulate((2 if mark > "\uffff" else 1 for mark in text[:-1]), initial=0))
        self._is_plain = not self._units and page.count == len(text)
        self._first, self._last = self._indexes(starts), self._indexes(lasts)
        self._raised: list[int] = []  #: places of the numbers of footnotes in the text

    def _indexes(self, places: list[int]) -> list[int]:
        """The indexes on the page of the characters at some places of the text."""
        if self._is_plain:
            return places
        units = [self._units[place] for place in places] if self._units else places
        return [max(0, index) for index in map(_index, repeat(self._page), units)]

    def pieces(self) -> Iterator[Piece]:
        """The pieces of the page."""
        text, first = self._text, self._first
        to_left = not text.isascii() and TO_LEFT.search(text) is not None
        if to_left:
            text = self._text = self._with_ligatures(text)
        words = (self._boxes.of_wide_words if to_left else self._boxes.of_words)(self._page, first, self._last)
        self._raised = [found.start() for found in _NOTE.finditer(text) if self._is_raised(found.start())]
        lines = [0, *_begins(text, self._starts)]
        turns = dict(zip(lines, self._fonts.turns(self._page, [first[at] for at in lines]), strict=True))
        if any(angle for angle, _ in turns.values()):
            self._turn(words, lines, [angle for angle, _ in turns.values()], to_left)
        if within := set(_breaks(words)) - turns.keys():  # pieces that do not begin a line have the angle of theirs
            within_turns = self._fonts.turns(self._page, [first[at] for at in within])
            for at, (_, scale) in zip(within, within_turns, strict=True):
                turns[at] = turns[lines[bisect(lines, at) - 1]][0], scale
        yield from self._typed(words, sorted(turns), turns)

    def _turn(self, words: Places, lines: Sequence[int], angles: Sequence[int], to_left: bool) -> None:
        """Put the words of turned lines into the frame of their text."""
        for begin, end, angle in zip(lines, [*lines[1:], len(self._first)], angles, strict=True):
            if angle:
                span = slice(begin, end)
                wide = words.part(span) if to_left else self._boxes.of_wide_words(self._page, self._first[span], self._last[span])
                words.put(span, wide, partial(upright, angle=angle))

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

    def _typed(self, words: Places, begins: Sequence[int], turns: Mapping[int, Turn]) -> Iterator[Piece]:
        """The pieces that begin with some words of the page, and are turned and enlarged as given."""
        page, first = self._page, [self._first[at] for at in begins]
        faces, sizes = self._fonts.faces(page, first), self._fonts.sizes(page, first)
        ends = [*begins[1:], len(self._first)]
        marked = [
            at
            for at, (_, bold, italic), begin, end in zip(count(), faces, begins, ends, strict=False)
            if (bold or italic) and end - begin > 1
        ]
        if marked:  # all of a bold piece is
            finals = self._fonts.faces(page, [self._first[ends[at] - 1] for at in marked])
            for at, (_, final_bold, final_italic) in zip(marked, finals, strict=True):
                fixed, bold, italic = faces[at]
                faces[at] = fixed, bold and final_bold, italic and final_italic
        for begin, end, face, size in zip(begins, ends, faces, sizes, strict=True):
            angle, scale = turns[begin]
            # A bullet may have a size of its own.
            if self._starts[begin] == self._lasts[begin] and end - begin > 1 and not self._text[self._starts[begin]].isalnum():
                second = [self._first[begin + 1]]
                (size,), ((_, scale),) = self._fonts.sizes(page, second), self._fonts.turns(page, second)
            yield self._piece(words, begin, end, face, size * scale, angle)

    def _piece(self, words: Places, at: int, until: int, face: Face, size: float, angle: int) -> Piece:
        """The words from `at` to `until` of the page as a piece."""
        start, final = self._starts[at], self._lasts[until - 1]
        fixed, bold, italic = face
        lefts, rights = words.lefts[at:until], words.rights[at:until]
        top, bottom = words.tops[at], words.bottoms[at]
        left, right = (min(lefts), max(rights)) if until - at > 1 else (lefts[0], rights[0])
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
        first = self._first[at]
        return _new(Piece, (text, left, bottom, right, top, size, bold, italic, fixed, lefts, rights, first, angle, 0))


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
