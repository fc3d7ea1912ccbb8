"""Headings: by bookmarks and tags, by the size and weight of their type against running text, and by their numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from pipeline.parse.parsed import squeeze
from pipeline.parse.pdf.continued import CAPTION
from pipeline.parse.pdf.grids import Table
from pipeline.parse.pdf.lines import Line
from pipeline.parse.pdf.pages import Page

#: Minimum size of a heading's type relative to running text; of a bold or numbered one.
MIN_RATIO, MIN_MARKED_RATIO = 1.15, 1.06
#: Sizes that differ less than by this factor are one.
SAME_SIZE = 0.94
MAX_HEADING_CHARS, MAX_BOLD_CHARS = 200, 120
MAX_LINES = 3
MAX_LEVELS = 6
#: Minimum share of text outside tables, of that in tables, that is running text.
MIN_RUNNING_SHARE = 0.25
#: Levels that sizes tell apart.
MAX_SIZE_LEVELS = 4
#: Bookmarks that are read: a file may have millions.
MAX_BOOKMARKS = 20_000

_size, _bold = attrgetter("size"), attrgetter("bold")
_NUMBERED = re.compile(
    r"(?:(?:chapter|section|part|appendix|article|kapitel|abschnitt|teil|anhang)\s+)?"
    r"((?:\d{1,3}|[A-Z])(?:\.\d{1,3}){0,5})(?:[.):]|\s)\s*\S",
    re.I,
)
#: Numbers and letters in parentheses, which count the parts of a section.
_IN_PARENTHESES = re.compile(r"\((?:\d{1,3}|[A-Za-z]|[ivx]{2,5})\)\s*\S")
_ADDRESS = re.compile(r"(?:https?://|www\.)?[\w-]+(?:\.[\w-]+)+(?:/\S*)?$")
_ROMAN = re.compile(r"[IVXL]{1,6}\.\s+\S")
_NO_WORD = re.compile(r"[\W_]+")
_NO_WORD_BYTES = bytes(code for code in range(128) if not chr(code).isalnum())
_SENTENCE_END = re.compile(r"[.!?] ")


@dataclass(slots=True)
class Headings:
    """What is a heading in a document, and on which level."""

    body: float  #: size of running text, in points; 0: none known
    is_bold: bool  #: whether running text is bold
    is_italic: bool
    sizes: list[float]  #: sizes of headings, descending
    outline: dict[int, dict[str, int]]  #: levels by page and `key` of a bookmark's title
    _levels: dict[tuple[float, bool], int] = field(default_factory=dict)  #: by type, as the outline has them
    _depths: dict[int, int] = field(default_factory=dict)  #: level by the depth of the number

    def level(self, block: Sequence[Line], text: str, page: int, below: Sequence[Line] | None) -> int:
        """The level of a block, 1 the highest; 0: it is no heading. `below`: the block that follows."""
        if len(block) > MAX_LINES or len(text) > MAX_HEADING_CHARS or not any(map(str.isalpha, text)) or " … " in text:
            return 0
        size, bold = max(map(_size, block)), all(map(_bold, block))
        italic = len(block) == 1 and block[0].italic and not self.is_italic
        style = (round(size * 2) / 2, bold)
        known = self._marked(text, page) or (block[0].level if all(line.level for line in block) else 0)
        if known:
            self._levels.setdefault(style, known)
            return known
        # Whether running text follows, not more of its kind.
        alone = below is not None and not all(line.bold and line.size <= block[0].size for line in below)
        stands_out = self._stands_out(size, bold, text, alone, len(block)) or (italic and _is_name(text, alone))
        if not self.body or CAPTION.match(text) or _ADDRESS.match(text) or not stands_out:
            return 0
        return min(self._numbered(text, self._levels.get(style) or self._by_size(size)), MAX_LEVELS)

    def _marked(self, text: str, page: int) -> int:
        """The level of the bookmark with this text on this page."""
        marks = self.outline.get(page)
        if not marks:
            return 0
        found = key(text)
        return marks.get(found) or marks.get(key(_without_number(text)), 0)

    def _stands_out(self, size: float, bold: bool, text: str, alone: bool, lines: int) -> bool:
        ratio = size / self.body if self.body else 0.0
        if ratio >= MIN_RATIO:
            return True
        is_marked = bold and not self.is_bold
        if ratio >= MIN_MARKED_RATIO and (is_marked or _depth(text) or _IN_PARENTHESES.match(text)):
            return not _is_sentence(text)
        if ratio < 0.9 or lines > 2 or len(text) > MAX_BOLD_CHARS or _is_sentence(text) or not alone:
            return False
        first = next((mark for mark in text if mark.isalnum()), "")
        if is_marked:
            return not text[-1].isdigit() and not first.islower() and sum(map(str.isalpha, text)) > 2 and not text.endswith(":")
        has_number = _depth(text) > 1 or _ROMAN.match(text) is not None
        return has_number and (text.isupper() or lines == 1) and len(text) <= 80

    def _by_size(self, size: float) -> int:
        larger = sum(1 for known in self.sizes if SAME_SIZE * known >= size)
        return min(larger + 1, MAX_SIZE_LEVELS)

    def _numbered(self, text: str, level: int) -> int:
        """The level of all headings whose number is as deep; below that of headings with fewer parts."""
        depth = _depth(text)
        if not depth:
            return level
        if depth not in self._depths:
            above = [self._depths[other] for other in self._depths if other < depth]
            self._depths[depth] = max(level, max(above, default=0) + 1)
        return self._depths[depth]


def headings(sample: Sequence[Page], outline: dict[int, dict[str, int]]) -> Headings:
    """Headings by the type of the first pages of a document."""
    weights: Counter[float] = Counter()
    bold = italic = 0
    for line in (line for page in sample for line in page.lines):
        weights[round(line.size * 2) / 2] += len(line.text)
        bold += len(line.text) if line.bold else 0
        italic += len(line.text) if line.italic else 0
    if not weights:
        return Headings(0.0, False, False, [], outline)
    total, usual = weights.total(), weights
    tables = [item for page in sample for item in page.items if isinstance(item, Table)]
    if MIN_RUNNING_SHARE * sum(table.chars for table in tables) > total:  # what stands around tables are their titles
        usual = Counter()
        for table in tables:
            usual[round(table.size * 2) / 2] += table.chars
        total, bold = usual.total(), sum(table.chars for table in tables if table.bold)
    body = usual.most_common(1)[0][0]
    sizes: list[float] = []
    for size in sorted(weights, reverse=True):
        if size >= body * MIN_RATIO and not (sizes and size > SAME_SIZE * sizes[-1]):
            sizes.append(size)
    return Headings(body, 2 * bold > total, 2 * italic > total, sizes, outline)


def bookmarks(document: Any) -> dict[int, dict[str, int]]:
    """The levels of a PDF's bookmarks, by page (from 1) and `key` of their titles."""
    found: dict[int, dict[str, int]] = {}
    for number, mark in enumerate(document.get_toc(max_depth=MAX_LEVELS)):
        if number >= MAX_BOOKMARKS:
            break
        place = mark.get_dest()
        page = place.get_index() if place else None
        title = squeeze(mark.get_title() or "")
        if page is not None and title:
            levels = found.setdefault(page + 1, {})
            levels.setdefault(key(title), mark.level + 1)
            levels.setdefault(key(_without_number(title)), mark.level + 1)
    return {page: {name: level for name, level in marks.items() if len(name) > 1} for page, marks in found.items()}


def _is_name(text: str, alone: bool) -> bool:
    """Whether a line is several words with capitals, as headings in italics are."""
    words = [word for word in text.split() if len(word) > 3]
    return alone and len(words) > 1 and len(text) <= MAX_BOLD_CHARS and all(word[0].isupper() for word in words)


def _is_sentence(text: str) -> bool:
    return text.endswith((".", ",", ";")) or (text.endswith(("!", "?")) and _SENTENCE_END.search(text) is not None)


def key(text: str) -> str:
    """The letters and digits of a title, by which it is compared."""
    if text.isascii():  # in a fifth of the time
        return text.lower().encode().translate(None, _NO_WORD_BYTES).decode()
    return _NO_WORD.sub("", text.lower())


def _without_number(text: str) -> str:
    found = _NUMBERED.match(text)
    return text[found.end() - 1 :] if found else text


def _depth(text: str) -> int:
    """The number of parts of the number that a text begins with; 0 where it has none."""
    found = _NUMBERED.match(text)
    if not found:
        return 0
    number = found.group(1)
    if "." not in number and number.isalpha() and text[found.end(1) : found.end(1) + 1] not in ".):":
        return 0  # the word A
    return number.count(".") + 1
