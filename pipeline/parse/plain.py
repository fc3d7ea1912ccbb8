"""Plain text: paragraphs between blank lines, with character offsets, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pipeline.parse.decode import open_text
from pipeline.parse.parsed import MAX_ELEMENT_CHARS, Parsed, Share, clean, pieces
from pipeline.types import Element, ElementKind

#: Lines are read in parts of this size, because a file may be one long line.
_LINE_CHARS = 64 << 10


def parse_plain(path: Path, name: str) -> Parsed:
    """Paragraphs of the text at `path`; memory use does not grow with the file."""
    share = Share()
    return Parsed("", _of_file(path, share), share)


def _of_file(path: Path, share: Share) -> Iterator[Element]:
    with open_text(path) as stream:
        share.follow(stream)
        yield from paragraphs(stream)


def paragraphs(stream: TextIO, kind: ElementKind = ElementKind.PARAGRAPH) -> Iterator[Element]:
    """Paragraphs of `stream`, with offsets counted from its current position."""
    block: list[str] = []
    start = length = 0
    fresh = True  # whether the next part begins a line
    while line := stream.readline(_LINE_CHARS):
        if fresh and line.isspace():
            yield from _elements("".join(block), start, kind)
            start += length + len(line)
            block, length = [], 0
        else:
            block.append(line)
            length += len(line)
            if length > MAX_ELEMENT_CHARS:
                text = "".join(block)
                # The last piece waits for the following text, so that no cut falls into a word.
                *whole, (rest, _) = pieces(text)
                for first, last in whole:
                    yield from _elements(text[first:last], start + first, kind)
                block, start, length = [text[rest:]], start + rest, len(text) - rest
        fresh = line.endswith("\n")
    yield from _elements("".join(block), start, kind)


def _elements(raw: str, start: int, kind: ElementKind) -> Iterator[Element]:
    text = clean(raw)
    if text:
        first = start + len(raw) - len(raw.lstrip())
        yield Element(text, kind, char_start=first, char_end=first + len(raw.strip()))
