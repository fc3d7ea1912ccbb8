"""From a query to hits: embed the query unless the mode is sparse, then search the store."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pipeline.embed.base import QueryEmbedder, embed_fingerprint
from pipeline.errors import CollectionMismatch
from pipeline.filters import Filters
from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.store.base import VectorStore
from pipeline.store.names import open_physical, physical_name
from pipeline.types import Hit, SearchMode

#: Chunks to request per wanted document, because several of the best chunks may belong to one document.
CHUNKS_A_DOCUMENT = 10


class Searcher:
    """Searches collections, each with the model that made it; for any number of threads if `load` makes embedders that are.

    Every search resolves the collection's name again and then queries that physical collection. So a re-index that swaps the
    collection meanwhile never makes a query of one model meet the points of another.
    """

    def __init__(
        self,
        settings: Settings,
        store: VectorStore,
        embedder: QueryEmbedder | None = None,
        load: Callable[[Settings], QueryEmbedder] | None = None,
    ) -> None:
        """`embedder` is one of the configured model, if it is loaded already; others are loaded on demand, by `load`."""
        self._settings = settings
        self._store = store
        self._load_model = load
        self._loading = threading.Lock()
        self._embedders: dict[str, QueryEmbedder] = {}  #: by physical collection
        self._models: dict[tuple[str, str, str], QueryEmbedder] = {}  #: by model; several collections share one
        if embedder is not None:
            self._models[_model_of(settings)] = embedder

    def search(self, collection: str, query: str, limit: int, filters: Filters, mode: SearchMode) -> list[Hit]:
        """The best `limit` chunks for `query` by `mode`, best first; mode sparse needs no model.

        Raises CollectionMissing; CollectionMismatch if it is unknown which model made the collection; ModelError, DeviceError
        or EmbedUnavailable if that model cannot be used; in mode sparse ConfigError if the collection has no BM25 weights.
        """
        physical = open_physical(self._store, collection)
        embedder = self.embedder(collection, physical) if mode != "sparse" else None
        return search_physical(self._store, physical, embedder, query, limit, filters, mode)

    def embedder(self, collection: str, physical: str) -> QueryEmbedder:
        """The embedder of the model that made a physical collection."""
        with self._loading:
            if physical not in self._embedders:
                self._embedders[physical] = self._load(self._made_with(collection, physical))
            return self._embedders[physical]

    def configured(self) -> QueryEmbedder:
        """The embedder of the configured model, for a service that loads it before the first question."""
        with self._loading:
            return self._load(self._settings)

    def _load(self, settings: Settings) -> QueryEmbedder:
        from pipeline.embed import make_query_embedder

        key = _model_of(settings)
        if key not in self._models:
            self._models[key] = (self._load_model or make_query_embedder)(settings)
        return self._models[key]

    def _made_with(self, collection: str, physical: str) -> Settings:
        """The settings with the model that made a physical collection; raises CollectionMismatch if it is unknown."""
        dimension = self._store.dimension(physical)
        if made_by(physical, self._settings, dimension):
            return self._settings
        settings = self._recorded(physical)
        if settings is None or not made_by(physical, settings, dimension):
            raise CollectionMismatch(
                f"the collection {collection!r} was made with another model than {self._settings.model}; "
                "set KB_MODEL to the one that made it"
            )
        return settings

    def _recorded(self, physical: str) -> Settings | None:
        """The settings, overridden by those the ledger has recorded for the generation behind a physical collection."""
        with Ledger.open(self._settings.prepare().ledger_url) as ledger:
            found = next((one for one in ledger.collections.all() if one.physical == physical), None)
        return self._settings.of_collection(found.profile) if found else None

    def close(self) -> None:
        """Release the models."""
        for embedder in self._models.values():
            embedder.close()


def _model_of(settings: Settings) -> tuple[str, str, str]:
    """What an embedder depends on."""
    return settings.model, settings.model_revision, settings.embed_model


def made_by(physical: str, settings: Settings, dimension: int) -> bool:
    """Whether the model of these settings made a physical collection; its name ends in the embed fingerprint."""
    wanted = physical_name("", embed_fingerprint(settings, dimension))
    return physical.rpartition("-")[2] == wanted.rpartition("-")[2]


def search_physical(
    store: VectorStore, physical: str, embedder: QueryEmbedder | None, query: str, limit: int, filters: Filters,
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
    store: VectorStore, physical: str, embedder: QueryEmbedder | None, mode: SearchMode, documents: int
) -> Callable[[str], list[str]]:
    """A function from a query to the uris of about `documents` documents, best first, each once; for `pipeline.search.evaluate`.

    A document takes the rank of its best chunk. The list is shorter if a few documents have most of the matching chunks.
    """

    def ranked(query: str) -> list[str]:
        hits = search_physical(store, physical, embedder, query, documents * CHUNKS_A_DOCUMENT, {}, mode)
        return list(dict.fromkeys(hit.uri for hit in hits))

    return ranked
