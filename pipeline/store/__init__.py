"""The vector store: one protocol, served by Qdrant Edge in the data folder or by a Qdrant server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.settings import Settings
from pipeline.types import DocumentInfo, EmbeddedChunk, Hit, PointMeta

#: How a process uses the embedded store: the embed worker owns it and keeps it open, everybody else visits.
Role = Literal["owner", "reader"]


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """What a scan tells about one point."""

    id: str  #: uuid, the id of its chunk
    document_id: str  #: uuid; empty where the point carries none
    vector: list[float] | None  #: None unless it was asked for


class VectorStore(Protocol):
    """Points of physical collections, and aliases over them.

    `physical` may also be an alias everywhere but in `create` and `drop`. Every method raises StoreUnavailable or
    StoreLocked where a retry may help, and CollectionMissing for a name that is neither collection nor alias.
    """

    def create(self, physical: str, dimension: int) -> None:
        """Make the collection with its payload indexes and room for weights of words; do nothing where it is there already.

        Raises CollectionMismatch where it exists with another dimension, ConfigError for a name that cannot be used.
        """

    def collections(self) -> list[str]:
        """Names of the physical collections, sorted."""

    def drop(self, physical: str) -> None:
        """Remove the collection with its points and aliases; do nothing where it is not there."""

    def aliases(self) -> dict[str, str]:
        """Alias -> physical collection."""

    def set_alias(self, alias: str, physical: str) -> None:
        """Point `alias` at `physical` in one step: a search meets the old collection or the new one, never none."""

    def upsert(self, physical: str, points: Sequence[tuple[DocumentInfo, EmbeddedChunk]]) -> None:
        """Write points under the ids of their chunks; return when they can be searched and survive kill -9.

        The weights of the words are made here from each chunk's `embed_text`, where the collection has room for them.

        All vectors are checked before the first write: ValueError for a wrong dimension, NaN, infinity or zero length.
        """

    def document_points(self, physical: str, document_ids: Sequence[str]) -> dict[str, dict[str, PointMeta]]:
        """Document id -> point id -> meta, without texts and vectors; documents without points map to an empty dict."""

    def update_meta(self, physical: str, metas: Mapping[str, PointMeta]) -> None:
        """Write new meta to points by id; vectors and texts stay. Ids that are not stored are left out."""

    def update_document(self, physical: str, document: DocumentInfo) -> None:
        """Write uri, title, folder, media type and content hash to all points of the document."""

    def delete_points(self, physical: str, ids: Sequence[str]) -> None:
        """Delete points by id; ids that are not stored are left out."""

    def delete_documents(self, physical: str, document_ids: Sequence[str]) -> None:
        """Delete all points of these documents."""

    def vectors(self, physical: str, ids: Sequence[str]) -> dict[str, list[float]]:
        """Point id -> vector; ids that are not stored are left out."""

    def count(self, physical: str, document_id: str | None = None) -> int:
        """Exact number of points, of one document where it is given."""

    def search(
        self, physical: str, vector: Sequence[float] | None, limit: int, filters: Mapping[str, str], text: str = ""
    ) -> list[Hit]:
        """The best `limit` points for a question, best first, that match every filter.

        With `vector` alone the nearest by cosine (dense), with `text` alone those that share words with it, by BM25
        (sparse), with both the two lists fused by rank, RRF (hybrid); the scores of hits are these. Where the collection
        was made without weights of words, or `text` holds no word, both are as `vector` alone.

        A filter compares a payload field with a whole value; `uri` and `folder` also take a beginning as `file:///a/*`.
        Raises CollectionMismatch for a vector of another dimension, ConfigError for a field that cannot be filtered, and
        for `text` alone where the collection has no weights of words.
        """

    def scan(self, physical: str, *, with_vectors: bool = False) -> Iterator[StoredPoint]:
        """All points in the order of their ids, page by page. Points written meanwhile may be missed."""

    def scan_points(self, physical: str) -> Iterator[tuple[DocumentInfo, EmbeddedChunk]]:
        """All points as they can be upserted elsewhere; `token_count` is not stored and comes back as 0."""

    def dimension(self, physical: str) -> int:
        """Numbers of a vector in this collection."""

    def has_sparse(self, physical: str) -> bool:
        """Whether the points carry weights of their words, so that `search` can compare words too."""

    def graph_links(self, physical: str) -> int | None:
        """Links of a node in the HNSW graph, `m`; 0 while none is built, None where the store builds none by itself."""

    def set_graph_links(self, physical: str, links: int) -> None:
        """Have the graph built with so many links a node, in the background; 0 puts it off. Searches stay exact without it."""

    def flush(self, physical: str) -> None:
        """Put all changes of the collection on disk, where the store leaves that to the caller."""

    def yield_turn(self) -> None:
        """Let a process that waits for the store have it; call it between batches. Servers have nothing to yield."""

    def close(self) -> None:
        """Give up connections, files and locks; may be called twice."""


def open_store(settings: Settings, *, role: Role = "reader") -> VectorStore:
    """The store that the settings name: a server where KB_QDRANT_URL is set, else the one in the data folder.

    Nothing is opened or contacted yet. Raises ConfigError for a server off this host without an API key.
    """
    if settings.embedded_store:
        from pipeline.store.edge import EdgeStore

        return EdgeStore(
            settings.data_dir / "qdrant",
            role=role,
            batch_points=settings.upsert_batch_points,
            batch_bytes=settings.upsert_batch_bytes,
        )
    from pipeline.store.server import ServerStore

    return ServerStore(
        settings.qdrant_url,
        settings.api_key.get_secret_value(),
        allow_insecure=settings.allow_insecure,
        timeout_s=settings.request_timeout_s,
        retry_s=settings.retry_s,
        batch_points=settings.upsert_batch_points,
        batch_bytes=settings.upsert_batch_bytes,
        shards=settings.qdrant_shards,
        replicas=settings.qdrant_replicas,
        write_consistency=settings.qdrant_write_consistency,
    )
