"""A query to hits: embed the question where its meaning counts, ask the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.embed import Embedder, embed_fingerprint
from pipeline.errors import CollectionMismatch, CollectionMissing
from pipeline.settings import Settings
from pipeline.store import VectorStore
from pipeline.types import Hit, SearchMode

#: Chunks that are asked for to have one document more: several of the best are of the same.
CHUNKS_A_DOCUMENT = 10


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
    settings: Settings, store: VectorStore, embedder: Embedder | None, collection: str, query: str, limit: int,
    filters: Mapping[str, str], mode: SearchMode = "dense",
) -> list[Hit]:  # fmt: skip
    """The best `limit` chunks for `query` in the sense of `mode`, the best first; mode sparse needs no embedder.

    Raises CollectionMissing, and CollectionMismatch when the collection was made with another model than the embedder's:
    its answers would be noise. In mode sparse ConfigError where the collection has no weights of words.
    """
    physical = open_physical(store, collection)
    if mode != "sparse" and embedder is not None:
        check_model(settings, embedder, collection, physical)
    return ask(store, physical, embedder, query, limit, filters, mode)


def check_model(settings: Settings, embedder: Embedder, collection: str, physical: str) -> None:
    """Raise CollectionMismatch unless the embedder's model made the collection."""
    wanted = physical_name(collection, embed_fingerprint(settings, embedder.info.dimension))
    if physical.rpartition("-")[2] != wanted.rpartition("-")[2]:
        raise CollectionMismatch(
            f"the collection {collection!r} was made with another model than {embedder.info.model}; "
            "set KB_MODEL to the one that made it"
        )


def ask(
    store: VectorStore, physical: str, embedder: Embedder | None, query: str, limit: int, filters: Mapping[str, str],
    mode: SearchMode,
) -> list[Hit]:  # fmt: skip
    """`search` of a physical collection, without a look at what made it. Raises ValueError where `mode` lacks an embedder."""
    if mode == "sparse":
        return store.search(physical, None, limit, filters, query)
    if embedder is None:
        raise ValueError(f"a search of mode {mode} needs an embedder")
    vector = embedder.embed_query(query).tolist()
    return store.search(physical, vector, limit, filters, query if mode == "hybrid" else "")


def document_ranking(
    store: VectorStore, physical: str, embedder: Embedder | None, mode: SearchMode, documents: int
) -> Callable[[str], list[str]]:
    """A function from a question to the uris of about `documents` documents, best first, each once; for `pipeline.evaluate`.

    A document stands at the rank of its best chunk. Fewer come where a few documents have most of the chunks that match.
    """

    def ranked(query: str) -> list[str]:
        hits = ask(store, physical, embedder, query, documents * CHUNKS_A_DOCUMENT, {}, mode)
        return list(dict.fromkeys(hit.uri for hit in hits))

    return ranked
