"""How the engine keeps the points of a shard: new ones in a segment in memory, which is frozen once it is large.

The segment that is written to has its words, payload indexes and ids in memory, 1.6 KB for a chunk of 90 words. A frozen one is
mapped from files, which the system may drop, and has its vectors as codes of four bits a number too: searches compare these and
score the best again with the whole vectors. To freeze a segment is the engine's optimization without links between vectors, which
takes 70 µs a point; the owner of the shard does it while it writes. Links are made by `pipeline.store.graph`.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

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
    MultiVectorComparator,
    MultiVectorConfig,
    ScalarQuantizationConfig,
    ScalarType,
    TurboQuantBitSize,
    TurboQuantQuantizationConfig,
    UpdateOperation,
    VectorStorageDatatype,
)

from pipeline.filters import PREFIX_FIELDS
from pipeline.store.points import DENSE, INDEXED_FIELDS, PARTS, SPARSE
from pipeline.store.query import Shape

log = logging.getLogger(__name__)

#: Points of a segment from which it is frozen: the process that writes holds the interpreter lock for some two seconds then.
FROZEN_POINTS = 25_000

#: Vectors of parts of a chunk, and different words of one, with which a segment is frozen at that number: the engine compares
#: the largest of its storages. With fewer it is frozen later, unless the chunk's own vector is larger than both.
MANY_PARTS, MANY_WORDS = 8, 128

#: Links of a node of a graph, and candidates looked at while one is linked: the defaults of Qdrant's server.
LINKS, CANDIDATES = 16, 100

#: Kilobytes of vectors that are compared one by one rather than by a graph.
FULL_SCAN_KB = 10_000

#: Vectors of one byte a number, by which a graph is built and searched; the system may drop them from memory.
BYTES = ScalarQuantizationConfig(ScalarType.Int8, quantile=0.99, memory=Memory.Cached)

#: Vectors of four bits a number, which are compared one by one in half the time of those.
CODES = TurboQuantQuantizationConfig(bits=TurboQuantBitSize.Bits4, memory=Memory.Cached)

_Codes: TypeAlias = ScalarQuantizationConfig | TurboQuantQuantizationConfig | None

#: More than any shard has: of segments, of kilobytes of one.
ANY = 1 << 40

#: Share of deleted points that no segment has.
_NEVER = 1.1

#: Where the engine makes a segment before it takes its place.
_UNFINISHED = "temp_segments"

#: A shard's own description, which the engine writes.
_CONFIG = "edge_config.json"

_is_told = False  #: that a segment cannot be frozen


def links(count: int) -> HnswIndexConfig:
    """The graph of a segment, with `count` links of a node; 0: none."""
    return HnswIndexConfig(count, CANDIDATES, FULL_SCAN_KB, memory=Memory.Cached)


def new_config(shape: Shape, weights: Iterable[str] | None = None) -> EdgeConfig:
    """The configuration of a new shard; `weights`: the names of its word weights, if others than those of a new collection."""
    vectors = {DENSE: EdgeVectorParams(size=shape.dimension, distance=Distance.Cosine)}
    if shape.parts:
        vectors[PARTS] = _parts(shape.dimension)
    if weights is None:
        weights = [SPARSE] if shape.sparse else []
    return EdgeConfig(
        vectors=vectors,
        sparse_vectors=weights_of(weights) or None,
        # As `load_shard` has them: the engine would make the first segment anew when it is first written to.
        hnsw_config=links(0),
        quantization_config=None if shape.parts else CODES,
    )


def made_vectors(shape: Shape, count: int) -> dict[str, EdgeVectorParams]:
    """The vectors of a segment that is made in the background, with a graph of `count` links of a node unless 0."""
    if shape.parts:  # without codes, as frozen ones
        return {DENSE: _made_dense(shape.dimension, 0, None), PARTS: _parts(shape.dimension, Memory.Cached)}
    return {DENSE: _made_dense(shape.dimension, count, BYTES if count else CODES)}


def _made_dense(size: int, count: int, codes: _Codes, memory: Memory = Memory.Cached) -> EdgeVectorParams:
    return EdgeVectorParams(size=size, distance=Distance.Cosine, memory=memory, quantization_config=codes, hnsw_config=links(count))


def _parts(size: int, memory: Memory | None = None) -> EdgeVectorParams:
    return EdgeVectorParams(
        size=size,
        distance=Distance.Cosine,
        multivector_config=MultiVectorConfig(comparator=MultiVectorComparator.MaxSim),
        datatype=VectorStorageDatatype.Float16,
        memory=memory,
    )


def weight_names(folder: Path) -> list[str]:
    """Names of the word weights of the shard in this folder: those of older collections have another one."""
    return list(json.loads((folder / _CONFIG).read_bytes()).get("sparse_vectors") or {})


def index_fields(shard: EdgeShard) -> None:
    """Make the payload indexes that every shard has; mapped from files in frozen segments, which those of older shards are not."""
    known = shard.info().payload_schema
    for field in INDEXED_FIELDS:
        params = known[field].params if field in known else None
        if isinstance(params, KeywordIndexParams) and params.memory == Memory.Cached:
            continue
        if field in known:
            shard.update(UpdateOperation.delete_field_index(field))
        index = KeywordIndexParams(prefix=field in PREFIX_FIELDS, memory=Memory.Cached)
        shard.update(UpdateOperation.create_field_index(field, index))


def load_shard(folder: Path, threads: int) -> EdgeShard:
    """Open the shard in `folder`, as `freeze` needs it. Raises what the engine raises.

    `threads`: how many search the segments; with one it is the thread that asks. By default the engine has eight even on two cores,
    and these wake each other some hundred times for a search.
    """
    shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)  # of a process that was killed: the caller has the shard's lock
    try:
        stored = json.loads((folder / _CONFIG).read_bytes())
        dense = _stored_dense(stored)
    except (FileNotFoundError, ValueError, KeyError):
        return EdgeShard.load(str(folder))  # the engine says what is wrong
    weights = weights_of(stored.get("sparse_vectors") or {})
    made = _links(stored)
    settings = EdgeConfig(
        # The engine wants one of both; what the shard has stays as it is.
        vectors=None if weights else {DENSE: dense},
        sparse_vectors=weights or None,
        hnsw_config=links(made),
        quantization_config=None if PARTS in stored["vectors"] else CODES,
        # Where nodes have links the engine would make some for every segment, while it holds the interpreter lock.
        optimizers=_optimizers(ANY if made else _point_bytes(stored) * FROZEN_POINTS >> 10),
        max_search_threads=threads,
    )
    return EdgeShard.load(str(folder), settings)


def freeze(shard: EdgeShard) -> None:
    """Freeze the segment that is written to if it is large; others take 50 µs.

    Its points are written before. So where the engine cannot freeze it, for lack of room for example, it stays as it is.
    """
    try:
        shard.optimize()
    except Exception as error:
        global _is_told
        if not _is_told:  # it would be so after each batch
            log.warning("a large segment of the embedded store stays in memory, as it cannot be frozen: %s", error)
        _is_told = True


def segments(folder: Path) -> int:
    """Number of segments of the shard in this folder, that which is written to included."""
    return len([*(folder / "segments").glob("*/segment.json")])


def has_graph(folder: Path) -> bool:
    """Whether the shard in this folder was made with a graph. The engine's number of indexed vectors has frozen ones in it."""
    try:
        return _links(json.loads((folder / _CONFIG).read_bytes())) > 0
    except FileNotFoundError:  # another shard has just taken its place
        return False


