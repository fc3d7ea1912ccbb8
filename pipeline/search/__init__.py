"""From a query to hits: embed the query unless the mode is sparse, search the store, and refine what it found."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np

from pipeline.embed.base import QueryEmbedder, embed_fingerprint
from pipeline.errors import CollectionMismatch
from pipeline.filters import Filters
from pipeline.ledger import Ledger
from pipeline.search.places import Places
from pipeline.search.refine import candidates, capped, diverse, pool
from pipeline.search.rerank import Reranking
from pipeline.settings import Settings
from pipeline.store.base import VectorStore
from pipeline.store.names import open_physical, physical_name
from pipeline.types import PLAIN, Hit, Refinement, Results, SearchMode

log = logging.getLogger(__name__)

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
        places: Places | None = None,
    ) -> None:
        """`embedder` is one of the configured model, if it is loaded already; others are loaded on demand, by `load`.

        Searches of the store hold one of the `places`; rerankers, which may be elsewhere, do not.
        """
        self._settings = settings
        self._store = store
        self._load_model = load
        self._places = places
        self._loading = threading.Lock()
        self._checked: set[str] = set()  #: physical collections whose word weights were looked at
        self._embedders: dict[str, QueryEmbedder] = {}  #: by physical collection
        self._models: dict[tuple[str, str, str], QueryEmbedder] = {}  #: by model; several collections share one
        self._reranking = Reranking(settings)
        if embedder is not None:
            self._models[_model_of(settings)] = embedder

    def search(
        self, collection: str, query: str, limit: int, filters: Filters, mode: SearchMode, refinement: Refinement = PLAIN
    ) -> Results:
        """The best `limit` chunks for `query` by `mode`, each text once; mode sparse needs no model.

        Raises CollectionMissing; CollectionMismatch if it is unknown which model made the collection; ModelError, DeviceError
        or EmbedUnavailable if that model cannot be used; in mode sparse ConfigError if the collection has no BM25 weights.
        """
        physical = open_physical(self._store, collection)
        embedder = self.embedder(collection, physical) if mode != "sparse" else None
        if mode == "hybrid":
            self._warn_once(collection, physical)
        vector, text = _asked(embedder, query, mode)
        reranks = self._reranking.configured and refinement.rerank
        most = max(pool(refinement, limit), self._settings.rerank_candidates if reranks else 0)
        fetch = partial(self._fetch, physical, vector, filters, text)
        with self._places.taken() if self._places else nullcontext():
            hits, note = candidates(fetch, most, refinement.per_document), ""
        if reranks:
            hits, note = self._reranking.order(query, hits[:most])
        hits = [hit for hit in hits if refinement.min_score is None or hit.score >= refinement.min_score]
        hits = capped(hits, refinement.per_document)
        if refinement.diversity:
            hits = self._diverse(physical, hits[:most], limit, refinement.diversity)
        hits = self._with_neighbours(physical, hits[:limit], filters, refinement.neighbours)
        return Results(hits, reranked=reranks and not note, note=note)

    def _fetch(self, physical: str, vector: Sequence[float] | None, filters: Filters, text: str, number: int) -> list[Hit]:
        return self._store.search(physical, vector, number, filters, text)

    def _diverse(self, physical: str, hits: list[Hit], limit: int, diversity: float) -> list[Hit]:
        stored = self._store.vectors(physical, [hit.chunk_id for hit in hits])
        hits = [hit for hit in hits if hit.chunk_id in stored]  # others were deleted meanwhile
        vectors = np.array([stored[hit.chunk_id].vector for hit in hits], np.float32)
        return diverse(hits, vectors, limit, diversity)

    def _with_neighbours(self, physical: str, hits: list[Hit], filters: Filters, count: int) -> list[Hit]:
        """The hits with the texts of `count` chunks before and after each."""
        if not count:
            return hits
        wanted: dict[str, set[int]] = {}
        for hit in hits:
            wanted.setdefault(hit.document_id, set()).update(range(max(0, hit.ordinal - count), hit.ordinal + count + 1))
        known = {
            (document, chunk.ordinal): chunk.text
            for document, places in wanted.items()
            for chunk in self._store.document_chunks(physical, document, filters, sorted(places))
        }

        def texts(hit: Hit, places: range) -> tuple[str, ...]:
            return tuple(known[hit.document_id, place] for place in places if (hit.document_id, place) in known)

        return [
            replace(
                hit,
                before=texts(hit, range(hit.ordinal - count, hit.ordinal)),
                after=texts(hit, range(hit.ordinal + 1, hit.ordinal + count + 1)),
            )
            for hit in hits
        ]

    def _warn_once(self, collection: str, physical: str) -> None:
        """Warn that a hybrid search of an old collection is one by meaning alone."""
        if physical in self._checked:
            return
        self._checked.add(physical)
        if not self._store.has_sparse(physical):
            log.warning(
                "the collection %r has no word weights, or those of an older kb-ingest, and is searched by meaning alone: "
                "`kb-ingest reindex` makes new ones, without embedding anything again",
                collection,
            )

    def embedder(self, collection: str, physical: str) -> QueryEmbedder:
        """The embedder of the model that made a physical collection."""
        with self._loading:
            if physical not in self._embedders:
                self._embedders[physical] = self._load(self._made_with(collection, physical))
            return self._embedders[physical]

    def warm(self, query: str) -> None:
        """Load the configured reranker and model, and ask the model once, for a service; raises what loading a model raises."""
        self._reranking.warm()
        with self._loading:
            embedder = self._load(self._settings)
        embedder.embed_query(query)

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
                f"the collection {collection!r} was made with another model than {self._settings.model}, "
                "or with other KB_PART_TOKENS; set KB_MODEL and KB_PART_TOKENS to those that made it"
            )
        return settings

    def _recorded(self, physical: str) -> Settings | None:
        """The settings, overridden by those the ledger has recorded for the generation behind a physical collection."""
        with Ledger.open(self._settings.prepare().ledger_url) as ledger:
            found = next((one for one in ledger.collections.all() if one.physical == physical), None)
        return self._settings.of_collection(found.profile) if found else None

    def close(self) -> None:
        """Release the models."""
        self._reranking.close()
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
    vector, text = _asked(embedder, query, mode)
    return store.search(physical, vector, limit, filters, text)


def _asked(embedder: QueryEmbedder | None, query: str, mode: SearchMode) -> tuple[list[float] | None, str]:
    """What the store is asked: the question's vector, and its text. Raises ValueError if `mode` needs an embedder."""
    if mode == "sparse":
        return None, query
    if embedder is None:
        raise ValueError(f"a search of mode {mode} needs an embedder")
    return embedder.embed_query(query).tolist(), query if mode == "hybrid" else ""


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
