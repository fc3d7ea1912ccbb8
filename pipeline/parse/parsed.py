"""The result of a parser, and the cleaning of every text."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, TextIO

from pipeline.types import Element, ElementKind, Loss, LossKind, Reason

#: Maximum characters per element of running text: keeps memory use constant while a 256 MB line is streamed.
MAX_ELEMENT_CHARS = 20_000

#: Number of elements at the start that may contain the title.
TITLE_WINDOW = 50

#: Losses of one kind that are kept one by one; further ones are only counted.
MAX_LOSSES = 100

#: Maximum length of a loss's place and detail.
MAX_LOSS_CHARS = 120

#: NUL and other controls, lone surrogates and non-characters: stores and tokenizers cannot handle them.
#: Soft hyphens, word joiners, marks of direction and the invisible signs of formulas interrupt words for a search.
_UNWANTED = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f\xad\u061c\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
#: Colours, links, pictures and movements of terminals, also with the escape character as people see it; a letter that is printed
#: over another one.
_TERMINAL = re.compile(
    r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]|\x1b[\]P^_X][^\x07\x1b\n]{0,4000}(?:\x07|\x1b\\)|\x1b[ -/]{0,4}[0-~]"
    r"|(?:\x9b|(?:\^\[|\u241b)\[)[0-9;]{1,64}[mKJHG]"
)
_OVERSTRUCK = re.compile(r"[^\n]\x08")
#: Marks that belong to the letter in front of them, and letters of Korean syllables: some programs write them apart.
_APART = re.compile("[\u0300-\u036f\u1161-\u11ff\u3099\u309a]")
#: Zero-width spaces separate words in the scripts of South-East Asia, and interrupt them elsewhere.
_ZERO_WIDTH = re.compile("(?<![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])\u200b|\u200b(?![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])")
#: Controls that separate words.
_SEPARATORS = re.compile("[\x0b\x0c\x1c-\x1f\x85\u2028\u2029]")


_TERMINAL_MARKS = ("\x1b", "\x08", "\x9b", "^[[", "\u241b")


class Share:
    """The share of a document that its parser has read: by counted parts, or by the position in a streamed file."""

    def __init__(self) -> None:
        self._file: TextIO | None = None
        self._size = 0
        self._value: float | None = None

    def count(self, done: int, total: int) -> None:
        """Record that `done` of `total` parts of the document have been read."""
        self._value = done / total

    def follow(self, file: TextIO) -> None:
        """Derive the share from the position in an open file."""
        self._file, self._size = file, os.fstat(file.fileno()).st_size

    def __call__(self) -> float | None:
        """The share from 0 to 1; None where unknown."""
        if self._file is None or not self._size:
            return self._value
        return 1.0 if self._file.closed else min(1.0, self._file.buffer.tell() / self._size)


class Losses:
    """What a parser saw and did not turn into text; complete when the elements are exhausted."""

    def __init__(self) -> None:
        self._found: dict[LossKind, list[Loss]] = {}
        self._more: dict[LossKind, int] = {}

    def add(self, kind: LossKind, place: str = "", detail: str = "", count: int = 1) -> None:
        """Record `count` losses of a kind at a place; a place that is recorded with the same detail counts once more."""
        found = self._found.setdefault(kind, [])
        place, detail = squeeze(place)[:MAX_LOSS_CHARS], squeeze(detail)[:MAX_LOSS_CHARS]
        last = found[-1] if found else None
        if last is not None and (last.place, last.detail) == (place, detail):
            found[-1] = Loss(kind, place, detail, last.count + count)
        elif len(found) < MAX_LOSSES:
            found.append(Loss(kind, place, detail, count))
        else:
            self._more[kind] = self._more.get(kind, 0) + count

    def told_of(self, *kinds: LossKind) -> str:
        """Place and detail of the first loss of one of these kinds; empty without one."""
        first = next((loss for kind in kinds for loss in self._found.get(kind, ())), None)
        return f"{first.place}: {first.detail}" if first is not None else ""

    def all(self) -> tuple[Loss, ...]:
        """Every loss, by kind; the last one of a kind may stand for all that are only counted."""
        told = []
        for kind, found in self._found.items():
            told += found
            if more := self._more.get(kind):
                told.append(Loss(kind, "elsewhere", "", more))
        return tuple(told)


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a document that becomes a document of its own."""

    name: str  #: its path inside the document; untrusted
    open: Callable[[], IO[bytes]]
    reason: Reason | None = None  #: why it cannot be read; it is then not opened
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed document, whose elements may still be read."""

    title: str  #: empty where the document has none
    elements: Iterator[Element]  #: in reading order; may raise DocumentError until exhausted
    share: Share = field(default_factory=Share)  #: the share of the document that has been read
    losses: Losses = field(default_factory=Losses)  #: complete when the elements are exhausted
    metadata: dict[str, str] = field(default_factory=dict)  #: the document's own fields, such as front matter
    members: Iterator[Member] = field(default_factory=lambda: iter(()))  #: read after the elements
    media_type: str = ""  #: if it is not that of the parser: a record has that of its file


def clean(text: str, *, strip: bool = True) -> str:
    """`text` without NULs, terminal codes, lone surrogates, other controls and invisible marks inside words.

    `strip` also removes white space at both ends.
    """
    if _is_plain(text):
        return text.strip() if strip else text
    if any(mark in text for mark in _TERMINAL_MARKS):
        text = _OVERSTRUCK.sub("", _TERMINAL.sub("", text))
    if _UNWANTED.search(text):
        text = _UNWANTED.sub("", text)
    if _SEPARATORS.search(text):
        text = _SEPARATORS.sub(" ", text)
    if _APART.search(text):
        text = unicodedata.normalize("NFC", text)
    if "\u200b" in text:
        text = _ZERO_WIDTH.sub("", text)
    return text.strip() if strip else text


def squeeze(text: str) -> str:
    """Like `clean`, with every run of white space reduced to one space."""
    return " ".join(clean(text, strip=False).split())


def _is_plain(text: str) -> bool:
    """Whether `text` is ASCII without controls other than line feeds and tabs; many times faster than a search for them."""
    return text.isascii() and "^[[" not in text and (text.isprintable() or text.replace("\n", " ").replace("\t", " ").isprintable())


def headed(elements: Iterator[Element]) -> tuple[str, Iterator[Element]]:
    """The first heading near the start, empty where there is none, and all elements."""
    start = list(itertools.islice(elements, TITLE_WINDOW))
    title = next((e.text for e in start if e.kind is ElementKind.HEADING), "")
    return title, itertools.chain(start, elements)


def parts(text: str, kind: ElementKind = ElementKind.PARAGRAPH, *, page: int | None = None) -> Iterator[Element]:
    """`text` as elements of at most MAX_ELEMENT_CHARS; none for white space."""
    for first, last in pieces(text):
        if part := text[first:last].strip():
            yield Element(part, kind, page=page)


def pieces(text: str, limit: int = MAX_ELEMENT_CHARS) -> Iterator[tuple[int, int]]:
    """Spans of up to `limit` characters that together cover `text`, cut at a nearby line end or space where one exists."""
    start = 0
    while len(text) - start > limit:
        floor = start + limit // 2
        cut = text.rfind("\n", floor, start + limit)
        if cut < 0:
            cut = text.rfind(" ", floor, start + limit)
        end = cut + 1 if cut > 0 else start + limit
        yield start, end
        start = end
    if start < len(text):
        yield start, len(text)
