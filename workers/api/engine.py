"""What all requests of a service share: ledger, store, models, and the checks of its readiness."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
from anyio import CapacityLimiter

from pipeline.errors import KbError
from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.ledger.tokens import Grant
from pipeline.model.device import usable_cores
from pipeline.search import Searcher
from pipeline.search.places import Places
from pipeline.search.together import EmbedTogether
from pipeline.settings import Settings
from pipeline.staging import Staging, open_staging
from pipeline.store import open_store
from pipeline.store.choice import chosen, missing
from pipeline.types import Stage
from workers.api.beside import make
from workers.api.limits import Meters
from workers.broker.app import make_app
from workers.broker.queues import Broker
from workers.jobs.keep import Keeper
from workers.monitoring.exporter import Reading
from workers.process.forking import Companion

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Threads per request that may be worked on: a request that was given up keeps its thread until its call returns.
THREADS_A_PLACE = 2

#: Seconds that a check of readiness waits for each part.
READY_S = 3.0

#: The question that warms the model.
WARM_UP = "warm up"


class Engine:
    """Everything that is opened once for all requests."""

    def __init__(self, settings: Settings, model: Companion | None = None) -> None:
        """`model` is the process that embeds questions; without one, this process does."""
        self.settings = settings.prepare()
        self._model = model
        self.meters = Meters()
        self.ledger = Ledger.open(settings.ledger_url)
        self.staging: Staging = open_staging(settings.staging_location)
        self.store = open_store(settings, role="owner")
        # A server searches elsewhere, and threads that wait for it take nothing from each other.
        places = Places(max(1, usable_cores() // 2)) if settings.embedded_store else None
        self.searcher = Searcher(settings, self.store, load=self._load_model, places=places)
        self.keeper = Keeper(settings, self.ledger, self.store)
        self._limiter: CapacityLimiter | None = None
        self._broker = Broker(make_app(settings))
        self._model_state = "is being loaded"
        self._parts: dict[str, Reading[Any]] = {
            "ledger": Reading("the ledger", self.ledger.tokens.any),
            "store": Reading("the store", self.store.aliases),
            "broker": Reading("the broker", lambda: self._broker.depth(Stage.PARSE)),
        }

    def warm(self) -> None:
        """Load the configured model and ask it once, so that the first question does not wait; for a thread of its own."""
        try:
            self.searcher.warm(WARM_UP)
        except KbError as error:
            # The service stays: searches by words need no model, and those by meaning say what is wrong.
            log.error("%s", error)
            self._model_state = "cannot be loaded, see the log"
        else:
            self._model_state = "ok"
            log.info("the model is ready")

    def _load_model(self, settings: Settings) -> EmbedTogether:
        embedder = make(settings, self._model.socket.fileno() if self._model else None)
        return EmbedTogether(embedder, lambda texts: self.meters.together.observe(texts))

    async def run(self, call: Callable[[], T]) -> T:
        """The result of a call that blocks, in a thread. A caller that is given up leaves the thread to end by itself."""
        if self._limiter is None:  # belongs to the event loop, which did not run before
            self._limiter = CapacityLimiter(THREADS_A_PLACE * self.settings.serve_requests)
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)

    def readiness(self) -> dict[str, str]:
        """Each part, and `ok` or what is wrong with it."""
        begun = {name: part.begin() for name, part in self._parts.items()}
        until = time.monotonic() + READY_S
        found = {
            name: "ok" if part.get(begun[name], until) is not None else "does not answer" for name, part in self._parts.items()
        }
        return found | {"model": self._model_state}

    def collections(self, grant: Grant) -> dict[str, Collection]:
        """The live generations of all collections that exist for the caller, by public name."""
        live = self.ledger.kept.get("live", self.ledger.collections.live_ones)
        return {one.public: one for one in live if grant.sees(one.public)}

    def collection(self, grant: Grant, name: str | None) -> Collection:
        """The live generation of a collection that exists for the caller; unnamed, the default or the only one.

        Raises CollectionMissing, which names no collection that the caller does not see.
        """
        live = self.collections(grant)
        if name is None:
            name = chosen(self.settings, live).collection
        if name not in live:
            raise missing(name, live)
        return live[name]

    def close(self) -> None:
        """Release everything."""
        self.keeper.close()
        self.searcher.close()
        self.store.close()
        self.ledger.close()
