"""How a model computes, and the texts for checking this."""

from __future__ import annotations

from dataclasses import dataclass

_SENTENCES = (
    "The scheduler starts a new run when the previous one has ended, and records how many documents changed.",
    "An index over the payload field makes filters fast; without it every point of the collection is looked at.",
    "Water boils at a lower temperature in the mountains, because the pressure of the air is lower there.",
    "To open a file for writing, pass the mode as the second argument; the file is truncated if it exists.",
    "She closed the ledger, put the pen back into its stand and looked at the rain on the window for a while.",
    "Half precision halves the memory of the weights, but sums over many numbers should be kept in full precision.",
    "The warranty covers parts and labour for two years, unless the seal has been broken by an unauthorised person.",
)

#: Texts of different lengths, for comparing precisions.
CANARY_TEXTS = tuple(
    " ".join(_SENTENCES[(start + step) % len(_SENTENCES)] for step in range(length))
    for start, length in enumerate((1, 8, 8, 4, 8, 8, 2, 8, 6, 8, 8, 3))
)


@dataclass(frozen=True, slots=True)
class ComputePlan:
    """How a model computes. No plan changes vectors beyond rounding, so plans may change while texts are embedded."""

    streams: int  #: concurrent model calls
    threads: int  #: per stream
    packed: bool = False  #: texts of a call follow each other without padding, where the encoder can do that

    @property
    def name(self) -> str:
        """The plan in a file, such as 4x1 or 4x1-packed."""
        return f"{self.streams}x{self.threads}" + "-packed" * self.packed


#: Plans in the order in which machine and model suggest them, the first one for the start.
Plans = tuple[ComputePlan, ...]
