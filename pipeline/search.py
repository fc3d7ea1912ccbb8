"""A query to hits: embed the question, ask the store."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.embed import Embedder, embed_fingerprint
from pipeline.errors import CollectionMismatch, CollectionMissing
from pipeline.settings import Settings
from pipeline.store import VectorStore
from pipeline.types import Hit


def physical_name(collection: str, fingerprint: str) -> str:
    """The store's own name of a collection: one for each embed fingerprint, the public name is an alias of it."""
    return f"{collection}-{fingerprint[:8]}"


def open_physical(store: VectorStore, collection: str) -> str:
    """The physical collection behind a name; raises CollectionMissing."""
    found = store.aliases().get(collection)
    if found is None:
        raise CollectionMissing(f"there is no collection {collection!r}; load something into it, or see `kb-ingest collections`")
    return found


def search(
    settings: Settings, store: VectorStore, embedder: Embedder, collection: str, query: str, limit: int,
    filters: Mapping[str, str],
) -> list[Hit]:  # fmt: skip
    """The `limit` chunks nearest to `query`, the best first.

    Raises CollectionMissing, and CollectionMismatch when the collection was made with another model than the embedder's:
    its answers would be noise.
    """
    physical = open_physical(store, collection)
    wanted = physical_name(collection, embed_fingerprint(settings, embedder.info.dimension))
    if physical.rpartition("-")[2] != wanted.rpartition("-")[2]:
        raise CollectionMismatch(
            f"the collection {collection!r} was made with another model than {embedder.info.model}; "
            "set KB_MODEL to the one that made it"
        )
    return store.search(physical, embedder.embed_query(query).tolist(), limit, filters)
