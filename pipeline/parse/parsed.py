"""The result of a parser, and the cleaning of every text."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

from pipeline.types import Element

#: Maximum characters per element of running text: keeps memory use constant while a 256 MB line is streamed.
MAX_ELEMENT_CHARS = 20_000

#: NUL and other controls, lone surrogates and non-characters: stores and tokenizers cannot handle them.
_UNWANTED = re.compile("[\x00-\x08\x0e-\x1b\x7f\ud800-\udfff\ufeff\ufffe\uffff]")
#: Controls that separate words.
_SEPARATORS = re.compile("[\x0b\x0c\x1c-\x1f\x85\u2028\u2029]")
_SPACES = re.compile(r"\s+")


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


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed document, whose elements may still be read."""

    title: str  #: empty where the document has none
    elements: Iterator[Element]  #: in reading order; may raise DocumentError until exhausted
    share: Share = field(default_factory=Share)  #: the share of the document that has been read


def clean(text: str, *, strip: bool = True) -> str:
    """`text` without NULs, lone surrogates and other controls; `strip` also removes white space at both ends."""
    if _UNWANTED.search(text):
        text = _UNWANTED.sub("", text)
    if _SEPARATORS.search(text):
        text = _SEPARATORS.sub(" ", text)
    return text.strip() if strip else text


def squeeze(text: str) -> str:
    """Like `clean`, with every run of white space reduced to one space."""
    return _SPACES.sub(" ", clean(text)).strip()


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
