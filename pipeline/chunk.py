"""Elements to chunks: packed along the document's structure, never over the model's number of tokens."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from pipeline.tokens import TokenCounter
from pipeline.types import Chunk, Element, ElementKind, chunk_id, embed_text

#: Part of the parse fingerprint: raise it when the same elements give other chunks.
CHUNKER_VERSION = 1

#: Elements whose tokens are counted in one call, and drafts that are checked in one call.
WINDOW = 128

#: Sections under this share of the budget are packed together with their neighbours under the common part of their
#: paths: a chunk of ten tokens says too little to be found, and to be of use when it is.
TINY_SHARE = 0.25

#: A chunk that is this full ends after a unit whose text's checksum is divisible by CUT_EVERY. Without such cuts, which
#: hang on the content alone, a word inserted at the top would move the boundaries of everything below it.
CUT_SHARE = 0.6
CUT_EVERY = 3

#: Heading paths take at most this share of the budget; outer headings go first.
HEADING_SHARE = 0.25

#: A table's header is repeated in each chunk only while it leaves room for rows.
HEADER_SHARE = 0.34

_BREAKS = re.compile(r"\s*\n\s*|(?<=[.!?…])\s+|(?<=[.!?…][\"')\]])\s+|(?<=[。！？])")


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """How documents are cut."""

    max_tokens: int  #: of the text the model sees: heading path and special tokens included
    overlap_tokens: int = 0  #: repeated from the end of the chunk before
    max_chars: int = 4096  #: a word of a million letters is one unknown token to some tokenizers


@dataclass(frozen=True, slots=True)
class _Unit:
    """The smallest piece that is never torn: an element, or a sentence or line of one that is too long."""

    element: Element
    begin: int  #: span in the element's text
    end: int
    tokens: int  #: without special tokens
    path: tuple[str, ...]  #: headings above it, the outermost first
    header: str = ""  #: of its table, where it is short enough to be repeated

    @property
    def text(self) -> str:
        return self.element.text[self.begin : self.end]

    def offsets(self) -> tuple[int, int] | None:
        """Its span in the decoded document; of the whole element where the parser has changed the text."""
        element = self.element
        if element.char_start is None or element.char_end is None:
            return None
        if element.char_end - element.char_start != len(element.text):
            return element.char_start, element.char_end
        return element.char_start + self.begin, element.char_start + self.end


def chunk_elements(document_id: str, elements: Iterable[Element], counter: TokenCounter, options: ChunkOptions) -> Iterator[Chunk]:
    """Chunks of a document, in order; memory is bounded by a window of elements.

    Every piece of text of every element is in a chunk or, for headings, in the heading path of one. `ValueError` for
    options that leave no room for text.
    """
    if options.max_tokens < counter.special_tokens + 8:
        raise ValueError(f"max_tokens {options.max_tokens} leaves no room for text")
    units = _units(elements, counter, options)
    drafts = _pack(units, counter, options)
    seen: Counter[str] = Counter()
    for ordinal, (draft, text, tokens) in enumerate(_checked(drafts, counter, options)):
        assert tokens <= options.max_tokens, f"a chunk of {tokens} tokens"
        embedded = embed_text(draft.path, text)
        key = chunk_id(document_id, embedded, seen[embedded])
        seen[embedded] += 1
        pages = [unit.element.page for unit in draft.units if unit.element.page is not None]
        spans = [span for unit in draft.units if (span := unit.offsets()) is not None]
        whole = len(spans) == len(draft.units)
        yield Chunk(
            key, document_id, ordinal, text, tokens, draft.path,
            min(pages, default=None), max(pages, default=None),
            min(span[0] for span in spans) if whole else None, max(span[1] for span in spans) if whole else None,
        )  # fmt: skip


# --- elements to units


def _units(elements: Iterable[Element], counter: TokenCounter, options: ChunkOptions) -> Iterator[_Unit]:
    """Elements with their heading path and number of tokens, long ones split."""
    sections = _Sections(counter, options)
    header = ""
    stream = iter(elements)
    while window := list(islice(stream, WINDOW)):
        # What is too long to fit need not be counted to its end.
        counts = counter.count_batch([element.text[: options.max_chars + 1] for element in window])
        for element, count in zip(window, counts, strict=True):
            if element.kind is ElementKind.HEADING:
                for bare in sections.enter(element):
                    yield from _fitting(bare, len(bare.text), sections.above, counter, options)
                continue
            if element.header != header:
                header = element.header
                if _too_long(header, counter, options):  # told once instead of in every chunk
                    once = replace(element, text=header, header="", char_start=None, char_end=None)
                    yield from _fitting(once, len(header), sections.path(), counter, options)
            yield from _fitting(element, count - counter.special_tokens, sections.path(), counter, options)
    for bare in sections.enter(None):
        yield from _fitting(bare, len(bare.text), sections.above, counter, options)


class _Sections:
    """The headings above the current place."""

    def __init__(self, counter: TokenCounter, options: ChunkOptions) -> None:
        self._counter = counter
        self._most = int((options.max_tokens - counter.special_tokens) * HEADING_SHARE)
        self._stack: list[Element] = []
        self._used = 0  #: headings of the stack, from the outermost, that some text stands under
        self._left: tuple[str, ...] = ()  #: titles of the last path that text stood under
        self._capped: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.above: tuple[str, ...] = ()  #: the path that headings which `enter` gives back belong under

    def enter(self, heading: Element | None) -> list[Element]:
        """Go into a section, or out of all of them; give back headings left without any text under them.

        Such a heading would be lost; it becomes text. One that only repeats the section just left, as parsers do to
        return to it, says nothing new.
        """
        level = heading.level if heading is not None else 0
        depth = next((at for at, one in enumerate(self._stack) if one.level >= level), len(self._stack))
        bare = self._stack[max(depth, self._used) :]
        titles = tuple(one.text for one in self._stack)
        if titles == self._left[: len(titles)]:
            bare = []
        self.above = self._cap(titles[: max(depth, self._used)])
        del self._stack[depth:]
        self._used = min(self._used, depth)
        if heading is not None:
            self._stack.append(heading)
        return bare

    def path(self) -> tuple[str, ...]:
        """The heading path of text at this place."""
        self._used = len(self._stack)
        self._left = tuple(one.text for one in self._stack)
        return self._cap(self._left)

    def _cap(self, titles: tuple[str, ...]) -> tuple[str, ...]:
        """The path within its share of the budget: outer headings go first, then the end of the innermost."""
        if titles not in self._capped:
            path = tuple(" ".join(title.split()) for title in titles)
            while len(path) > 1 and self._size(path) > self._most:
                path = path[1:]
            while path and self._size(path) > self._most:
                path = (path[0][: len(path[0]) * 2 // 3].rstrip(),) if len(path[0]) > 4 else ()
            if len(self._capped) >= 1024:
                self._capped.clear()
            self._capped[titles] = path
        return self._capped[titles]

    def _size(self, path: tuple[str, ...]) -> int:
        return self._counter.count(" > ".join(path)) - self._counter.special_tokens


def _fitting(element: Element, tokens: int, path: tuple[str, ...], counter: TokenCounter, options: ChunkOptions) -> Iterator[_Unit]:
    """The element as one unit, or as sentences or lines when it does not fit; `tokens` may be an upper bound."""
    room, text, header = _room(options, counter), element.text, element.header
    if header and _too_long(header, counter, options):
        header = ""
    if tokens <= room and len(text) <= options.max_chars:
        yield _Unit(element, 0, len(text), tokens, path, header)
        return
    spans = [span for whole in _sentences(text) for span in _pieces(whole, options.max_chars)]
    for start in range(0, len(spans), WINDOW):
        window = spans[start : start + WINDOW]
        counts = counter.count_batch([text[begin:end] for begin, end in window])
        for (begin, end), count in zip(window, counts, strict=True):
            if count - counter.special_tokens <= room:
                yield _Unit(element, begin, end, count - counter.special_tokens, path, header)
            else:
                for low, high, inside in _torn(text, begin, end, room, counter):
                    yield _Unit(element, low, high, inside, path, header)


def _too_long(header: str, counter: TokenCounter, options: ChunkOptions) -> bool:
    """Whether a table's header would leave too little room for rows."""
    most = (options.max_tokens - counter.special_tokens) * HEADER_SHARE
    return len(header) > options.max_chars // 4 or counter.count(header) - counter.special_tokens > most


