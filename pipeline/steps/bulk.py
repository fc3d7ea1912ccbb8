"""The HNSW graphs of collections: deferred during a large first load on a server, begun after a load of the embedded store."""

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

    def __init__(self, ledger: Ledger, store: VectorStore, least_documents: int, least_points: int) -> None:
        """`least_documents`: of a load that defers; `least_points`: without a graph in the embedded store. 0: never."""
        self._ledger = ledger
        self._store = store
        self._least = least_documents
        self._least_points = least_points
        self._written: dict[str, str] = {}  #: names and physical names of collections whose graph may be due
        self._decided: set[str] = set()

    def begin(self, collection: Collection) -> None:
        """Defer the graph if this is the beginning of a large load; call it before writing to the collection."""
        physical = collection.physical
        self._written[collection.name] = physical
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
        """Build the graphs of collections that have no open documents left."""
        for collection, physical, links in self._ledger.collections.postponed():
            if not self._ledger.intake.open_documents(collection, 1):
                if physical in self._store.collections():
                    self._store.set_graph_links(physical, links)
                    log.info("the graph of %s is being built", physical)
                self._ledger.collections.not_put_off(physical)
                self._decided.discard(physical)
        for collection, physical in list(self._written.items()):
            if not self._ledger.intake.open_documents(collection, 1):
                del self._written[collection]
                if physical in self._store.collections():
                    self._store.build_graph(physical, self._least_points)
