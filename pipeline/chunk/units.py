"""Elements to units: the smallest pieces of a document, which chunks never split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from pipeline.model.tokens import TokenCounter
from pipeline.types import Element, ElementKind

#: Number of elements whose tokens are counted in one call, and of drafts that are checked in one call.
WINDOW = 128

#: Maximum share of the budget for heading paths; outer headings are dropped first.
HEADING_SHARE = 0.25

#: A table's header is repeated in each chunk only while it leaves room for rows.
HEADER_SHARE = 0.34

_BREAKS = re.compile(r"(?<!\s)\s*\n\s*|(?<=[.!?…])\s+|(?<=[.!?…][\"')\]])\s+|(?<=[。！？])")


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """How documents are split."""

    max_tokens: int  #: of the text that the model sees, including heading path and special tokens
    overlap_tokens: int = 0  #: repeated from the end of the chunk before
    max_chars: int = 4096  #: some tokenizers count a word of a million letters as one unknown token


@dataclass(frozen=True, slots=True)
class Unit:
    """The smallest piece, which is never split: an element, or a sentence or line of an element that is too long."""

    element: Element
    begin: int  #: span in the element's text
    end: int
    tokens: int  #: without special tokens
    path: tuple[str, ...]  #: headings above the unit, the outermost first
    header: str = ""  #: header of its table, where that is short enough to be repeated

    @property
    def text(self) -> str:
        """The unit's part of the element's text."""
        return self.element.text[self.begin : self.end]

    def offsets(self) -> tuple[int, int] | None:
        """The unit's span in the decoded document; the span of the whole element where the parser has changed the text."""
        element = self.element
        if element.char_start is None or element.char_end is None:
            return None
        if element.char_end - element.char_start != len(element.text):
            return element.char_start, element.char_end
        return element.char_start + self.begin, element.char_start + self.end


def units_of(elements: Iterable[Element], counter: TokenCounter, options: ChunkOptions) -> Iterator[Unit]:
    """Elements with their heading path and number of tokens, long ones split."""
    sections = _Sections(counter, options)
    header = ""
    stream = iter(elements)
    while window := list(islice(stream, WINDOW)):
        # A text that is too long to fit need not be counted to its end.
        counts = counter.lengths([element.text[: options.max_chars + 1] for element in window])
        for element, count in zip(window, counts, strict=True):
            if element.kind is ElementKind.HEADING:
                for bare in sections.enter(element):
                    yield from _fitting(bare, len(bare.text), sections.above, counter, options)
                continue
            for untold in sections.untold():
                yield from _fitting(untold, len(untold.text), sections.path(), counter, options)
            if element.header != header:
                header = element.header
                if _too_long(header, counter, options):  # written once instead of in every chunk
                    once = replace(element, text=header, header="", char_start=None, char_end=None)
                    yield from _fitting(once, len(header), sections.path(), counter, options)
            yield from _fitting(element, count, sections.path(), counter, options)
    for bare in sections.enter(None):
        yield from _fitting(bare, len(bare.text), sections.above, counter, options)