def _room(options: ChunkOptions, counter: TokenCounter) -> int:
    """Tokens that are always there for text: headings and a table's header may take the rest."""
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


def _pieces(span: tuple[int, int], most: int) -> Iterator[tuple[int, int]]:
    """A span in parts of at most `most` characters."""
    begin, end = span
    yield from ((at, min(at + most, end)) for at in range(begin, end, most))


def _torn(text: str, begin: int, end: int, room: int, counter: TokenCounter) -> Iterator[tuple[int, int, int]]:
    """Spans of at most `room` tokens of a sentence that is too long, torn between words where it has any."""
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


# --- units to chunks


@dataclass(frozen=True, slots=True)
class _Draft:
    """Units that will be a chunk, under the part of their heading paths that they share."""

    units: tuple[_Unit, ...]
    path: tuple[str, ...]

    @property
    def text(self) -> str:
        """The chunk's text: headings below the path where they change, a table's header before its first row."""
        parts: list[str] = []
        before: _Unit | None = None
        for unit in self.units:
            if before is not None and unit.element is before.element:
                # White space between sentences is as it was.
                parts += (unit.element.text[before.end : unit.begin], unit.text)
            else:
                if before is not None:
                    parts.append("\n" if unit.element.kind is before.element.kind and unit.element.kind in _DENSE else "\n\n")
                below = unit.path[len(self.path) :]
                if below and (before is None or unit.path != before.path):
                    parts += (" > ".join(below), "\n")
                if unit.header and (before is None or unit.header != before.header):
                    parts += (unit.header, "\n")
                parts.append(unit.text)
            before = unit
        return "".join(parts)


