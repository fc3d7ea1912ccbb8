"""The boxes of characters of a page, many at once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import pypdfium2.raw as pdfium_c

from pipeline.parse.pdf.quick import Address, quick

#: Boxes that there is room for at first: those of the first and last characters of words on most pages.
FIRST_BOXES = 1_000

_loose_box = quick(pdfium_c.FPDFText_GetLooseCharBox)


@dataclass(slots=True)
class Places:
    """The places of characters or words, each side in a list; zeros where pdfium knows none."""

    lefts: list[float]
    tops: list[float]
    rights: list[float]
    bottoms: list[float]


class Boxes:
    """Memory that pdfium writes boxes to, and what points into it: made once, and used for all pages of a document."""

    def __init__(self) -> None:
        self._make(FIRST_BOXES)

    def _make(self, count: int) -> None:
        memory = (ctypes.c_float * (4 * count))()
        self._places = [ctypes.byref(memory, at) for at in range(0, 16 * count, 16)]
        self._numbers: Any = memoryview(memory).cast("B").cast("f")

    def of_words(self, page: Address, firsts: Sequence[int], lasts: Sequence[int]) -> Places:
        """The places of words from left to right: the left side of the first character, the right side of the last."""
        end = self._read(page, firsts, lasts)
        numbers, middle = self._numbers, 4 * len(firsts)
        lefts, tops, bottoms = (numbers[side:middle:4].tolist() for side in (0, 1, 3))
        return Places(lefts, tops, numbers[middle + 2 : end : 4].tolist(), bottoms)

    def of_wide_words(self, page: Address, firsts: Sequence[int], lasts: Sequence[int]) -> Places:
        """The places of words whose last character may stand on any side of the first."""
        end = self._read(page, firsts, lasts)
        numbers, middle = self._numbers, 4 * len(firsts)
        pairs = [(numbers[side:middle:4].tolist(), numbers[middle + side : end : 4].tolist()) for side in range(4)]
        lefts, tops, rights, bottoms = (list(map(choose, *pair)) for choose, pair in zip((min, max, max, min), pairs, strict=True))
        return Places(lefts, tops, rights, bottoms)

    def of(self, page: Address, *indexes: int) -> Places:
        """The places of characters."""
        return self.of_words(page, indexes, indexes)

    def _read(self, page: Address, firsts: Sequence[int], lasts: Sequence[int]) -> int:
        """Have pdfium write the boxes of characters; returns how many numbers these are."""
        count = len(firsts) + len(lasts)
        if count > len(self._places):
            self._make(2 * count)
        known = list(map(_loose_box, repeat(page), chain(firsts, lasts), self._places))
        if not all(known):  # numbers of the last page stand there
            for at in range(4 * count):
                self._numbers[at] = self._numbers[at] if known[at // 4] else 0.0
        return 4 * count
