"""Builds the HNSW graph of a collection of the embedded store, for a copy of its shard and in a process of its own.

The engine holds the interpreter lock until a graph is built, which takes minutes, and nobody else can use the shard. So a
process of its own copies the shard, builds the graph of the copy, and takes the copy into use if nothing was written
meanwhile: every write removes the file BUILDING first (`pipeline.store.shards`). Searches use the shard as it was until then.
The collection file names the shard in use, so that its replacement is the only moment of change: a process that is killed
leaves the old shard or the new one, and the other is removed by the next build.

    python -m pipeline.store.graph FOLDER COLLECTION
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    HnswIndexConfig,
    KeywordIndexParams,
    Memory,
    Modifier,
    QuantizationSearchParams,
    ScalarQuantizationConfig,
    ScalarType,
    SearchParams,
    UpdateOperation,
)

from pipeline.errors import KbError, NoSpace
from pipeline.files.lock import FileLock
from pipeline.filters import PREFIX_FIELDS
from pipeline.store.catalogue import SHARD, Catalogue, leftovers, shard_folder, take_shard
from pipeline.store.edge_engine import engine_errors, enter_engine
from pipeline.store.points import DENSE, INDEXED_FIELDS, SPARSE
from pipeline.store.shards import BUILDING, Call, Shards

log = logging.getLogger(__name__)

#: Links of a node, and candidates looked at while one is linked: the defaults of Qdrant's server.
LINKS, CANDIDATES = 16, 100

#: Kilobytes of vectors that are compared one by one rather than by a graph.
FULL_SCAN_KB = 10_000

#: Candidates of a search by the graph, and how many times as many as wanted are scored again with the whole vectors: with
#: these, docs/scaling.md has the share of the true neighbours that is found.
SEARCH = SearchParams(hnsw_ef=256, quantization=QuantizationSearchParams(rescore=True, oversampling=2.0))

#: Scores of all points that are asked for.
EXACT = SearchParams(exact=True, quantization=QuantizationSearchParams(ignore=True))

#: A graph is built again when this share of all points has none.
AGAIN_SHARE = 0.2

#: Disk space that a build takes, times that of the shard: a copy, and the copy with its graph.
ROOM = 2.5

#: In a collection's folder: the lock of the process that builds its graph.
LOCK = "graph.lock"

#: Seconds to wait for the shard: a search or a batch of a load may use it.
WAIT_S = 120.0

#: The number of points of a shard.
POINTS: Call[None, int] = Call("points", lambda shard, _: shard.info().points_count)


def lacking(shard: EdgeShard, *, sparse: bool) -> int:
    """Number of points of a shard that have no graph."""
    info = shard.info()
    # The engine adds up the indexed vectors of all names, and word weights are always indexed.
    return max(0, info.points_count * (2 if sparse else 1) - info.indexed_vectors_count)


def is_building(path: Path) -> bool:
    """Whether some process builds the graph of the collection in `path`."""
    lock = FileLock(path / LOCK)
    try:
        return lock.wanted()
    finally:
        lock.leave()


def start(folder: Path, physical: str) -> None:
    """Build in the background; the process outlives this one, as loads end before a graph is built."""
    log.info("the graph of %s is being built, for some minutes; searches compare with every vector until then", physical)
    command = [sys.executable, "-m", "pipeline.store.graph", str(folder), physical]
    with (folder / "graph.log").open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    threading.Thread(target=process.wait, name="kb-graph", daemon=True).start()  # or its end would leave a zombie


def build(folder: Path, physical: str) -> bool:
    """Build the graph of a collection and take it into use; whether that was done.

    Not if somebody else builds it, or has written to the collection meanwhile, nor for one with vectors of parts. Raises
    StoreLocked, NoSpace, StoreUnavailable, CollectionMissing.
    """
    catalogue = Catalogue(folder)
    path = catalogue.path(catalogue.resolve(physical))
    shape = catalogue.shape(path.name)
    lock = FileLock(path / LOCK)
    if shape is None or shape.parts or not lock.take():
        return False
    shards = Shards(folder, "reader", WAIT_S, 0.2)
    copy = path / f"{SHARD}{secrets.token_hex(4)}"
    try:
        clean(path)
        source = shard_folder(path)
        _check_room(source)
        with shards.closed(lambda: [path]):  # flushed, and not written to from here on unless BUILDING is gone
            (path / BUILDING).write_text(copy.name, "utf-8")
            copy.mkdir()
            shutil.copy2(source / "edge_config.json", copy)
            # The log numbers operations: without it they began at 0 again, and the engine would skip those on newer points.
            shutil.copytree(source / "wal", copy / "wal")
        shutil.copytree(source / "segments", copy / "segments")
        if not _is_current(path, copy):
            return False
        enter_engine()
        with engine_errors(copy):
            kept = _optimized(copy, shape.dimension, sparse=shape.sparse)
        points = shards.call(path, POINTS, None)  # by now a process that searches has it open again
        if not _is_current(path, copy):
            return False
        if kept != points:
            log.warning("the graph of %s has %d points instead of %d, and is not used", physical, kept, points)
            return False
        with shards.closed(lambda: [path]):
            if not _is_current(path, copy):
                return False
            take_shard(path, copy.name)
            (path / BUILDING).unlink()
        return True
    finally:
        shards.close()
        if path.is_dir():
            clean(path)
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
    # The engine's files have holes, so their blocks count and not their lengths.
    needed = int(ROOM * sum(one.stat().st_blocks * 512 for one in source.rglob("*") if one.is_file()))
    free = shutil.disk_usage(source).free
    if free < needed:
        raise NoSpace(
            f"the graph of {source} needs {needed >> 20} MB of free disk space while it is built, and {free >> 20} MB are free"
        )


def _optimized(copy: Path, dimension: int, *, sparse: bool) -> int:
    """Build the graph of a closed shard; returns the number of its points."""
    shard = EdgeShard.load(str(copy), config(dimension, sparse=sparse))
    for field in INDEXED_FIELDS:  # those of a new shard are in memory
        shard.update(UpdateOperation.delete_field_index(field))
        index = KeywordIndexParams(prefix=field in PREFIX_FIELDS, memory=Memory.Cached)
        shard.update(UpdateOperation.create_field_index(field, index))
    shard.optimize()
    shard.flush()
    points = shard.info().points_count
    shard.close()
    for one in copy.rglob("*"):
        if one.is_file():
            with one.open("rb") as file:
                os.fsync(file.fileno())
    return points


def config(dimension: int, *, sparse: bool) -> EdgeConfig:
    """Everything is mapped from files, which the system may drop from memory; all but the payload is read ahead."""
    vectors = EdgeVectorParams(
        size=dimension,
        distance=Distance.Cosine,
        memory=Memory.Cached,  # Cold is read in pieces of 4 KB: builds waited for the disk
        quantization_config=ScalarQuantizationConfig(ScalarType.Int8, quantile=0.99, memory=Memory.Cached),
        hnsw_config=HnswIndexConfig(LINKS, CANDIDATES, FULL_SCAN_KB, memory=Memory.Cached),
    )
    weights = {SPARSE: EdgeSparseVectorParams(modifier=Modifier.Idf, memory=Memory.Cached)} if sparse else None
    everything = EdgeOptimizersConfig(indexing_threshold=1)  # whether a graph pays was decided before
    return EdgeConfig(vectors={DENSE: vectors}, sparse_vectors=weights, payload_memory=Memory.Cold, optimizers=everything)


def main() -> None:
    """Build the graph of the collection that the command line names."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.nice(10)  # searches and loads come first
    folder, physical = sys.argv[1:]
    began = time.monotonic()
    try:
        done = build(Path(folder), physical)
    except (KbError, OSError) as error:  # OSError: the collection was dropped meanwhile, for example
        log.error("no graph of %s: %s", physical, error)
        raise SystemExit(1) from error
    log.info("%s: %s after %.0f s", physical, "the graph is in use" if done else "no graph: somebody builds it, or wrote meanwhile",
             time.monotonic() - began)  # fmt: skip


if __name__ == "__main__":
    main()
