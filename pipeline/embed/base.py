"""The protocol of an embedder, and the checks and the fingerprint of its vectors."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.model.files import identity_of
from pipeline.settings import Settings
from pipeline.types import Embedding

#: What an embedder is for: the documents of loads, the questions of a service, or the single question of a command.
Purpose = Literal["documents", "questions", "question"]

#: Number of calls whose fill is kept until it is read.
FILLS_KEPT = 10_000

#: The parts of an embed fingerprint.
FINGERPRINTED = ("model", "revision", "dimension", "tokens of parts")

#: Maximum deviation of a vector's length from 1.
NORM_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True)
class EmbedderInfo:
    """Describes an embedder and its device."""

    model: str
    revision: str
    dimension: int
    max_tokens: int  #: maximum tokens per text, special tokens included; 0: only the endpoint knows
    device: str  #: cpu, cuda:0, mps, or the endpoint's URL
    dtype: str
    chunks_per_s: float  #: as earlier loads found out, or as an endpoint showed at the start; 0: not measured yet


class QueryEmbedder(Protocol):
    """Embeds questions."""

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed a question: (dimension,), unit length."""

    def close(self) -> None:
        """Release all resources."""


class Embedder(Protocol):
    """Embeds texts."""

    fills: deque[float]  #: of the latest calls, the used share of the tokens, or texts, allowed per call; emptied by its reader

    @property
    def calls(self) -> int:
        """Finished calls of the model: a rising number tells a waiting caller that work continues."""

    @property
    def info(self) -> EmbedderInfo:
        """The embedder's model and device."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed documents: (n, dimension), unit length, in the order of `texts`; see the implementations for errors.

        With KB_PART_TOKENS (n, 1 + parts, dimension): the whole first, then its parts, and zeros where a text has fewer of them.
        """

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed a question: (dimension,), unit length."""

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed questions together: (n, dimension), unit length, in the order of `texts`."""

    def memory_bytes(self) -> int:
        """Memory used on a device that has its own; 0 where the device shares the host's."""

    def close(self) -> None:
        """Release all resources."""


def wholes(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors of whole texts, (n, dimension), among those of `Embedder.embed`."""
    found: NDArray[np.float32] = vectors[:, 0] if vectors.ndim > 2 else vectors
    return found


def embedding_of(row: NDArray[np.float32]) -> Embedding:
    """A row of `Embedder.embed` as it is stored."""
    if row.ndim == 1:
        return Embedding(row.tolist())
    return Embedding(row[0].tolist(), tuple(part.tolist() for part in row[1:] if part.any()))


def bad_rows(vectors: NDArray[np.float32]) -> list[int]:
    """Rows of `Embedder.embed` that must never be stored: NaN, infinite, zero, or not of unit length."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=-1)
    norms = norms[:, np.newaxis] if norms.ndim == 1 else norms
    # The negation makes NaN, which compares false with everything, count as bad.
    bad = ~(np.abs(norms - 1.0) <= NORM_TOLERANCE)
    bad[:, 1:] &= norms[:, 1:] != 0  # parts that a text does not have
    return [int(row) for row in np.flatnonzero(bad.any(1))]


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors scaled to unit length; a zero one stays zero, for `bad_rows` to find."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1.0)).astype(np.float32)


def embed_fingerprint(settings: Settings, dimension: int) -> str:
    """Identifies comparable vectors: the model's name (for a folder, its last part), its pinned revision, the dimension
    and, if they have vectors of their own, the size of parts.

    Device, precision and endpoint are left out: a collection may move between them. Each worker checks with a canary
    sentence that the name stands for the same weights.
    """
    identity: dict[str, object] = {
        "model": identity_of(settings.model),
        "revision": settings.model_revision,
        "dimension": dimension,
    }
    if settings.part_tokens:
        identity["part_tokens"] = settings.part_tokens
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
