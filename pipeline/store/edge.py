"""The embedded store: Qdrant Edge, the server's engine in this process, with one shard per collection.

A new shard has no HNSW graph: searches compare with every vector, or with codes of those in frozen segments (`segments`). A
process of its own builds graphs (`graph`), and gives back the disk space of deleted points.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from qdrant_edge import EdgeShard
from typing_extensions import override

from pipeline.errors import CollectionMissing, NoSpace, StoreUnavailable
from pipeline.files.errors import translating
from pipeline.filters import All, Condition, FieldType, Filters, Node, Op, Types
from pipeline.store import edge_calls, graph
from pipeline.store import points as convert
from pipeline.store.base import Role, StoredPoint, VectorStore
from pipeline.store.bm25 import document_weights
from pipeline.store.catalogue import Catalogue
from pipeline.store.conditions import bound
from pipeline.store.edge_engine import A, Call, R, engine_errors, enter_engine
from pipeline.store.points import DENSE, META_FIELDS, META_PAGE_POINTS, PAGE_POINTS, Point
from pipeline.store.query import Shape, query_plan
from pipeline.store.segments import index_fields, new_config
from pipeline.store.shards import Shards
from pipeline.store.wire import Chosen, Found, NewPayload, NewPoint, Page
from pipeline.types import Chunk, DocumentInfo, EmbeddedChunk, Embedding, Hit, PointMeta


class EdgeStore(VectorStore):
    """VectorStore in a folder. Writes survive kill -9 once they return; upserts also survive a power failure.

    Deletes and payload changes reach the disk with the next upsert, flush() or close. Until then a power failure can undo
    them, the death of the process cannot.
    """

    def __init__(
        self,
        folder: Path,
        *,
        role: Role = "reader",
        lock_timeout_s: float = 30.0,
        idle_s: float | None = None,
        batch_points: int = 256,
        batch_bytes: int = 8 << 20,
        reserve_bytes: int = 128 << 20,
        language: str = "auto",
    ) -> None:
        """Open nothing yet.

        `language`: of texts, as `document_weights` takes it.
        `idle_s`: seconds without a call after which shards are closed; by default 300 for an owner, 0.2 for a reader.
        `reserve_bytes`: disk space that a write must leave free. The engine writes through memory maps, so a full disk
        kills the process instead of raising an error. Opening a collection takes up to 32 MB of it.
        """
        self._catalogue = Catalogue(folder)
        if idle_s is None:
            idle_s = 300.0 if role == "owner" else 0.2
        self._shards = Shards(folder, role, lock_timeout_s, idle_s, edge_calls.CALLS)
        self._batch_points = batch_points
        self._batch_bytes = batch_bytes
        self._reserve_bytes = reserve_bytes
        self._language = language

    @override
    def create(self, physical: str, dimension: int, *, parts: bool = False) -> None:
        stored = self._catalogue.shape(physical)
        if stored is None:
            wanted = Shape(dimension, sparse=True, parts=parts)
            self._catalogue.add(physical, wanted, lambda path: self._build(path, wanted))
            stored = self._catalogue.shape(physical)
        if stored is not None and stored.dimension != dimension:
            raise convert.mismatch(physical, stored.dimension, dimension)

    @override
    def collections(self) -> list[str]:
        return self._catalogue.names()

    @override
    def drop(self, physical: str) -> None:
        if self._catalogue.shape(physical) is not None:
            self._shards.remove(self._catalogue.path(physical), lambda: self._catalogue.remove(physical))
        else:
            self._catalogue.remove_scrap(physical)  # of a process that was killed while it removed the collection

    @override
    def aliases(self) -> dict[str, str]:
        return self._catalogue.aliases()

    @override
    def set_alias(self, alias: str, physical: str) -> None:
        self._catalogue.set_alias(alias, physical)

    @override
    def dimension(self, physical: str) -> int:
        return self._shape(physical).dimension

    @override
    def upsert(self, physical: str, points: Sequence[Point]) -> None:
        """The points are flushed before it returns."""
        shape = self._shape(physical)
        convert.check_vectors(points, shape.dimension)
        for batch in convert.batches(points, self._batch_points, self._batch_bytes, 4):
            # Each byte is written to the log, to the storage and, in part, to the indexes.
            batch_bytes = 4 * sum(4 * len(e.vector) * (1 + len(e.parts)) + 6 * len(e.chunk.text) + 1024 for _, e in batch)
            new = [_new(point, shape, self._language) for point in batch]
            self._change(physical, edge_calls.UPSERT, new, batch_bytes)
        self.flush(physical)

    @override
    def document_points(self, physical: str, document_ids: Sequence[str]) -> dict[str, dict[str, PointMeta]]:
        found: dict[str, dict[str, PointMeta]] = {document_id: {} for document_id in document_ids}
        asked = list(found)
        for start in range(0, len(asked), self._batch_points):
            wanted = Chosen(Condition("document_id", Op.IN, tuple(asked[start : start + self._batch_points])))
            for point in self._scroll(physical, wanted, ["document_id", *META_FIELDS], []):
                found[str(point.payload["document_id"])][point.id] = convert.meta_of(point.payload)
        return found

    @override
    def update_meta(self, physical: str, metas: Mapping[str, PointMeta]) -> None:
        changes = [NewPayload(point_id, convert.meta_payload(meta)) for point_id, meta in metas.items()]
        for start in range(0, len(changes), self._batch_points):
            batch = changes[start : start + self._batch_points]
            self._change(physical, edge_calls.SET_META, batch, 4096 * self._batch_points)

    @override
    def update_document(self, physical: str, document: DocumentInfo) -> None:
        self._change(physical, edge_calls.SET_DOCUMENT, NewPayload(document.id, convert.document_payload(document)))

    @override
    def delete_points(self, physical: str, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), self._batch_points):
            self._change(physical, edge_calls.DELETE_POINTS, list(ids[start : start + self._batch_points]))

    @override
    def delete_documents(self, physical: str, document_ids: Sequence[str]) -> None:
        for start in range(0, len(document_ids), self._batch_points):
            self._change(physical, edge_calls.DELETE_DOCUMENTS, list(document_ids[start : start + self._batch_points]))

    @override
    def vectors(self, physical: str, ids: Sequence[str]) -> dict[str, Embedding]:
        found = dict[str, Embedding]()
        for start in range(0, len(ids), self._batch_points):
            batch = self._call(physical, edge_calls.VECTORS, list(ids[start : start + self._batch_points]))
            found.update(batch)
        return found

    @override
    def count(self, physical: str, document_id: str | None = None, filters: Filters = ()) -> int:
        return self._call(physical, edge_calls.COUNT, Chosen(self._bound(physical, filters), document_id))

    @override
    def document_chunks(
        self, physical: str, document_id: str, filters: Filters = (), ordinals: Sequence[int] | None = None
    ) -> list[Chunk]:
        wanted = Chosen(self._bound(physical, filters), document_id, None if ordinals is None else list(ordinals))
        found = self._scroll(physical, wanted, True, [])
        return convert.in_order(convert.point_of(one.id, one.payload, Embedding([])) for one in found)

    @override
    def search(self, physical: str, vector: Sequence[float] | None, limit: int, filters: Filters, text: str = "") -> list[Hit]:
        wanted = query_plan(physical, self._shape(physical), vector, text, limit, self._bound(physical, filters))
        if wanted is None:
            return []
        found = self._call(physical, edge_calls.QUERY, wanted)
        return convert.ranked(convert.hit_of(point_id, score, payload) for point_id, score, payload in found)

    @override
    def scan(self, physical: str, *, with_vectors: bool = False) -> Iterator[StoredPoint]:
        for point in self._scroll(physical, Chosen(All()), ["document_id"], [DENSE] if with_vectors else []):
            document_id = str(point.payload.get("document_id", ""))
            yield StoredPoint(point.id, document_id, point.embedding.vector if with_vectors else None)

    @override
    def scan_points(self, physical: str) -> Iterator[tuple[DocumentInfo, EmbeddedChunk]]:
        for point in self._scroll(physical, Chosen(All()), True, self._shape(physical).embedded):
            yield convert.point_of(point.id, point.payload, point.embedding)

    @override
    def fields(self, physical: str) -> Types:
        found = self._call(physical, edge_calls.FIELDS, None)
        return {name: FieldType(str(kind)) for name, kind in found.items()}

    @override
    def add_fields(self, physical: str, types: Types) -> None:
        known = self.fields(physical)
        for name, kind in types.items():
            if name not in known:
                self._change(physical, edge_calls.ADD_FIELD, (name, kind.value))

    @override
    def has_parts(self, physical: str) -> bool:
        return self._shape(physical).parts

    @override
    def has_sparse(self, physical: str) -> bool:
        return self._shape(physical).sparse

    @override
    def build_graph(self, physical: str, least: int, *, thorough: bool = False) -> bool:
        shape, path = self._shape(physical), self._path(physical)
        unindexed, points = self._shards.call(path, edge_calls.UNINDEXED, shape.sparse)
        making = graph.due(path, unindexed, points, least, parts=shape.parts, thorough=thorough)
        if making:
            graph.start(self._catalogue.folder, path.name, making)
        return making is not None

    @override
    def graph_links(self, physical: str) -> int | None:
        """The embedded engine builds a graph only on request."""
        return None

    @override
    def set_graph_links(self, physical: str, links: int) -> None:
        pass  # there is no graph to change

    @override
    def flush(self, physical: str) -> None:
        self._shards.flush(self._path(physical))

    @override
    def yield_turn(self) -> None:
        self._shards.yield_turn()

    @override
    def close(self) -> None:
        self._shards.close()

    def copy(self, folder: Path, before: Callable[[], None], copy_file: Callable[[Path, Path], None]) -> None:
        """Copy all collections and aliases to a new folder, by `copy_file`, which gets a file and its target.

        No process writes to them meanwhile, nor while `before` runs: it is called first. Raises StoreLocked.
        """
        if not self._catalogue.folder.is_dir():
            before()
            return
        with self._shards.closed(lambda: [self._catalogue.path(name) for name in self.collections()]) as paths:
            before()
            for source in self._catalogue.files(paths):
                target = folder / source.relative_to(self._catalogue.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                copy_file(source, target)

    def _bound(self, physical: str, filters: Filters) -> Node:
        return bound(filters, lambda: self.fields(physical))

    def _shape(self, physical: str) -> Shape:
        stored = self._catalogue.shape(self._catalogue.resolve(physical))
        if stored is None:
            raise CollectionMissing(f"collection {physical!r} was dropped a moment ago")
        return stored

    def _path(self, name: str) -> Path:
        return self._catalogue.path(self._catalogue.resolve(name))

    def _build(self, path: Path, shape: Shape) -> None:
        self._check_room(path, 0)
        enter_engine()
        with engine_errors(path):
            shard = EdgeShard.create(str(path), new_config(shape))
            index_fields(shard)
            shard.flush()
            shard.close()

    def _call(self, physical: str, call: Call[A, R], asked: A) -> R:
        return self._shards.call(self._path(physical), call, asked)

    def _change(self, physical: str, call: Call[A, R], asked: A, batch_bytes: int = 0) -> R:
        """A call that writes about `batch_bytes`. Raises NoSpace before the engine could fill the disk."""
        path = self._path(physical)
        self._check_room(path, batch_bytes)
        return self._shards.call(path, call, asked)

    def _check_room(self, path: Path, batch_bytes: int) -> None:
        with translating(path, StoreUnavailable):
            free, needed = shutil.disk_usage(path).free, self._reserve_bytes + batch_bytes
        if free < needed:
            raise NoSpace(
                f"{path} has {free >> 20} MB of free disk space and a write needs {needed >> 20} MB; free some space and try again"
            )

    def _scroll(self, physical: str, wanted: Chosen, payload: bool | list[str], vectors: list[str]) -> Iterator[Found]:
        path, offset = self._path(physical), None
        page_points = PAGE_POINTS if vectors or payload is True else META_PAGE_POINTS
        while True:
            found, offset = self._shards.call(path, edge_calls.PAGE, Page(wanted, offset, page_points, payload, vectors))
            yield from found
            if offset is None:
                return


def _new(point: Point, shape: Shape, language: str) -> NewPoint:
    document, embedded = point
    parts = tuple(convert.part_vectors(embedded)) if shape.parts else ()
    weights = document_weights(embedded.chunk.embed_text, language) if shape.sparse else None
    payload = convert.payload_of(document, embedded.chunk)
    return NewPoint(embedded.chunk.id, Embedding(embedded.vector, parts), weights if weights and weights.indices else None, payload)
