"""Packs of a staging folder as tests need them: made older, and counted."""

from __future__ import annotations

import os
import struct
from collections.abc import Collection
from pathlib import Path

from pipeline.staging.copies import join_key
from pipeline.staging.pack import _RECORD, Pack

#: Where a record has the time at which its content came.
PUT_AT = struct.calcsize("<32sIIQI")


def packs(staging: Path) -> list[Path]:
    """All packs of a staging folder."""
    return sorted((staging / "packs").rglob("*.pack"))


def make_older(staging: Path, then: float, keys: Collection[str] = ()) -> None:
    """Let contents of packs, by default all, have come at another time."""
    for path in packs(staging):
        pack = Pack.open(str(path))
        entries = [entry for entry in pack.entries() if not keys or join_key(entry.digest, entry.label) in keys]
        with path.open("rb+", buffering=0) as file:
            for entry in entries:
                os.pwrite(file.fileno(), struct.pack("<I", int(then)), pack.records_at + entry.number * _RECORD.size + PUT_AT)
