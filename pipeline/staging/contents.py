"""What a staging area holds, as it lists itself: copies and chunk files, each with its size and the time of its last use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: Seconds after its last use for which a file stays, whatever the ledger says: a load records a copy a moment after it has made
#: or found it.
IN_USE_S = 3600.0

#: Contents of at most this many bytes that come into a folder together share a pack.
PACKED_BYTES = 64 << 10


def is_chunk_key(key: str) -> bool:
    """Whether a key is that of a chunk file, and not of a copy."""
    return key.startswith("chunks/")


def is_pack(place: str) -> bool:
    """Whether a place below a staging folder is that of a pack, and not the key of a content."""
    return place.startswith("packs/")


@dataclass(frozen=True, slots=True)
class Piece:
    """A copy as a local file, or a part of one."""

    path: Path
    offset: int = 0
    length: int = -1  #: -1: the whole file


@dataclass(frozen=True, slots=True)
class Content:
    """A copy, a chunk file, or a temporary file."""

    key: str  #: as `copies.blob_key` and `copies.chunks_key` make it
    bytes: int
    used_at: float  #: when it was written, or found instead of being written again; seconds since the epoch
    packed: bool = False  #: whether it lies in a pack, with others

    @property
    def content_hash(self) -> str:
        """Of the document's bytes."""
        return self.key.rpartition("/")[2].partition(".")[0]

    @property
    def parse_fingerprint(self) -> str:
        """Of the options that made a chunk file; empty for a copy."""
        return self.key.split("/")[1] if self.is_chunk_file else ""

    @property
    def is_chunk_file(self) -> bool:
        """Whether it is a chunk file."""
        return is_chunk_key(self.key)
