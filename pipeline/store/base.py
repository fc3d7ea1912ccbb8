"""The protocol of a vector store, and the types that pass through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.filters import Filters, Types
from pipeline.types import Chunk, DocumentInfo, EmbeddedChunk, Embedding, Hit, PointMeta

#: How a process uses the embedded store: owners keep collections open and answer others, readers ask or open them briefly.
Role = Literal["owner", "reader"]


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """One point as a scan returns it."""

    id: str  #: uuid, the id of its chunk
    document_id: str  #: uuid; empty if the point has none
    vector: list[float] | None  #: None unless requested


class VectorStore(Protocol):
    """Points of physical collections, and aliases over them.

    `physical` may also be an alias, except in `create` and `drop`. Every method raises StoreUnavailable or StoreLocked if a
    retry may help, and CollectionMissing for a name that is neither a collection nor an alias.
    """

    def create(self, physical: str, dimension: int, *, parts: bool = False) -> None:
        """Create the collection with its payload indexes and a sparse vector; do nothing if it exists already.

        `parts`: chunks have vectors of their parts too, and a dense search compares these; a chunk scores as its best part.
        Raises CollectionMismatch if it exists with another dimension, ConfigError for an invalid name.
        """

    def collections(self) -> list[str]:
        """Names of the physical collections, sorted."""

    def drop(self, physical: str) -> None:
        """Remove the collection with its points and aliases; do nothing if it does not exist."""

    def aliases(self) -> dict[str, str]:
        """Alias -> physical collection."""

    def set_alias(self, alias: str, physical: str) -> None:
        """Point `alias` at `physical` atomically: a search sees the old collection or the new one, never none."""

    def upsert(self, physical: str, points: Sequence[tuple[DocumentInfo, EmbeddedChunk]]) -> None:
        """Write points under the ids of their chunks; return once they are searchable and survive kill -9.

        If the collection has a sparse vector, BM25 weights are computed here from each chunk's `embed_text`.

        All vectors are checked before the first write. Raises ValueError for a wrong dimension, NaN, infinity or zero length.
        """

    def document_points(self, physical: str, document_ids: Sequence[str]) -> dict[str, dict[str, PointMeta]]:
        """Document id -> point id -> meta, without texts and vectors; a document without points maps to an empty dict."""

    def update_meta(self, physical: str, metas: Mapping[str, PointMeta]) -> None:
        """Write new meta to points by id; vectors and texts stay. Ids that are not stored are ignored."""

    def update_document(self, physical: str, document: DocumentInfo) -> None:
        """Write uri, title, folder, media type and content hash to all points of the document."""

    def delete_points(self, physical: str, ids: Sequence[str]) -> None:
        """Delete points by id; ids that are not stored are ignored."""

    def delete_documents(self, physical: str, document_ids: Sequence[str]) -> None:
        """Delete all points of these documents."""

    def vectors(self, physical: str, ids: Sequence[str]) -> dict[str, Embedding]:
        """Point id -> its vectors; ids that are not stored are left out."""

    def count(self, physical: str, document_id: str | None = None, filters: Filters = ()) -> int:
        """Exact number of points that match every filter, of one document if it is given."""

    def document_chunks(
        self, physical: str, document_id: str, filters: Filters = (), ordinals: Sequence[int] | None = None
    ) -> list[Chunk]:
        """The stored chunks of a document that match every filter, in order; only those at `ordinals` if they are given.

        `token_count` is not stored and comes back as 0.
        """

    def search(self, physical: str, vector: Sequence[float] | None, limit: int, filters: Filters, text: str = "") -> list[Hit]:
        """The best `limit` points for a query that match every filter, best first.

        `vector` alone ranks by cosine (dense), of its best part in a collection with parts. `text` alone ranks by BM25 over shared
        words (sparse). Both together are fused by score (hybrid; `pipeline.store.fusion`). The scores of hits are those of the
        ranking used. If the collection has no BM25 weights, or `text` holds no word, a hybrid search is a dense one.

        Raises CollectionMismatch for a vector of another dimension, FilterError for a filter that cannot be read or names a field
        that the collection does not have, and ConfigError for `text` alone if the collection has no BM25 weights.
        """

    def scan(self, physical: str, *, with_vectors: bool = False) -> Iterator[StoredPoint]:
        """All points in id order, page by page. Points written during the scan may be missed."""

    def scan_points(self, physical: str) -> Iterator[tuple[DocumentInfo, EmbeddedChunk]]:
        """All points, ready to be upserted elsewhere; `token_count` is not stored and comes back as 0."""

    def dimension(self, physical: str) -> int:
        """Length of this collection's vectors."""

    def fields(self, physical: str) -> Types:
        """The fields of metadata that points can be filtered by; their own fields are left out."""

    def add_fields(self, physical: str, types: Types) -> None:
        """Index fields of metadata by their types; those that are indexed stay as they are."""

    def has_parts(self, physical: str) -> bool:
        """Whether the points carry vectors of parts."""

    def has_sparse(self, physical: str) -> bool:
        """Whether the points carry BM25 weights, which sparse and hybrid searches need."""

    def graph_links(self, physical: str) -> int | None:
        """Links per node of the HNSW graph, `m`; 0 while no graph is built, None if the store does not build one by itself."""

    def set_graph_links(self, physical: str, links: int) -> None:
        """Build the graph in the background with `links` links per node; 0 defers it. Searches without a graph stay exact."""

    def build_graph(self, physical: str, least: int, *, thorough: bool = False) -> bool:
        """Begin to build the graph in the background if at least `least` points lack one; whether it was begun.

        No graph if `least` is 0. Likewise disk space is given back, once it is considerable: that of deleted points and, if
        `thorough`, that of a log of operations. Nothing is begun if the store does both by itself.
        """

    def flush(self, physical: str) -> None:
        """Write all changes of the collection to disk, if the store leaves that to the caller."""

    def yield_turn(self) -> None:
        """Give the store to a waiting process; call it between batches. Servers have nothing to yield."""

    def close(self) -> None:
        """Release connections, files and locks; may be called twice."""
