"""A large first load builds its collection's graph once, at the end, and not again and again on the way."""

from __future__ import annotations

import logging

from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.store import VectorStore

log = logging.getLogger(__name__)

#: A collection with more points than this is no longer at its beginning: its graph may be there already.
FIRST_POINTS = 5000


class Bulk:
    """Puts a collection's HNSW graph off while many documents wait for it, and has it built when none does.

    What was put off stands in the ledger before it is, so that any embed worker that starts, or finishes a batch, can set it
    right after a crash.
    """

    def __init__(self, ledger: Ledger, store: VectorStore, least_documents: int) -> None:
        self._ledger = ledger
        self._store = store
        self._least = least_documents  #: 0: never put off
        self._decided: set[str] = set()

    def begin(self, collection: Collection) -> None:
        """Put the graph off if this is the beginning of a large load; call it before writing to the collection."""
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
            log.info("the graph of %s is built when its documents are loaded", physical)

    def settle(self) -> None:
        """Have the graphs built that were put off and whose collections have no open document any more."""
        for collection, physical, links in self._ledger.collections.postponed():
            if not self._ledger.intake.open_documents(collection, 1):
                if physical in self._store.collections():
                    self._store.set_graph_links(physical, links)
                    log.info("the graph of %s is being built", physical)
                self._ledger.collections.not_put_off(physical)
                self._decided.discard(physical)
