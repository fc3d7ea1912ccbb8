"""Text to vectors: the protocol, and what makes vectors comparable."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.model.files import identity_of
from pipeline.settings import Settings

#: Calls whose fill is remembered until somebody asks.
FILLS_KEPT = 10_000

#: What an embed fingerprint is made of.
FINGERPRINTED = ("model", "revision", "dimension")

#: How far a vector's length may be from 1.
NORM_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True)
class EmbedderInfo:
    """What embeds, and on what."""

    model: str
    revision: str
    dimension: int
    max_tokens: int  #: most tokens of a text, special tokens included; 0: only the endpoint knows
    device: str  #: cpu, cuda:0, mps, or the endpoint's URL
    dtype: str
    chunks_per_s: float  #: measured on a few canary texts at start; 0: not measured


class Embedder(Protocol):
    """Embeds texts."""

    calls: int  #: of the model that have ended: whoever waits for vectors sees by it that work goes on
    fills: deque[float]  #: of the latest calls, the share of the tokens, or texts, that one may have; whoever reads it empties it

    @property
    def info(self) -> EmbedderInfo:
        """What embeds, and on what."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed documents: (n, dimension), unit length, in the order of `texts`; see the implementations for errors."""

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed a question: (dimension,), unit length."""

    def memory_bytes(self) -> int:
        """What it takes of the memory of a device that has its own; 0 where it shares the host's."""

    def close(self) -> None:
        """Give back what it holds."""


def make_embedder(settings: Settings, *, device: str, measured: bool = True) -> Embedder:
    """The embedder that the settings ask for: an endpoint at KB_EMBED_URL, or torch in this process on `device`.

    A caller that embeds one question does without the rate: measuring it takes longer than the question.
    Raises ModelError, DeviceError, EmbedUnavailable.
    """
    if settings.embed_url:
        from pipeline.embed.http import HttpEmbedder

        return HttpEmbedder.connect(settings)
    from pipeline.embed.local import LocalEmbedder

    return LocalEmbedder.load(settings, device, measured=measured)


def bad_rows(vectors: NDArray[np.float32]) -> list[int]:
    """Rows of (n, dimension) that must never be stored: NaN, infinite, zero, or not of unit length."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    # Written so that a NaN, which compares false with everything, counts as bad.
    return [int(row) for row in np.flatnonzero(~(np.abs(norms - 1.0) <= NORM_TOLERANCE))]


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to unit length; a zero row stays zero, for `bad_rows` to find."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1.0)).astype(np.float32)


def embed_fingerprint(settings: Settings, dimension: int) -> str:
    """What makes vectors comparable: the model's name (of a folder its last part), its pinned revision and the dimension.

    Not the device, the precision or the endpoint: a collection moves between them. That the name stands for the same
    weights everywhere is checked by each worker with a canary sentence.
    """
    identity = dict(zip(FINGERPRINTED, (identity_of(settings.model), settings.model_revision, dimension), strict=True))
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
