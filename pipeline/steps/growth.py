"""The growth of memory and disk by new points, for each store that could hold them."""

from __future__ import annotations

from dataclasses import dataclass

#: Qdrant's own rule of thumb for the memory of a vector: 4 bytes a number, and half as much again for graph and ids.
MEMORY_FACTOR = 1.5

#: Bytes of a point on disk in addition to its vector: 1.9 KB were measured with 1 KB of text (50,000 points of 384 numbers in
#: 165 MiB), and 0.7 KB for its BM25 weights.
DISK_POINT_BYTES = 2600

#: What a graph adds to a point of the embedded store: links and ids; and memory for its payload indexes and words. Measured with
#: 100,000 points (docs/scaling.md).
GRAPH_BYTES, POINT_MEMORY_BYTES = 400, 1600


@dataclass(frozen=True, slots=True)
class Growth:
    """What new points take in one store."""

    store: str  #: the store, and its settings
    memory_bytes: int  #: that a quick search needs; of the embedded store, most of it is the system's cache of files
    disk_bytes: int


def growth(points: int, dimension: int, parts: int = 0) -> list[Growth]:
    """The growth for `points` new points with vectors of `dimension` numbers, and of so many parts each; estimates."""
    whole, byte, of_parts = 4 * dimension, dimension, 2 * dimension * parts
    on_disk = whole + of_parts + DISK_POINT_BYTES
    each = {
        "embedded store": (byte + of_parts + GRAPH_BYTES + POINT_MEMORY_BYTES, on_disk + byte + GRAPH_BYTES),
        "Qdrant server": (MEMORY_FACTOR * (whole + of_parts), on_disk),
        "Qdrant server, KB_QDRANT_QUANTIZATION=int8, KB_QDRANT_ON_DISK=1": (MEMORY_FACTOR * byte, on_disk + byte),
        "Qdrant server, KB_QDRANT_QUANTIZATION=binary, KB_QDRANT_ON_DISK=1": (MEMORY_FACTOR * byte / 8, on_disk + byte / 8),
    }
    return [Growth(store, round(points * memory), round(points * disk)) for store, (memory, disk) in each.items()]
