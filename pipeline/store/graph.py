"""Makes the shard of a collection of the embedded store anew: with a graph, as one segment, or without deleted points.

The engine holds the interpreter lock until a graph is built, which takes minutes, and nobody else can use the shard. So a
process of its own copies the shard, builds the graph of the copy, and takes the copy into use if nothing was written
meanwhile: every write removes the file BUILDING first (`pipeline.store.shards`). Searches use the shard as it was until then.
The collection file names the shard in use, so that its replacement is the only moment of change: a process that is killed
leaves the old shard or the new one, and the other is removed by the next build.

    python -m pipeline.store.graph FOLDER COLLECTION graph|merge|compact
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias, cast

from qdrant_edge import (
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeShard,
    Memory,
    QuantizationSearchParams,
    SearchParams,
)

from pipeline.errors import KbError, NoSpace
from pipeline.files.copy import copy_folder
from pipeline.files.lock import FileLock
from pipeline.files.replace import sync_folder
from pipeline.store.catalogue import SHARD, Catalogue, leftovers, shard_folder, take_shard
from pipeline.store.edge_engine import OPEN_BYTES, Call, engine_errors, enter_engine
from pipeline.store.points import SPARSE
from pipeline.store.query import Shape
from pipeline.store.segments import ANY, FROZEN_POINTS, LINKS, has_graph, index_fields, made_vectors, segments, weights_of
from pipeline.store.shards import BUILDING, Shards
from pipeline.store.space import (
    DEAD_SHARE,
    THOROUGH_SHARE,
    disk_bytes,
    has_large_log,
    is_wasteful,
    points_of,
    renew_log,
    rewrite,
)

log = logging.getLogger(__name__)

#: A collection of more points gets no graph, which takes minutes and memory to build: the codes of its frozen segments are quick.
MAX_POINTS = 250_000

#: Segments of a collection without a graph from which they are made one: each costs a search 0.5 ms.
MAX_SEGMENTS = 8

#: Candidates of a search by the graph, and how many times as many as wanted are scored again with the whole vectors: with
#: these, docs/scaling.md has the share of the true neighbours that is found.
SEARCH = SearchParams(hnsw_ef=256, quantization=QuantizationSearchParams(rescore=True, oversampling=2.0))

#: Scores of all points that are asked for.
EXACT = SearchParams(exact=True, quantization=QuantizationSearchParams(ignore=True))

#: A graph is built again when this share of all points has none.
AGAIN_SHARE = 0.2

#: Share of deleted points from which a build makes a segment anew, with a graph and without: below that for which a build is
#: begun, as a shard has several segments, and as the engine counts deleted points in all. Smaller ones stay as they are.
VACUUM_SHARE, BARE_VACUUM_SHARE, MIN_VACUUM = DEAD_SHARE / 3, THOROUGH_SHARE / 2, 50

#: Disk space that a build takes, times that of the shard: a copy, and what is made of it.
ROOM = 2.5

#: What a shard is made anew for: a graph, without deleted points too; one frozen segment, likewise; or only without these.
Making: TypeAlias = Literal["graph", "merge", "compact"]

_TOLD: Mapping[Making, str] = {
    "graph": "the graph of %s is being built",
    "merge": "the segments of %s are being made one",
    "compact": "the space of deleted points of %s is being given back",
}

#: In a collection's folder: the lock of the process that makes its shard anew.
LOCK = "graph.lock"

#: Disk space that opening two shards takes, and the log of new points at most, however small they are.
LEAST_BYTES = 2 * OPEN_BYTES + (64 << 20)

#: Seconds to wait for the shard: a search or a batch of a load may use it.
WAIT_S = 120.0

#: The number of points of a shard.
POINTS: Call[None, int] = Call("points", lambda shard, _: points_of(shard))


def unindexed(shard: EdgeShard, points: int, *, sparse: bool) -> int:
    """How many of the points of a shard are in the segment that is written to; others are frozen or have a graph."""
    # The engine adds up the indexed vectors of all names, and word weights are always indexed.
    return max(0, points * (2 if sparse else 1) - shard.info().indexed_vectors_count)


def is_building(path: Path) -> bool:
    """Whether some process makes the shard of the collection in `path` anew."""
    lock = FileLock(path / LOCK)
    try:
        return lock.wanted()
    finally:
        lock.leave()


def due(path: Path, unindexed: int, points: int, least: int, *, parts: bool, thorough: bool) -> Making | None:
    """What the shard of the collection in `path` is to be made anew for; None: it stays.

    `unindexed`: as the function has it.
    `least`: number of points without a graph that are worth one, 0: none are. Collections with vectors of parts get none, nor do
    large ones.
    `thorough`: without a graph, also for fewer deleted points, and for the space of a large log.
    """
    if is_building(path):
        return None
    shard = shard_folder(path)
    is_linked = has_graph(shard)
    gets_graph = points <= MAX_POINTS and least > 0 and not parts
    if gets_graph and (unindexed if is_linked else points) >= max(least, AGAIN_SHARE * points):
        return "graph"
    # Next to a graph nothing is frozen, so a collection gives it up when it has outgrown it.
    if not gets_graph and (segments(shard) > MAX_SEGMENTS or (is_linked and unindexed >= AGAIN_SHARE * points > 0)):
        return "merge"
    # Next to a graph a log of at most 64 MB is small, and a new one may be as large after many operations.
    thorough = thorough and not is_linked
    if not (is_wasteful(shard, points, thorough=thorough) or (thorough and has_large_log(shard))):
        return None
    if gets_graph:
        return "graph" if is_linked else "compact"
    # A rewritten shard of many points would have as many frozen segments as a new one, and be merged next.
    return "merge" if points > FROZEN_POINTS else "compact"


def start(folder: Path, physical: str, making: Making) -> None:
    """Make the shard anew in the background; the process outlives this one, as loads end before a graph is built."""
    log.info(_TOLD[making] + "; it is searched as before until that is done", physical)
    command = [sys.executable, "-m", "pipeline.store.graph", str(folder), physical, making]
    with (folder / "graph.log").open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    threading.Thread(target=process.wait, name="kb-graph", daemon=True).start()  # or its end would leave a zombie


def build(folder: Path, physical: str, making: Making = "graph") -> bool:
    """Make the shard of a collection anew and take it into use; whether that was done.

    Not if somebody else does, or has written to the collection meanwhile, nor a graph for one with vectors of parts. Raises
    StoreLocked, NoSpace, StoreUnavailable, CollectionMissing.
    """
    catalogue = Catalogue(folder)
    path = catalogue.path(catalogue.resolve(physical))
    shape = catalogue.shape(path.name)
    lock, queue = FileLock(path / LOCK), FileLock(folder / LOCK)
    if shape is None or (shape.parts and making == "graph") or not lock.take():
        return False
    shards = Shards(folder, "reader", WAIT_S, 0.2)
    copy = path / f"{SHARD}{secrets.token_hex(4)}"
    try:
        queue.take(math.inf)  # one collection after the other: each needs memory, a core and disk space
        clean(path)
        source = shard_folder(path)
        _check_room(source)
        with shards.closed(lambda: [path]):  # flushed, and not written to from here on unless BUILDING is gone
            (path / BUILDING).write_text(copy.name, "utf-8")
            copy.mkdir()
            shutil.copy2(source / "edge_config.json", copy)
            # The log numbers operations: without it they began at 0 again, and the engine would skip those on newer points.
            copy_folder(source / "wal", copy / "wal")
        copy_folder(source / "segments", copy / "segments")
        if not _is_current(path, copy):
            return False
        enter_engine()
        with engine_errors(copy):
            if making == "compact":
                made = path / f"{SHARD}{secrets.token_hex(4)}"
                kept = rewrite(copy, made, shape)
            else:
                made, kept = copy, _optimized(copy, shape, LINKS if making == "graph" else 0)
            renew_log(made)
        _sync(made)
        points = shards.call(path, POINTS, None)  # by now a process that searches has it open again
        if not _is_current(path, copy):
            return False
        if kept != points:
            log.warning("the new shard of %s has %d points instead of %d, and is not used", physical, kept, points)
            return False
        with shards.closed(lambda: [path]):
            if not _is_current(path, copy):
                return False
            take_shard(path, made.name)
            (path / BUILDING).unlink()
        return True
    finally:
        shards.close()
        if path.is_dir():
            clean(path)
        queue.release()
        lock.release()


def clean(path: Path) -> None:
    """Remove shards of a collection that are not in use."""
    for one in leftovers(path):
        if one.is_dir():
            shutil.rmtree(one, ignore_errors=True)
        else:
            one.unlink(missing_ok=True)


def _is_current(path: Path, copy: Path) -> bool:
    """Whether nothing has been written since the copy was begun."""
    try:
        return (path / BUILDING).read_text("utf-8") == copy.name
    except FileNotFoundError:
        return False


def _check_room(source: Path) -> None:
    needed = int(ROOM * disk_bytes(source)) + LEAST_BYTES
    free = shutil.disk_usage(source).free
    if free < needed:
        raise NoSpace(f"to make {source} anew needs {needed >> 20} MB of free disk space meanwhile, and {free >> 20} MB are free")


def _optimized(copy: Path, shape: Shape, count: int) -> int:
    """Make a closed shard one segment, with a graph of `count` links of a node unless 0; returns the number of its points."""
    shard = EdgeShard.load(str(copy), config(shape, count))
    index_fields(shard)
    shard.optimize()
    shard.flush()
    points = points_of(shard)
    shard.close()
    return points


def _sync(folder: Path) -> None:
    for one in (folder, *folder.rglob("*")):
        if one.is_dir():
            sync_folder(one)
        else:
            with one.open("rb") as file:
                os.fsync(file.fileno())


def config(shape: Shape, count: int) -> EdgeConfig:
    """Everything is mapped from files, which the system may drop from memory; all but the payload is read ahead."""
    vectors = made_vectors(shape, count)  # cached: what is cold is read in pieces of 4 KB, and builds waited for the disk
    weights = weights_of([SPARSE]) if shape.sparse else None
    # Whether a graph pays was decided before. One is quicker than a graph for each frozen segment.
    everything = EdgeOptimizersConfig(
        VACUUM_SHARE if count else BARE_VACUUM_SHARE,
        MIN_VACUUM,
        default_segment_number=1,
        max_segment_size=ANY,
        indexing_threshold=1,
    )
    return EdgeConfig(vectors=vectors, sparse_vectors=weights, payload_memory=Memory.Cold, optimizers=everything)


def main() -> None:
    """Make the shard of the collection that the command line names anew."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.nice(10)  # searches and loads come first
    folder, physical, making = sys.argv[1:]
    began = time.monotonic()
    try:
        done = build(Path(folder), physical, cast("Making", making))
    except (KbError, OSError) as error:  # OSError: the collection was dropped meanwhile, for example
        log.error("no new shard of %s (%s): %s", physical, making, error)
        raise SystemExit(1) from error
    log.info("%s (%s): %s after %.0f s", physical, making, "the new shard is in use" if done else
             "no new shard: somebody else makes one, or wrote meanwhile", time.monotonic() - began)  # fmt: skip


if __name__ == "__main__":
    main()
