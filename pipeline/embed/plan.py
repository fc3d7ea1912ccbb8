"""How a model computes, and the texts for choosing and checking this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.base import EmbedderInfo

_SENTENCES = (
    "The scheduler starts a new run when the previous one has ended, and records how many documents changed.",
    "An index over the payload field makes filters fast; without it every point of the collection is looked at.",
    "Water boils at a lower temperature in the mountains, because the pressure of the air is lower there.",
    "To open a file for writing, pass the mode as the second argument; the file is truncated if it exists.",
    "She closed the ledger, put the pen back into its stand and looked at the rain on the window for a while.",
    "Half precision halves the memory of the weights, but sums over many numbers should be kept in full precision.",
    "The warranty covers parts and labour for two years, unless the seal has been broken by an unauthorised person.",
)

#: Texts of different lengths, including the usual one, for measuring rates and comparing precisions.
CANARY_TEXTS = tuple(
    " ".join(_SENTENCES[(start + step) % len(_SENTENCES)] for step in range(length))
    for start, length in enumerate((1, 8, 8, 4, 8, 8, 2, 8, 6, 8, 8, 3))
)


@dataclass(frozen=True, slots=True)
class ComputePlan:
    """How a model computes."""

    dtype: str  #: of the transformer: float32, bfloat16, float16
    streams: int  #: concurrent model calls
    threads: int  #: per stream
    chunks_per_s: float = 0.0  #: measured with CANARY_TEXTS; 0 if it was not measured


class Trial(Protocol):
    """An embedder of this process that can compute in several ways."""

    info: EmbedderInfo

    def use(self, plan: ComputePlan) -> None:
        """Change to a plan; from fp32, because what a half precision drops does not come back."""

    def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Unit vectors of texts, (texts, dimension)."""


T = TypeVar("T", bound=Trial)
