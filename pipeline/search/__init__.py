"""From a query to hits: embed the query unless the mode is sparse, then search the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.embed.base import Embedder, embed_fingerprint
from pipeline.errors import CollectionMismatch
from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.store.base import VectorStore
from pipeline.store.names import open_physical, physical_name
from pipeline.types import Hit, SearchMode

#: Chunks to request per wanted document, because several of the best chunks may belong to one document.
CHUNKS_A_DOCUMENT = 10


class Searcher:
    """Searches collections, each with the model that made it; not for several threads at once.

    Every search resolves the collection's name again and then queries that physical collection. So a re-index that swaps the
    collection meanwhile never makes a query of one model meet the points of another.
    """

    def __init__(self, settings: Settings, store: VectorStore, embedder: Embedder | None = None) -> None:
        """`embedder` is one of the configured model, if it is loaded already; others are loaded on demand."""
        self._settings = settings
        self._store = store
        self._embedders: dict[str, Embedder] = {}
        self._given = embedder

    def search(self, collection: str, query: str, limit: int, filters: Mapping[str, str], mode: SearchMode) -> list[Hit]:
        """The best `limit` chunks for `query` by `mode`, best first; mode sparse needs no model.

        Raises CollectionMissing; CollectionMismatch if it is unknown which model made the collection; ModelError, DeviceError
        or EmbedUnavailable if that model cannot be used; in mode sparse ConfigError if the collection has no BM25 weights.
        """
        physical = open_physical(self._store, collection)
        embedder = self.embedder(collection, physical) if mode != "sparse" else None
        return search_physical(self._store, physical, embedder, query, limit, filters, mode)

    def embedder(self, collection: str, physical: str) -> Embedder:
        """The embedder of the model that made a physical collection."""
        if physical not in self._embedders:
            self._embedders[physical] = self._load(collection, physical)
        return self._embedders[physical]

    def _load(self, collection: str, physical: str) -> Embedder:
        from pipeline.embed import make_embedder

        dimension = self._store.dimension(physical)
        if made_by(physical, self._settings, dimension):
            return self._given or make_embedder(self._settings, device=self._settings.device, measured=False)
        settings = self._recorded(physical)
        if settings is None or not made_by(physical, settings, dimension):
            raise CollectionMismatch(
                f"the collection {collection!r} was made with another model than {self._settings.model}; "
                "set KB_MODEL to the one that made it"
            )
        return make_embedder(settings, device=settings.device, measured=False)

    def _recorded(self, physical: str) -> Settings | None:
        """The settings, overridden by those the ledger has recorded for the generation behind a physical collection."""
        with Ledger.open(self._settings.prepare().ledger_url) as ledger:
            found = next((one for one in ledger.collections.all() if one.physical == physical), None)
        return self._settings.of_collection(found.profile) if found else None

    def close(self) -> None:
        """Release the models."""
        for embedder in self._embedders.values():
            embedder.close()


def made_by(physical: str, settings: Settings, dimension: int) -> bool:
    """Whether the model of these settings made a physical collection; its name ends in the embed fingerprint."""
    wanted = physical_name("", embed_fingerprint(settings, dimension))
    return physical.rpartition("-")[2] == wanted.rpartition("-")[2]


def search_physical(
    store: VectorStore, physical: str, embedder: Embedder | None, query: str, limit: int, filters: Mapping[str, str],
    mode: SearchMode,
) -> list[Hit]:  # fmt: skip
    """Search a physical collection without checking which model made it. Raises ValueError if `mode` needs an embedder."""
    if mode == "sparse":
        return store.search(physical, None, limit, filters, query)
    if embedder is None:
        raise ValueError(f"a search of mode {mode} needs an embedder")
    vector = embedder.embed_query(query).tolist()
    return store.search(physical, vector, limit, filters, query if mode == "hybrid" else "")


def document_ranking(
    store: VectorStore, physical: str, embedder: Embedder | None, mode: SearchMode, documents: int
) -> Callable[[str], list[str]]:
    """A function from a query to the uris of about `documents` documents, best first, each once; for `pipeline.search.evaluate`.

    A document takes the rank of its best chunk. The list is shorter if a few documents have most of the matching chunks.
    """

    def ranked(query: str) -> list[str]:
        hits = search_physical(store, physical, embedder, query, documents * CHUNKS_A_DOCUMENT, {}, mode)
        return list(dict.fromkeys(hit.uri for hit in hits))

    return ranked
