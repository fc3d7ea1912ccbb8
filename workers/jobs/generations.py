"""The generations of a collection that exist already: which one searches use, and which ones are dropped."""

from __future__ import annotations

from pipeline.errors import ConfigError, StoreUnavailable
from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.ledger.schema import BUILDING, SUPERSEDED
from pipeline.settings import Settings
from pipeline.store import open_store
from pipeline.store.base import VectorStore
from pipeline.store.choice import missing


def roll_back(settings: Settings, public: str) -> tuple[Collection, bool]:
    """Swap back the generation that was replaced last; return it, and whether an interrupted swap was completed.

    A swap that was interrupted between ledger and store is completed instead. Raises CollectionMissing, and ConfigError if
    there is no earlier generation.
    """
    ledger, store = Ledger.open(settings.prepare().ledger_url), open_store(settings, role="reader")
    try:
        live = ledger.collections.live(public)
        if live is None:
            raise missing(public, ledger.collections.names())
        if store.aliases().get(public) != live.physical:
            set_alias(store, public, live.physical)
            return live, True
        exchanged = ledger.collections.roll_back(public)
        if exchanged is None:
            raise ConfigError(f"{public!r} has no earlier generation; `kb-ingest reindex` keeps one until `collections prune`")
        set_alias(store, public, exchanged[1].physical)
        return exchanged[1], False
    finally:
        store.close()
        ledger.close()


def prune(settings: Settings, public: str, *, refused: bool = False, keep: int = 0) -> list[str]:
    """Drop replaced generations of a collection or, with `refused`, those that never went live; return their names.

    `keep` is the number of latest ones to keep.

    Raises StoreUnavailable if searches still use one of them.
    """
    ledger, store = Ledger.open(settings.prepare().ledger_url), open_store(settings, role="reader")
    try:
        state, gone = BUILDING if refused else SUPERSEDED, []
        found = [one for one in ledger.collections.of(public) if one.state == state]
        for one in sorted(found, key=lambda one: one.swapped_at or 0.0)[: len(found) - keep]:
            if one.physical in store.aliases().values():
                raise StoreUnavailable(
                    f"searches still use {one.name}: complete the swap with `kb-ingest rollback`, then prune again"
                )
            # First from the ledger: a reindex that builds it notices before it writes again, and a rollback finds it gone.
            if ledger.collections.drop(one.name, state):
                store.drop(one.physical)
                ledger.collections.dropped(one.physical)
                gone.append(one.name)
        return gone
    finally:
        store.close()
        ledger.close()


def set_alias(store: VectorStore, public: str, physical: str) -> None:
    """Point a collection's alias to a physical collection, atomically for searches."""
    if store.aliases().get(public) != physical:
        store.set_alias(public, physical)
