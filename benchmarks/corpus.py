"""Real documents to measure with: the HTML pages of Debian's python3-doc."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from pipeline.chunk.pack import chunk_elements
from pipeline.chunk.units import ChunkOptions
from pipeline.model.tokens import TokenCounter
from pipeline.parse import parse
from pipeline.parse.gate import Limits, inspect
from pipeline.types import document_id


def pages() -> list[Path]:
    """The pages in the order of their names; raises SystemExit where the package is not installed."""
    # Several packages link to the same folder.
    folders = {folder.resolve() for folder in Path("/usr/share/doc").glob("python3*/html") if folder.exists()}
    found = sorted(path for folder in folders for path in folder.glob("**/*.html"))
    if not found:
        raise SystemExit("no pages to measure with: apt-get install python3-doc")
    return found


def chunk_texts(counter: TokenCounter, count: int, *, seed: int = 1, files: Sequence[Path] = ()) -> list[str]:
    """Texts of `count` chunks of at most 256 tokens, as they would be embedded, in random order; of `files`, or of all pages."""
    files = list(files) or pages()
    chance = random.Random(seed)
    chance.shuffle(files)
    texts: list[str] = []
    for path in files:
        media_type = inspect(path, path.name, Limits())
        elements = parse(path, path.name, media_type).elements
        document = document_id("benchmark", path.as_uri())
        texts += [chunk.embed_text for chunk in chunk_elements(document, elements, counter, ChunkOptions(256, 0, 4096))]
        if len(texts) >= 2 * count:
            break
    chance.shuffle(texts)
    return texts[:count]
