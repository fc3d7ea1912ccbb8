"""Disk space of a shard of the embedded store: how much deleted points take, and a shard without them.

The engine keeps what belongs to a deleted point, or to an earlier version of one, until it makes a segment anew. Its log of
operations keeps those that have long been carried out, up to 64 MB.
"""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from qdrant_edge import CountRequest, EdgeShard, Point, ScrollRequest, UpdateOperation

from pipeline.store.points import INDEXED_FIELDS, PAGE_POINTS
from pipeline.store.query import Shape
from pipeline.store.segments import freeze, index_fields, load_shard, new_config, weight_names

#: A shard is made anew when at least this share of its points, and at least so many, are deleted ones.
DEAD_SHARE, MIN_DEAD = 0.15, 500

#: The same for `gc`, where the shard has no graph: a graph costs more than to write points once.
THOROUGH_SHARE, THOROUGH_DEAD = 0.05, 100

#: A log below this, or below this share of its points, stays as it is.
MIN_LOG_BYTES, LOG_SHARE = 1 << 20, 0.1

#: Numbers of operations up to which a shard gets a new log: to count that far takes 5 s, and 29 MB.
MAX_OPERATIONS = 400_000

#: A point that no shard has.
_NO_POINT = str(uuid.UUID(int=0))


def is_wasteful(folder: Path, points: int, *, thorough: bool = False) -> bool:
    """Whether deleted points take a considerable share of the shard in `folder`, which has so many others."""
    share, least = (THOROUGH_SHARE, THOROUGH_DEAD) if thorough else (DEAD_SHARE, MIN_DEAD)
    return dead_points(folder, points) >= max(least, share * points)


def dead_points(folder: Path, points: int) -> int:
    """Number of deleted points, earlier versions included, that take space in the shard in `folder`, which has so many others."""
    try:
        # The engine does not tell. It keeps a number of eight bytes for each point that a segment has ever had.
        ever = sum(one.stat().st_size // 8 for one in (folder / "segments").glob("*/*id_tracker.versions"))
    except FileNotFoundError:  # another shard has just taken its place
        return 0
    return max(0, ever - points)


def has_large_log(folder: Path) -> bool:
    """Whether the log of the shard in `folder` takes at least MIN_LOG_BYTES, and LOG_SHARE as much as its points."""
    return disk_bytes(folder / "wal") >= max(MIN_LOG_BYTES, LOG_SHARE * disk_bytes(folder / "segments"))


def disk_bytes(folder: Path) -> int:
    """What a folder takes. The engine's files have holes, so their blocks count and not their lengths.

    What is removed meanwhile, as segments are that are frozen or merged, does not count, and hides nothing else.
    """
    total = 0
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(at, name)).st_blocks * 512
    return total


def points_of(shard: EdgeShard) -> int:
    """Number of points of a shard, each counted once: a writer that was killed while it froze a segment may leave two of it."""
    return shard.count(CountRequest(exact=True))


def rewrite(source: Path, target: Path, shape: Shape) -> int:
    """Write the points of the closed shard in `source` to a new one in `target`, without a graph; return their number."""
    EdgeShard.create(str(target), new_config(shape, weight_names(source))).close()
    old, new = EdgeShard.load(str(source)), load_shard(target, 1)
    index_fields(new)
    for field, index in old.info().payload_schema.items():
        if field not in INDEXED_FIELDS:
            new.update(UpdateOperation.create_field_index(field, index.params or index.data_type))
    offset = None
    while True:
        records, offset = old.scroll(ScrollRequest(offset=offset, limit=PAGE_POINTS, with_payload=True, with_vector=True))
        if records:
            new.update(UpdateOperation.upsert_points([Point(one.id, one.vector or {}, one.payload) for one in records]))
            freeze(new)
        if offset is None:
            break
    new.flush()
    points = points_of(new)
    old.close()
    new.close()
    return points


def renew_log(folder: Path) -> None:
    """Replace the log of the closed shard in `folder`, all of whose operations are in its segments, by one without them.

    A log numbers operations, and the engine skips one whose number is not above that of the point. So the new log begins with as
    many operations that change nothing.
    """
    shard = EdgeShard.load(str(folder))
    last = max(int(one["segment_version"] or 0) for one in shard.snapshot_manifest().values())
    shard.close()
    if last > MAX_OPERATIONS:
        return
    shutil.rmtree(folder / "wal")
    shard = EdgeShard.load(str(folder))
    for _ in range(last + 1):
        shard.update(UpdateOperation.delete_points([_NO_POINT]))
    shard.flush()
    shard.close()