def _stored_dense(stored: dict[str, Any]) -> EdgeVectorParams:
    """The vectors as the shard has them: given otherwise, the engine would make a segment with a graph anew without it."""
    own = stored["vectors"][DENSE]
    size = int(own["size"])
    if not own.get("hnsw_config"):
        return EdgeVectorParams(size=size, distance=Distance.Cosine)
    count = _links(stored)
    codes = None if PARTS in stored["vectors"] else BYTES if count else CODES
    return _made_dense(size, count, codes, Memory.Cold if own.get("memory") == "cold" else Memory.Cached)


def _links(stored: dict[str, Any]) -> int:
    own = stored["vectors"][DENSE].get("hnsw_config")
    return int((own or stored.get("hnsw_config") or {"m": 0})["m"])


def _point_bytes(stored: dict[str, Any]) -> int:
    """The largest of what a chunk takes in the storages of a segment."""
    numbers = int(stored["vectors"][DENSE]["size"])
    parts = 2 * numbers * MANY_PARTS if PARTS in stored["vectors"] else 0
    return max(4 * numbers, parts, 12 * MANY_WORDS if stored.get("sparse_vectors") else 0)


def weights_of(names: Iterable[str]) -> dict[str, EdgeSparseVectorParams]:
    """The word weights of a shard, by these names."""
    return {name: EdgeSparseVectorParams(modifier=Modifier.Idf, memory=Memory.Cached) for name in names}


def _optimizers(threshold_kb: int) -> EdgeOptimizersConfig:
    """Segments of that many kilobytes of vectors are frozen, each alone, and not made anew: see `graph` and `space`."""
    return EdgeOptimizersConfig(_NEVER, vacuum_min_vector_number=ANY, default_segment_number=ANY, indexing_threshold=threshold_kb)
