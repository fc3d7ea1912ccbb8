"""Defers the HNSW graph of a large first load, so that it is built once at the end and not repeatedly during the load."""

from __future__ import annotations

import logging

from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.store.base import VectorStore

log = logging.getLogger(__name__)

#: A collection with more points than this is past its first load: its graph may exist already.
FIRST_POINTS = 5000


class Bulk:
    """Defers a collection's HNSW graph while many documents wait for it, and builds it when none does.

    The ledger records the deferral before it takes effect. So after a crash, any embed worker that starts or finishes a batch
    can complete it.
    """

    def __init__(self, ledger: Ledger, store: VectorStore, least_documents: int) -> None:
        self._ledger = ledger
        self._store = store
        self._least = least_documents  #: 0: never defer
        self._decided: set[str] = set()

    def begin(self, collection: Collection) -> None:
        """Defer the graph if this is the beginning of a large load; call it before writing to the collection."""
        physical = collection.physical
        if not self._least or physical in self._decided:
            return
        links = self._store.graph_links(physical)
        if not links or self._store.count(physical) > FIRST_POINTS:
            self._decided.add(physical)
        elif self._ledger.intake.open_documents(collection.name, self._least) >= self._least:
            self._ledger.collections.put_off(collection, links)
            self._store.set_graph_links(physical, 0)
            self._decided.add(physical)
            log.info("the graph of %s will be built once its documents are loaded", physical)

    def settle(self) -> None:
        """Build the deferred graphs of collections that have no open documents left."""
        for collection, physical, links in self._ledger.collections.postponed():
            if not self._ledger.intake.open_documents(collection, 1):
                if physical in self._store.collections():
                    self._store.set_graph_links(physical, links)
                    log.info("the graph of %s is being built", physical)
                self._ledger.collections.not_put_off(physical)
                self._decided.discard(physical)
