"""What a parser gives back, and the cleaning that every text goes through."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

from pipeline.types import Element

#: Most characters of one element of running text: keeps the memory of a streamed 256 MB line flat.
MAX_ELEMENT_CHARS = 20_000

#: NUL and other controls, lone surrogates and non-characters: no store or tokenizer wants them.
_UNWANTED = re.compile("[\x00-\x08\x0e-\x1b\x7f\ud800-\udfff\ufeff\ufffe\uffff]")
#: Controls that separate words.
_SEPARATORS = re.compile("[\x0b\x0c\x1c-\x1f\x85\u2028\u2029]")
_SPACES = re.compile(r"\s+")


class Share:
    """How much of a document its parser has read: what it has counted, or how far it is in a file that it streams."""

    def __init__(self) -> None:
        self._file: TextIO | None = None
        self._size = 0
        self._value: float | None = None

    def count(self, done: int, total: int) -> None:
        """Note that so many of the document's parts are read."""
        self._value = done / total

    def follow(self, file: TextIO) -> None:
        """Have the place in an open file say it."""
        self._file, self._size = file, os.fstat(file.fileno()).st_size

    def __call__(self) -> float | None:
        """0 to 1; None where the parser does not know."""
        if self._file is None or not self._size:
            return self._value
        return 1.0 if self._file.closed else min(1.0, self._file.buffer.tell() / self._size)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document on its way out of its parser."""

    title: str  #: empty where the document does not say
    elements: Iterator[Element]  #: in reading order; may raise DocumentError until its end
    share: Share = field(default_factory=Share)  #: how much of the document has been read


def clean(text: str, *, strip: bool = True) -> str:
    """`text` without NULs, lone surrogates and other controls; `strip` also takes the white space at both ends."""
    if _UNWANTED.search(text):
        text = _UNWANTED.sub("", text)
    if _SEPARATORS.search(text):
        text = _SEPARATORS.sub(" ", text)
    return text.strip() if strip else text


def squeeze(text: str) -> str:
    """`clean`, with every run of white space as one space."""
    return _SPACES.sub(" ", clean(text)).strip()


def pieces(text: str, limit: int = MAX_ELEMENT_CHARS) -> Iterator[tuple[int, int]]:
    """Spans of `text` of at most `limit` characters that together cover it, cut at a line end or a space where one is near."""
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
