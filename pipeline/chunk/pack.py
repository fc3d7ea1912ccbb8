"""Elements to chunks: packed along the document's structure, never over the model's token limit."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from pipeline.chunk.units import WINDOW, ChunkOptions, Unit, torn, units_of
from pipeline.model.tokens import TokenCounter
from pipeline.types import Chunk, ChunkIds, Element, ElementKind, embed_text

#: Part of the parse fingerprint: raise it when the same elements yield different chunks.
CHUNKER_VERSION = 2

#: Sections below this share of the budget are packed together with their neighbours under the common part of their
#: paths: a chunk of ten tokens is hard to find, and of little use once found.
TINY_SHARE = 0.25

#: A full chunk ends between this share of the budget and the whole budget; its content decides where.
CUT_SHARE = 0.5


def chunk_elements(document_id: str, elements: Iterable[Element], counter: TokenCounter, options: ChunkOptions) -> Iterator[Chunk]:
    """Chunks of a document, in order; memory is bounded by a window of elements.

    Every piece of text of every element is in a chunk or, for headings, in the heading path of a chunk. Raises `ValueError`
    for options that leave no room for text.
    """
    if options.max_tokens < counter.special_tokens + 8:
        raise ValueError(f"max_tokens {options.max_tokens} leaves no room for text")
    drafts = _pack(units_of(elements, counter, options), counter, options)
    ids = ChunkIds(document_id)
    for ordinal, (draft, text, tokens) in enumerate(_checked(drafts, counter, options)):
        assert tokens <= options.max_tokens, f"a chunk of {tokens} tokens"
        key = ids.next(embed_text(draft.path, text))
        pages = [unit.element.page for unit in draft.units if unit.element.page is not None]
        spans = [span for unit in draft.units if (span := unit.offsets()) is not None]
        whole = len(spans) == len(draft.units)
        yield Chunk(
            id=key,
            document_id=document_id,
            ordinal=ordinal,
            text=text,
            token_count=tokens,
            heading_path=draft.path,
            page_first=min(pages, default=None),
            page_last=max(pages, default=None),
            char_start=min(span[0] for span in spans) if whole else None,
            char_end=max(span[1] for span in spans) if whole else None,
        )


@dataclass(frozen=True, slots=True)
class _Draft:
    """Units that will form a chunk, under the part of their heading paths that they share."""

    units: tuple[Unit, ...]
    path: tuple[str, ...]

    @property
    def text(self) -> str:
        """The chunk's text: headings below the path where they change, a table's header before its first row."""
        parts: list[str] = []
        before: Unit | None = None
        for unit in self.units:
            if before is not None and unit.element is before.element:
                # White space between sentences stays unchanged.
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


#: Kinds whose neighbours are on separate lines without an empty line between them.
_DENSE = (ElementKind.LIST_ITEM, ElementKind.TABLE_ROW, ElementKind.CODE)


class _Sizes:
    """Token counts of headings and headers, which recur often."""

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter
        self._known: dict[str, int] = {}

    def of(self, text: str) -> int:
        """Number of tokens of a text, without special tokens."""
        if not text:
            return 0
        if text not in self._known:
            if len(self._known) >= 4096:  # a document of a million headings
                self._known.clear()
            self._known[text] = self._counter.lengths([text])[0]
        return self._known[text]

    def overhead(self, units: Sequence[Unit], path: tuple[str, ...]) -> int:
        """Tokens that headings and table headers add to the units' own."""
        size = self.of(" > ".join(path))
        before: Unit | None = None
        for unit in units:
            if before is None or unit.path != before.path:
                size += self.of(" > ".join(unit.path[len(path) :]))
            if unit.header and (before is None or unit.header != before.header):
                size += self.of(unit.header)
            before = unit
        return size


def _pack(units: Iterable[Unit], counter: TokenCounter, options: ChunkOptions) -> Iterator[_Draft]:
    """Pack greedily: add units until the budget is full, a section ends, or the content marks a cut.

    Only complete tiny sections share a chunk. A larger section begins a chunk of its own, and the rest at its end stays
    alone, so that an edit in one section moves no boundary in another. A record always begins a chunk: packed with its
    neighbours, it would be found for their words, and be embedded again for their changes.
    """
    filling = _Filling(counter, options)
    continued = False  # whether the chunk began in the middle of a section
    for unit in units:
        if not filling.units:
            filling.add(unit)
            continue
        before = filling.units[-1]
        if unit.element.record != before.element.record:
            yield filling.draft()
            filling.begin([unit])
            continued = False
            continue
        if unit.path != before.path:
            if continued or filling.body >= filling.budget * TINY_SHARE or not filling.fits(unit):
                yield filling.draft()
                filling.begin([unit])
                continued = False
            else:
                filling.add(unit)
            continue
        while not filling.fits(unit):
            first = filling.section_start()
            end = first or filling.cut()
            head, tail = filling.units[:end], filling.units[end:]
            filling.begin(head)
            yield filling.draft()
            filling.begin(tail if first else [*_carried(head, options.overlap_tokens), *tail])
            continued = not first
            if not filling.units:
                break
        filling.add(unit)
    if filling.units:
        yield filling.draft()


