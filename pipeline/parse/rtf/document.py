"""RTF documents: title, elements and losses of a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.parse.parsed import Parsed, headed
from pipeline.parse.rtf.reader import Reader
from pipeline.parse.rtf.tokens import Tokens
from pipeline.parse.rtf.words import WORDS
from pipeline.types import Element


def parse_rtf(path: Path, name: str) -> Parsed:
    """Elements of the rich text at `path`; its title is its first heading, else the one in its properties."""
    file = path.open("rb")
    reader = Reader(Tokens(file, os.fstat(file.fileno()).st_size), WORDS)

    def elements() -> Iterator[Element]:
        with file:
            yield from reader.elements()

    title, found = headed(elements())
    return Parsed(title or reader.title, found, reader.share, reader.losses)
