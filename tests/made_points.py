"""Documents, chunks and vectors for tests of stores; the same numbers in every run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.store.edge import EdgeStore
from pipeline.types import Chunk, DocumentInfo, EmbeddedChunk, chunk_id, document_id

DIMENSION = 16


def made_document(name: str, folder: str = "/guides") -> DocumentInfo:
    uri = f"file://{folder}/{name}"
    return DocumentInfo(document_id("test", uri), uri, f"Title of {name}", "text/plain", "c0ffee", folder)


def made_vector(seed: int, dimension: int = DIMENSION) -> list[float]:
    vector = np.random.default_rng(seed).standard_normal(dimension)
    numbers: list[float] = (vector / np.linalg.norm(vector)).astype(np.float32).tolist()
    return numbers


def made_points(
    document: DocumentInfo, count: int, *, dimension: int = DIMENSION, first: int = 0, text: str = "Some words."
) -> list[tuple[DocumentInfo, EmbeddedChunk]]:
    """`count` points; the vector of the chunk with ordinal n is made_vector(n)."""
    points = []
    for n in range(first, first + count):
        words = f"{text} {n}"
        chunk = Chunk(
            chunk_id(document.id, words, 0), document.id, n, words, 5, ("Guide", f"Part {n}"), n + 1, n + 1, 10 * n, 10 * n + 9
        )
        points.append((document, EmbeddedChunk(chunk, made_vector(n, dimension))))
    return points


@contextmanager
def store_of(folder: Path, documents: int, points: int) -> Iterator[EdgeStore]:
    """A store with the collection `c`, whose documents `0.txt`, `1.txt`, ... have so many points each."""
    store = EdgeStore(folder, role="owner", lock_timeout_s=10.0)
    store.create("c", DIMENSION)
    for number in range(documents):
        store.upsert("c", made_points(made_document(f"{number}.txt"), points, first=points * number))
    yield store
    store.close()
