"""The metadata of documents on their way into the store: typed by the fields of their collection, which it adds new ones to."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.filters import Types
from pipeline.ledger import Ledger
from pipeline.ledger.claims import ClaimedDocument
from pipeline.metadata import Fitted, Given, fit, gathered, new_types
from pipeline.store.base import VectorStore


class Fields:
    """The fields of one collection; a field that is new gets the type of its first value, in the ledger and as an index."""

    def __init__(self, ledger: Ledger, store: VectorStore, physical: str) -> None:
        self._ledger = ledger
        self._store = store
        self._physical = physical
        self._types: Types | None = None  #: read when a document has metadata
        self._indexed: set[str] = set()

    def of(self, document: ClaimedDocument, properties: Mapping[str, str]) -> Fitted:
        """The metadata of a document whose parser found these properties; its fields are indexed when this returns."""
        given = Given.read(document.given)
        raw = gathered(properties, given)
        found = Fitted({})
        if raw:
            if self._types is None:
                self._types = self._ledger.fields.types(document.collection)
                self._indexed = set(self._store.fields(self._physical))
            if new := new_types(raw, self._types):
                self._types = self._ledger.fields.add(document.collection, new)
            found = fit(raw, self._types)
            if missing := {name: self._types[name] for name in found.values if name not in self._indexed}:
                self._store.add_fields(self._physical, missing)
                self._indexed |= missing.keys()
        return Fitted(found.values, (*(("", why) for why in given.wrong), *found.left_out))
