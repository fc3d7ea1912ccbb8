"""Source code and configuration as text: blocks between top-level blank lines, with character offsets, streamed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pipeline.parse.decode import open_text
from pipeline.parse.parsed import MAX_ELEMENT_CHARS, Parsed, Share, clean, pieces
from pipeline.types import Element, ElementKind

#: A block of this size or more also ends at a blank line inside a definition.
SOFT_CHARS = 1_500
_LINE_CHARS = 64 << 10
#: The beginning of a definition at the left margin in common languages; a block ends before it.
_DEFINITION = re.compile(
    r"(?:@\w|(?:(?:export|public|private|protected|static|async|abstract|final|pub(?:\([a-z]+\))?|default)\s+)*"
    r"(?:def|class|func|fn|function|interface|struct|enum|trait|impl|module|namespace|package|type|sub|proc|CREATE)\b)"
)


def parse_source(path: Path, name: str) -> Parsed:
    """CODE elements of the file at `path`; memory use does not grow with the file."""
    share = Share()
    return Parsed("", _of_file(path, share), share)


def _of_file(path: Path, share: Share) -> Iterator[Element]:
    with open_text(path) as stream:
        share.follow(stream)
        yield from blocks(stream)


def blocks(stream: TextIO) -> Iterator[Element]:
    """Blocks of `stream`: indentation is kept; offsets are counted from its current position."""
    block: list[str] = []
    start = length = 0
    fresh = blank = decorated = False
    while line := stream.readline(_LINE_CHARS):
        margin = not line[:1].isspace()
        ends = fresh and length and (
            (blank and (margin or length > SOFT_CHARS)) or (margin and not decorated and _DEFINITION.match(line) is not None)
        )  # fmt: skip
        if ends or length > MAX_ELEMENT_CHARS:
            yield from _elements("".join(block), start)
            start += length
            block, length = [], 0
        decorated = line.startswith(("@", "#", "//", "/*", " *"))  # belongs to the definition below
        block.append(line)
        length += len(line)
        fresh = line.endswith("\n")
        blank = line.isspace()
    yield from _elements("".join(block), start)


def _elements(raw: str, start: int) -> Iterator[Element]:
    for first, last in pieces(raw):
        part = raw[first:last]
        body = part.rstrip()
        # Leading blank lines are dropped; the indentation of the first line with text is kept.
        skip = len(body) - len(body.lstrip())
        skip = body.rfind("\n", 0, skip) + 1
        text = clean(body[skip:], strip=False)
        if text.strip():
            yield Element(text, ElementKind.CODE, char_start=start + first + skip, char_end=start + first + len(body))