class _Filling:
    """The chunk that is being filled."""

    def __init__(self, counter: TokenCounter, options: ChunkOptions) -> None:
        self.budget = options.max_tokens - counter.special_tokens
        self.units: list[Unit] = []
        self.body = 0  #: tokens of the units alone
        self._chars = 0
        self._most_chars = options.max_chars
        self._path: tuple[str, ...] = ()
        self._overhead = 0
        self._sizes = _Sizes(counter)

    def begin(self, units: Sequence[Unit]) -> None:
        """Start again with these units."""
        self.units, self.body, self._chars = [], 0, 0
        for unit in units:
            self.add(unit)

    def add(self, unit: Unit) -> None:
        """Take a unit in."""
        self._path, self._overhead = self._with(unit)
        self.units.append(unit)
        self.body += unit.tokens
        self._chars += unit.end - unit.begin

    def fits(self, unit: Unit) -> bool:
        """Whether the budget allows this unit, too."""
        if self._chars + unit.end - unit.begin > self._most_chars:
            return False
        return self.body + unit.tokens + self._with(unit)[1] <= self.budget

    def cut(self) -> int:
        """How many units a full chunk keeps: up to one past CUT_SHARE that ends an element, else up to any past it.

        Among several it is the one whose text has the lowest checksum.

        So the place depends on the texts around it and not on the beginning of the chunk. Two versions of a document that
        differ further up therefore soon cut at the same places again.
        """
        size, best, least = self._overhead, len(self.units), (True, 1 << 32)
        for number, unit in enumerate(self.units, 1):
            size += unit.tokens
            # A paragraph stays whole if it can.
            rank = (unit.end < len(unit.element.text), zlib.crc32(unit.text.encode("utf-8", "replace")))
            if size >= self.budget * CUT_SHARE and rank < least:
                best, least = number, rank
        return best

    def section_start(self) -> int:
        """Index of the first unit of the section that the last unit is in."""
        start = len(self.units) - 1
        while start and self.units[start - 1].path == self.units[-1].path:
            start -= 1
        return start

    def draft(self) -> _Draft:
        """The current units as a chunk."""
        return _Draft(tuple(self.units), self._path)

    def _with(self, unit: Unit) -> tuple[tuple[str, ...], int]:
        """The path and the overhead if `unit` were added."""
        if not self.units:
            return unit.path, self._sizes.overhead([unit], unit.path)
        before = self.units[-1]
        if unit.path == before.path and unit.header == before.header:
            return self._path, self._overhead
        path = _common(self._path, unit.path)
        return path, self._sizes.overhead([*self.units, unit], path)


def _carried(packed: Sequence[Unit], most_tokens: int) -> list[Unit]:
    """The last units of a chunk, with which the next one begins; never all of them."""
    carried: list[Unit] = []
    for unit in reversed(packed[1:]):
        most_tokens -= unit.tokens
        if most_tokens < 0 or unit.path != packed[-1].path:
            break
        carried.insert(0, unit)
    return carried


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    depth = 0
    while depth < min(len(one), len(other)) and one[depth] == other[depth]:
        depth += 1
    return one[:depth]


def _checked(drafts: Iterable[_Draft], counter: TokenCounter, options: ChunkOptions) -> Iterator[tuple[_Draft, str, int]]:
    """Drafts with their text and actual number of tokens; drafts over the limit are divided.

    The sum of the parts is only an estimate: some tokenizers split the joined text differently.
    """
    stream = iter(drafts)
    while window := list(islice(stream, WINDOW)):
        texts = [draft.text for draft in window]
        embedded = [embed_text(draft.path, text) for draft, text in zip(window, texts, strict=True)]
        for draft, text, tokens in zip(window, texts, counter.sizes(embedded, options.max_tokens), strict=True):
            if tokens <= options.max_tokens:
                yield draft, text, tokens
            else:
                yield from _checked(_divided(draft, counter), counter, options)


def _divided(draft: _Draft, counter: TokenCounter) -> list[_Draft]:
    """Divide a draft into two or more smaller ones."""
    units = draft.units
    if len(units) > 1:
        half = len(units) // 2
        return [_Draft(units[:half], draft.path), _Draft(units[half:], draft.path)]
    (unit,) = units
    if unit.tokens > 8:
        halves = torn(unit.element.text, unit.begin, unit.end, unit.tokens // 2, counter)
        return [_Draft((replace(unit, begin=low, end=high, tokens=inside),), draft.path) for low, high, inside in halves]
    return [_Draft((replace(unit, path=(), header=""),), ())]  # headings alone are over the limit
