"""Running headers and footers: what stands at one place on several pages, with numbers that stay or count with the pages."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import NamedTuple

from pipeline.parse.pdf.lines import Line
from pipeline.parse.pdf.pages import Page
from pipeline.types import Element

#: Pages before and after a page that are compared with it.
WINDOW = 8
#: Share of the height of a page, at its top and bottom, where headers and footers stand.
MARGIN_SHARE = 0.15
#: Lines there that are looked at, from each edge.
MAX_LINES = 4
#: Tolerance of a place, in points.
TOLERANCE = 5.0
#: Pages that must have the same at the same place, besides the page itself; fewer in a document of two pages.
MIN_REPEATS = 2
#: Minimum number of words of a header whose numbers only grow with the pages, as in an excerpt, and maximum growth.
MIN_WORDS, MAX_GROWTH = 4, 2_000
#: Different headers and footers of a document whose text is kept.
MAX_KEPT = 50
MAX_HEADINGS = 20_000

_NUMBER = re.compile(r"\d{1,9}")
_ROMAN_NUMBER = re.compile(r"[ivxlc]{1,9}$")
#: Words beside the number of a page.
_COUNTING_NAMES = "page pages of p. pg. seite seiten von s. página pagina pág. pag. de sur di van стр. из"
_COUNTING = frozenset(_COUNTING_NAMES.split())
#: The number of a page, named as such.
_PAGE_NUMBER = re.compile(r"(?:page|seite|página|pagina|стр\.) #(?: (?:of|von|sur|de|di|из) #)?$")
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}


class _Mark(NamedTuple):
    """A line near the edge of a page, by what may be repeated of it."""

    page: int
    line: Line
    form: str  #: its text with # for each number
    numbers: tuple[int, ...]
    edge: int | None  #: the number that it begins or ends with
    roman: bool  #: whether that number is a Roman one

    def repeats(self, other: _Mark) -> bool:
        """Whether another mark of the same form is the same header: its numbers are the same, or differ as the pages do.

        The number of the page, beside several words, differs by more where pages are missing, as in an excerpt, or where the first
        pages of a book have Roman ones."""
        apart = self.page - other.page
        if not self.is_near(other):
            return False
        if all(a - b in (0, apart) for a, b in zip(self.numbers, other.numbers, strict=True)):
            return True
        if self.edge is None or other.edge is None or self.words < MIN_WORDS or self.other_numbers != other.other_numbers:
            return False
        growth = self.edge - other.edge if apart > 0 else other.edge - self.edge
        return self.roman != other.roman or abs(apart) <= growth <= MAX_GROWTH

    @property
    def keys(self) -> tuple[str | int, ...]:
        """By what it is compared with the marks of other pages."""
        return (self.form,) if self.edge is None else (self.form, self.edge - self.page)

    @property
    def words(self) -> int:
        """The number of its words, without numbers and the word for page."""
        return sum(1 for word in self.form.split() if word not in _COUNTING and any(map(str.isalpha, word)))

    @property
    def other_numbers(self) -> tuple[int, ...]:
        """Its numbers without that at its edge."""
        return self.numbers[:-1] if self.numbers[-1] == self.edge else self.numbers[1:]

    @property
    def is_page_number(self) -> bool:
        """Whether it says "page 7", or "page 7 of 9", and nothing else."""
        return _PAGE_NUMBER.match(self.form) is not None

    def is_near(self, other: _Mark) -> bool:
        """Whether both stand at one height."""
        return abs(self.line.bottom - other.line.bottom) <= TOLERANCE


class _Marks:
    """The marks of a page, by what is compared."""

    def __init__(self, page: Page) -> None:
        self.all = list(_marks(page))
        self.by_form: dict[str, list[_Mark]] = {}
        self.by_offset: dict[int, list[_Mark]] = {}  #: of the number at an edge from that of the page
        for mark in self.all:
            self.by_form.setdefault(mark.form, []).append(mark)
            if mark.edge is not None:
                self.by_offset.setdefault(mark.edge - mark.page, []).append(mark)

    @property
    def keys(self) -> Iterator[str | int]:
        """The forms and offsets of the page, each once."""
        return chain(self.by_form, self.by_offset)


@dataclass(slots=True)
class Running:
    """Headers and footers of a document, each found by those of the pages around it."""

    kept: dict[str, tuple[str, int]] = field(default_factory=dict)  #: by its form: text without page numbers, and its first page
    headings: set[str] = field(default_factory=set)

    def without(self, pages: Iterator[Page]) -> Iterator[Page]:
        """The pages without headers and footers; reads WINDOW pages ahead."""
        read: deque[tuple[Page, _Marks]] = deque()
        pages_with: Counter[str | int] = Counter()  # of `read`, by forms and offsets
        place = 0  # in `read`, of the next page to yield
        for page in pages:
            marks = _Marks(page)
            read.append((page, marks))
            pages_with.update(marks.keys)
            if len(read) - place > WINDOW:
                yield self._cleared(read, place, pages_with)
                place += 1
                if place > WINDOW:
                    pages_with.subtract(read.popleft()[1].keys)
                    pages_with = +pages_with  # without those of no page
                    place -= 1
        for at in range(place, len(read)):
            yield self._cleared(read, at, pages_with)

    def elements(self) -> Iterator[Element]:
        """The text of headers and footers, each once, without those that repeat a heading."""
        told: set[str] = set()
        for text, page in self.kept.values():
            letters = "".join(filter(str.isalpha, text.lower()))
            if len(letters) > 2 and letters not in told and letters not in self.headings:
                told.add(letters)
                yield Element(text, page=page)

    def seen(self, heading: str) -> None:
        """Remember a heading, which headers repeat."""
        if len(self.headings) < MAX_HEADINGS:
            self.headings.add("".join(filter(str.isalpha, heading.lower())))

    def _cleared(self, read: deque[tuple[Page, _Marks]], place: int, pages_with: Counter[str | int]) -> Page:
        page, marks = read[place]
        others = [found for at, (_, found) in enumerate(read) if at != place]
        least = min(MIN_REPEATS, len(others))
        running = {
            id(mark.line)
            for mark in marks.all
            if mark.is_page_number
            # Most lines stand on no other page, and are not compared.
            or (least and max(map(pages_with.__getitem__, mark.keys)) > least and _is_repeated(mark, others, least))
        }
        if not running or len(running) == len(page.items):  # nothing else is on the page
            return page
        for mark in marks.all:
            if id(mark.line) in running:
                self._keep(mark)
        return replace(page, items=[item for item in page.items if id(item) not in running])

    def _keep(self, mark: _Mark) -> None:
        letters = sum(map(str.isalpha, "".join(word for word in mark.form.split() if word not in _COUNTING)))
        if len(self.kept) < MAX_KEPT and letters > 2 and mark.form not in self.kept:
            words = mark.line.text.split()
            if mark.edge is not None and len(words) > 1:  # the number of the page
                ends = words[-1].isdigit() or _ROMAN_NUMBER.match(words[-1].lower())
                words = words[:-1] if ends and not words[0].isdigit() else words[1:]
            text = " ".join(words)
            self.kept[mark.form] = text, mark.page


def _is_repeated(mark: _Mark, others: list[_Marks], least: int) -> bool:
    if _are(least, (any(map(mark.repeats, found)) for marks in others if (found := marks.by_form.get(mark.form)))):
        return True
    if mark.edge is None:
        return False
    offset = mark.edge - mark.page
    return _are(MIN_REPEATS, (any(map(mark.is_near, found)) for marks in others if (found := marks.by_offset.get(offset))))


def _are(least: int, found: Iterable[bool]) -> bool:
    """Whether at least `least` are true; no more than these are asked for."""
    return sum(islice(filter(None, found), least)) == least


def _marks(page: Page) -> Iterator[_Mark]:
    """The lines of a page that may be headers or footers."""
    band = MARGIN_SHARE * (page.top - page.bottom)
    high, low, lines = page.top - band, page.bottom + band, page.lines
    above = [line for line in lines if line.bottom > high and not line.angle]
    below = [line for line in lines if line.top < low and not line.angle]
    # Watermarks and numbers beside a turned page stand anywhere.
    turned = [line for line in lines if line.angle][:MAX_LINES]
    above = sorted(above, key=lambda line: -line.top)[:MAX_LINES]
    below = sorted(below, key=lambda line: line.bottom)[:MAX_LINES]
    return (_mark(page.number, line) for line in [*above, *below, *turned])


def _mark(page: int, line: Line) -> _Mark:
    parts = line.text.lower().split()
    roman = False
    for at in {0, len(parts) - 1}:
        if parts[at][0] in _ROMAN and _ROMAN_NUMBER.match(parts[at]) and not (at and parts[at] in ("i", "c")):
            parts[at], roman = str(_roman(parts[at])), True
    text = " ".join(parts)
    if not _NUMBER.search(text):
        return _Mark(page, line, text, (), None, roman)
    numbers = tuple(int(number) for number in _NUMBER.findall(text))
    begins, ends = text[:1].isdigit() or text[:2] in ("- ", "– "), text[-1:].isdigit() or text[-2:] in (" -", " –")
    edge = numbers[-1] if numbers and ends else (numbers[0] if numbers and begins else None)
    return _Mark(page, line, _NUMBER.sub("#", text), numbers, edge, roman)


def _roman(text: str) -> int:
    values = [_ROMAN[mark] for mark in text]
    return sum(-value if value < max(values[at:]) else value for at, value in enumerate(values))