class _Sections:
    """The headings above the current place."""

    def __init__(self, counter: TokenCounter, options: ChunkOptions) -> None:
        self._counter = counter
        self._most = int((options.max_tokens - counter.special_tokens) * HEADING_SHARE)
        self._stack: list[Element] = []
        self._used = 0  #: number of headings of the stack, from the outermost, that have text under them
        self._told = 0  #: number of headings that a path or a text has fully contained
        self._left: tuple[str, ...] = ()  #: titles of the last path with text under it
        self._capped: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.above: tuple[str, ...] = ()  #: the path above the headings that `enter` returns

    def enter(self, heading: Element | None) -> list[Element]:
        """Enter a section, or leave all of them; return headings that were left without any text under them.

        Such a heading would be lost, so it becomes text. A heading that only repeats the section just left, which parsers
        emit to return to it, adds nothing and is dropped.
        """
        level = heading.level if heading is not None else 0
        depth = next((at for at, one in enumerate(self._stack) if one.level >= level), len(self._stack))
        bare = self._stack[max(depth, self._used) :]
        titles = tuple(one.text for one in self._stack)
        if titles == self._left[: len(titles)]:
            bare = []
        around = max(depth, self._used)
        self.above = self._cap(titles[:around])
        if bare:
            bare = self._cut(around) + bare
            self._used = around
        del self._stack[depth:]
        self._used, self._told = min(self._used, depth), min(self._told, depth)
        if heading is not None:
            self._stack.append(heading)
        return bare

    def path(self) -> tuple[str, ...]:
        """The heading path of text at this place."""
        self._used = len(self._stack)
        self._left = tuple(one.text for one in self._stack)
        return self._cap(self._left)

    def untold(self) -> list[Element]:
        """Headings above this place that its path had to cut or omit: each becomes text once, before the text under it."""
        if self._told == len(self._stack):
            return []
        self.path()
        return self._cut(len(self._stack))

    def _cut(self, depth: int) -> list[Element]:
        """Headings among the stack's first `depth` that are in no text or path so far, nor in the path of the text under them."""
        path = self._cap(tuple(one.text for one in self._stack[:depth]))
        missing = depth - len(path)
        cut = [
            one
            for at, one in enumerate(self._stack[self._told : depth], self._told)
            if at < missing or path[at - missing] != _line(one.text)
        ]
        self._told = max(self._told, depth)
        return cut

    def _cap(self, titles: tuple[str, ...]) -> tuple[str, ...]:
        """The path within its share of the budget: outer headings are dropped first, then the end of the innermost."""
        if titles not in self._capped:
            path = tuple(map(_line, titles))
            while len(path) > 1 and self._size(path) > self._most:
                path = path[1:]
            while path and self._size(path) > self._most:
                path = (path[0][: len(path[0]) * 2 // 3].rstrip(),) if len(path[0]) > 4 else ()
            if len(self._capped) >= 1024:
                self._capped.clear()
            self._capped[titles] = path
        return self._capped[titles]

    def _size(self, path: tuple[str, ...]) -> int:
        return self._counter.lengths([" > ".join(path)])[0]


def _line(title: str) -> str:
    """A heading on one line."""
    return " ".join(title.split())


def _fitting(element: Element, tokens: int, path: tuple[str, ...], counter: TokenCounter, options: ChunkOptions) -> Iterator[Unit]:
    """The element as one unit, or as sentences or lines when it does not fit; `tokens` may be an upper bound."""
    room, text, header = _room(options, counter), element.text, element.header
    if header and _too_long(header, counter, options):
        header = ""
    if tokens <= room and len(text) <= options.max_chars:
        yield Unit(element=element, begin=0, end=len(text), tokens=tokens, path=path, header=header)
        return
    spans = [span for begin, end in _sentences(text) for span in _pieces(text, begin, end, options.max_chars)]
    for start in range(0, len(spans), WINDOW):
        window = spans[start : start + WINDOW]
        counts = counter.lengths([text[begin:end] for begin, end in window])
        for (begin, end), count in zip(window, counts, strict=True):
            if count <= room:
                yield Unit(element=element, begin=begin, end=end, tokens=count, path=path, header=header)
            else:
                for low, high, inside in torn(text, begin, end, room, counter):
                    yield Unit(element=element, begin=low, end=high, tokens=inside, path=path, header=header)


def _too_long(header: str, counter: TokenCounter, options: ChunkOptions) -> bool:
    """Whether a table's header would leave too little room for rows."""
    most = (options.max_tokens - counter.special_tokens) * HEADER_SHARE
    return len(header) > options.max_chars // 4 or counter.lengths([header])[0] > most


def _room(options: ChunkOptions, counter: TokenCounter) -> int:
    """Tokens that are reserved for text: headings and a table's header may take the rest."""
    budget = options.max_tokens - counter.special_tokens
    return max(4, budget - int(budget * HEADING_SHARE) - int(budget * HEADER_SHARE) - 2)


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Spans of sentences and lines, without the white space between them."""
    start = 0
    for found in _BREAKS.finditer(text):
        if text[start : found.start()].strip():
            yield start, found.start()
            start = found.end()
    if text[start:].strip():
        yield start, len(text)


def _pieces(text: str, begin: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    """A span in parts of up to `most` characters, cut after a nearby space where one exists."""
    while end - begin > most:
        space = text.rfind(" ", begin + most // 2, begin + most)
        stop = space + 1 if space >= 0 else begin + most
        yield begin, stop
        begin = stop
    yield begin, end


def torn(text: str, begin: int, end: int, room: int, counter: TokenCounter) -> Iterator[tuple[int, int, int]]:
    """Spans of up to `room` tokens of a sentence that is too long, split between words where possible."""
    encoding = counter.tokenizer.encode(text[begin:end], add_special_tokens=False)
    offsets = encoding.offsets
    words = encoding.word_ids
    at, start = 0, begin
    while at < len(offsets):
        stop = min(at + room, len(offsets))
        if stop < len(offsets):
            back = stop
            while back > at + room // 2 and words[back] is not None and words[back] == words[back - 1]:
                back -= 1
            stop = back if back > at + room // 2 else stop
        # Up to where the next part begins, so that nothing between two tokens is lost.
        high = begin + offsets[stop][0] if stop < len(offsets) else end
        if high > start and text[start:high].strip():
            yield start, high, stop - at
            start = high
        at = stop