#: Kinds whose neighbours stand on lines of their own without an empty line between.
_DENSE = (ElementKind.LIST_ITEM, ElementKind.TABLE_ROW, ElementKind.CODE)


class _Sizes:
    """Tokens of headings and headers, which come again and again."""

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter
        self._known: dict[str, int] = {}

    def of(self, text: str) -> int:
        """Tokens of a text without special tokens."""
        if not text:
            return 0
        if text not in self._known:
            if len(self._known) >= 4096:  # a document of a million headings
                self._known.clear()
            self._known[text] = self._counter.count(text) - self._counter.special_tokens
        return self._known[text]

    def overhead(self, units: Sequence[_Unit], path: tuple[str, ...]) -> int:
        """Tokens that headings and table headers add to the units' own."""
        size = self.of(" > ".join(path))
        before: _Unit | None = None
        for unit in units:
            if before is None or unit.path != before.path:
                size += self.of(" > ".join(unit.path[len(path) :]))
            if unit.header and (before is None or unit.header != before.header):
                size += self.of(unit.header)
            before = unit
        return size


def _pack(units: Iterable[_Unit], counter: TokenCounter, options: ChunkOptions) -> Iterator[_Draft]:
    """Greedy: units until the budget is full, a section ends or the content says so."""
    budget = options.max_tokens - counter.special_tokens
    sizes = _Sizes(counter)
    packed: list[_Unit] = []
    path: tuple[str, ...] = ()
    body = overhead = 0
    for unit in units:
        if not packed:
            packed, path, body = [unit], unit.path, unit.tokens
            overhead = sizes.overhead(packed, path)
            continue
        before = packed[-1]
        trial = path if unit.path == before.path else _common(path, unit.path)
        same = trial == path and unit.path == before.path and unit.header == before.header
        grown = overhead if same else sizes.overhead([*packed, unit], trial)
        full = body + unit.tokens + grown > budget
        section_ends = unit.path != before.path and body >= budget * TINY_SHARE
        cut = body + overhead >= budget * CUT_SHARE and zlib.crc32(before.text.encode("utf-8", "replace")) % CUT_EVERY == 0
        if full or section_ends or cut:
            yield _Draft(tuple(packed), path)
            packed = [] if section_ends else _carried(packed, unit, options.overlap_tokens)
            packed.append(unit)
            path = unit.path
            body, overhead = sum(one.tokens for one in packed), sizes.overhead(packed, path)
        else:
            packed.append(unit)
            path, body, overhead = trial, body + unit.tokens, grown
    if packed:
        yield _Draft(tuple(packed), path)


def _carried(packed: Sequence[_Unit], following: _Unit, most_tokens: int) -> list[_Unit]:
    """The last units of a chunk that the next one begins with."""
    carried: list[_Unit] = []
    for unit in reversed(packed[1:]):
        most_tokens -= unit.tokens
        if most_tokens < 0 or unit.path != following.path:
            break
        carried.insert(0, unit)
    return carried


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    depth = 0
    while depth < min(len(one), len(other)) and one[depth] == other[depth]:
        depth += 1
    return one[:depth]


def _checked(drafts: Iterable[_Draft], counter: TokenCounter, options: ChunkOptions) -> Iterator[tuple[_Draft, str, int]]:
    """Drafts with their text and real number of tokens; those over the limit are divided.

    The sum of the parts is only an estimate: some tokenizers see another text when parts are joined.
    """
    stream = iter(drafts)
    while window := list(islice(stream, WINDOW)):
        texts = [draft.text for draft in window]
        embedded = [embed_text(draft.path, text) for draft, text in zip(window, texts, strict=True)]
        for draft, text, tokens in zip(window, texts, counter.count_batch(embedded), strict=True):
            if tokens <= options.max_tokens:
                yield draft, text, tokens
            else:
                yield from _checked(_divided(draft, counter), counter, options)


def _divided(draft: _Draft, counter: TokenCounter) -> list[_Draft]:
    """A draft in two or more smaller ones."""
    units = draft.units
    if len(units) > 1:
        half = len(units) // 2
        return [_Draft(units[:half], draft.path), _Draft(units[half:], draft.path)]
    (unit,) = units
    if unit.tokens > 8:
        torn = _torn(unit.element.text, unit.begin, unit.end, unit.tokens // 2, counter)
        return [_Draft((replace(unit, begin=low, end=high, tokens=inside),), draft.path) for low, high, inside in torn]
    return [_Draft((replace(unit, path=(), header=""),), ())]  # headings alone are over the limit
