"""The boxes of characters of a page, many at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import pypdfium2.raw as pdfium_c

from pipeline.parse.pdf.quick import Address, Memory, quick

#: Boxes that there is room for at first: those of the first and last characters of words on most pages.
FIRST_BOXES = 1_000

_loose_box = quick(pdfium_c.FPDFText_GetLooseCharBox, None)


#: Left, top, right and bottom, in points.
Box = tuple[float, float, float, float]


@dataclass(slots=True)
class Places:
    """The places of characters or words, each side in a list; zeros where pdfium knows none."""

    lefts: list[float]
    tops: list[float]
    rights: list[float]
    bottoms: list[float]

    def part(self, span: slice) -> Places:
        """Some of the places."""
        return Places(self.lefts[span], self.tops[span], self.rights[span], self.bottoms[span])

    def put(self, span: slice, others: Places, turned: Callable[[Box], Box]) -> None:
        """Replace some of the places by others, after turning them."""
        boxes = zip(others.lefts, others.tops, others.rights, others.bottoms, strict=True)
        self.lefts[span], self.tops[span], self.rights[span], self.bottoms[span] = map(list, zip(*map(turned, boxes), strict=True))


class Boxes:
    """Memory for the boxes of a document's characters."""

    def __init__(self) -> None:
        self._memory = Memory("f", 4, FIRST_BOXES)

    def of_words(self, page: Address, firsts: Sequence[int], lasts: Sequence[int]) -> Places:
        """The places of words from left to right: the left side of the first character, the right side of the last."""
        end = self._read(page, firsts, lasts)
        numbers, middle = self._memory.items, 4 * len(firsts)
        lefts, tops, bottoms = (numbers[side:middle:4].tolist() for side in (0, 1, 3))
        return Places(lefts, tops, numbers[middle + 2 : end : 4].tolist(), bottoms)

    def of_wide_words(self, page: Address, firsts: Sequence[int], lasts: Sequence[int]) -> Places:
        """The places of words whose last character may stand on any side of the first."""
        end = self._read(page, firsts, lasts)
        numbers, middle = self._memory.items, 4 * len(firsts)
        pairs = [(numbers[side:middle:4].tolist(), numbers[middle + side : end : 4].tolist()) for side in range(4)]
        lefts, tops, rights, bottoms = (list(map(choose, *pair)) for choose, pair in zip((min, max, max, min), pairs, strict=True))
        return Places(lefts, tops, rights, bottoms)

    def of(self, page: Address, *indexes: int) -> Places:
        """The places of characters."""
        return self.of_words(page, indexes, indexes)

    def _read(self, page: Address, firsts: Sequence[int], lasts: Sequence[int]) -> int:
        """Have pdfium write the boxes of characters; returns how many numbers these are."""
        count = len(firsts) + len(lasts)
        deque(map(_loose_box, repeat(page), chain(firsts, lasts), self._memory.places(count)), maxlen=0)
        return 4 * count
