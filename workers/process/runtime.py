"""What a worker process holds while it lives: the ledger, the staging area, and its parser or its model and store."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import psutil

from pipeline.errors import CollectionMismatch, KbError, LeaseLost, ModelError, PermanentError, TransientError
from pipeline.ledger import Ledger
from pipeline.ledger.claims import Claim
from pipeline.ledger.flow import Batch
from pipeline.ledger.generations import Collection
from pipeline.ledger.registry import FATAL, STARTING
from pipeline.ledger.schema import LIVE
from pipeline.settings import Settings
from pipeline.staging import open_staging
from pipeline.telemetry.context import about
from pipeline.telemetry.counters import Measured
from pipeline.telemetry.tracing import open_tracing
from pipeline.types import Stage
from workers.process.alive import is_alive
from workers.process.modelserver import ModelGone, RemoteEmbedder
from workers.process.ownmodel import start
from workers.process.termination import Termination

if TYPE_CHECKING:
    from pipeline.embed.base import Embedder
    from pipeline.sandbox.guard import GuardOptions, ParseGuard
    from pipeline.steps.index import IndexStep
    from pipeline.steps.parse import ParseStep

log = logging.getLogger(__name__)

#: Embedded by every worker before it touches a collection: another model behind the same name shows at once.
CANARY = "The quick brown fox reads the manual before it jumps over the lazy dog."

#: Least cosine of two models' canaries to be called the same model; precision alone stays above 0.999.
CANARY_COSINE = 0.99

#: The profile of collections that follow the configuration.
NO_PROFILE = "{}"

#: Maximum number of models that an embed worker keeps loaded: during a re-index there is work for the old and the new one.
KEPT_MODELS = 2

#: Longest pause after something that may heal by itself did not answer.
PAUSE_MAX_S = 15.0


class Runtime:
    """The part that both kinds of workers share: claim, work, record, and what to do when it fails."""

    def __init__(self, settings: Settings, name: str, stage: Stage) -> None:
        self.settings = settings
        self.name = name
        self.stage = stage
        self.ledger = Ledger.open(settings.ledger_url)
        self.staging = open_staging(settings.staging_location)
        self.measured = Measured(name, self._memory_bytes)
        self.tracing = open_tracing(settings, name)
        self._pause_s = 1.0

    def bury_siblings(self) -> None:
        """Release documents held by this worker's dead processes at once, counting the attempt."""
        for lease in self.ledger.flow.leases():
            worker, _, process = lease.owner.rpartition("/")
            if worker == self.name and not is_alive(int(process)):
                freed = self.ledger.flow.expire(lease, self.settings.max_starts)
                log.warning("%d documents of a process that died go back", freed)

    def work(self, ids: list[str], run: Callable[[Claim], list[str]]) -> list[str]:
        """Claim documents, run a step on them, end the claim whatever happens; return the ids the step finished.

        What may heal by itself gives the start back and pauses this worker; what nobody foresaw stays charged, so that it
        ends in quarantine and not in a loop.
        """
        claim: Claim | None = None
        with Termination() as termination, about(stage=self.stage.value):
            try:
                # A signal between the commit and the assignment would leave a claim that nobody knows of.
                with termination.held():
                    claim = self.ledger.work.claim(self.stage, ids, f"{self.name}/{os.getpid()}", self.measured)
                if not claim.documents:
                    return []
                with about(run=claim.run):
                    return self._work(claim, run)
            except TransientError as error:  # nothing is claimed; the dispatcher sends the batch again
                self._wait(error)
                return []
            except BaseException:  # a shutdown: hand back at once what is not handed back yet
                if claim is not None:
                    with termination.held():
                        self.ledger.work.release(claim, "its worker was told to stop")
                raise

    def _work(self, claim: Claim, run: Callable[[Claim], list[str]]) -> list[str]:
        try:
            done = run(claim)
        except LeaseLost as error:
            log.warning("%s", error)
            return []
        except (TransientError, PermanentError) as error:
            self._wait(error, claim)
            return []
        except Exception as error:
            log.exception("%d documents of the %s stage failed", len(claim.documents), self.stage)
            self._end(partial(self.ledger.work.give_up, claim, self.settings.max_starts, f"{type(error).__name__}: {error}"))
            return []
        self._end(partial(self.ledger.work.release, claim, measured=self.measured))
        self._pause_s = 1.0
        return done

    def _memory_bytes(self) -> int:
        """What this process takes of the device's memory, or of the host's where that is the device's."""
        return int(psutil.Process().memory_info().rss)

    def collection_of(self, claim: Claim) -> Collection:
        """The generation that a claim's documents belong to; a message never mixes two. Raises CollectionMismatch."""
        name = claim.documents[0].collection
        found = self.ledger.collections.get(name)
        if found is None:
            raise CollectionMismatch(f"the ledger has no collection {name!r}; load it again")
        return found

    def _wait(self, error: KbError, claim: Claim | None = None) -> None:
        """Pause, longer each time; the documents of `claim` go back first, for others to try."""
        if claim is not None:
            self._end(partial(self.ledger.work.release, claim, str(error)))
        log.warning("%s; next try in %.0f s", error, self._pause_s)
        self._say(_note(error))
        self._sleep()

    def _end(self, end: Callable[[], None]) -> None:
        """End a claim, however long the ledger does not take it: left alone, it would run out and charge its documents."""
        while True:
            try:
                end()
            except TransientError as error:
                log.warning("%s; next try in %.0f s", error, self._pause_s)
                self._sleep()
            else:
                return

    def _say(self, note: str) -> None:
        """Put what keeps us from working into our row; only for people, so never a reason to fail."""
        try:
            self.ledger.registry.see(self.name, note=note)
        except TransientError as error:
            log.debug("%s", error)

    def _sleep(self) -> None:
        time.sleep(self._pause_s)
        self._pause_s = min(PAUSE_MAX_S, self._pause_s * 2)


def _note(error: KbError) -> str:
    """An error in a worker's row."""
    return f"{FATAL}{error}" if isinstance(error, PermanentError) else str(error)


class ParseRuntime(Runtime):
    """A parse worker's process."""

    def __init__(self, settings: Settings, name: str) -> None:
        super().__init__(settings, name, Stage.PARSE)
        self._guards: dict[GuardOptions, ParseGuard] = {}
        self._steps: dict[str, ParseStep] = {}  #: by the profiles of collections
        self._step(NO_PROFILE)  # what is wrong with the configuration shows at the start
        for guard in self._guards.values():
            with suppress(OSError):  # the first documents try again, and report it
                guard.prepare()

    def run(self, ids: list[str], batch: str) -> Batch:
        """Parse documents; return those that wait for the embed stage, under the id `batch`."""
        run_of: dict[str, int] = {}

        def parse(claim: Claim) -> list[str]:
            run_of.update((document.id, document.run) for document in claim.documents)
            with self.measured.busy.work():
                return self._step(self.collection_of(claim).profile).run(claim, batch)

        done = self.work(ids, parse)
        return Batch(batch, Stage.EMBED, tuple(done), tuple(sorted({run_of[key] for key in done})))

    def _step(self, profile: str) -> ParseStep:
        """The step for collections of this profile, made when it is first needed."""
        from pipeline.model.files import resolve_limit, resolve_tokenizer
        from pipeline.sandbox.guard import GuardOptions, ParseGuard
        from pipeline.steps.parse import ParseStep

        if profile not in self._steps:
            settings = self.settings.of_collection(profile)
            options = GuardOptions.from_settings(settings, resolve_tokenizer(settings), resolve_limit(settings))
            guard = self._guards.setdefault(options, ParseGuard(options))
            self._steps[profile] = ParseStep(
                ledger=self.ledger,
                staging=self.staging,
                guard=guard,
                fingerprint=options.fingerprint(),
                measured=self.measured,
                tracing=self.tracing,
            )
        return self._steps[profile]

    def close(self) -> None:
        """End the parsers' processes, and send the last spans."""
        for guard in self._guards.values():
            guard.close()
        self.tracing.close()


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model, and what indexes with it."""

    embedder: Embedder
    fingerprint: str  #: embed fingerprint
    step: IndexStep


class EmbedRuntime(Runtime):
    """An embed worker's process, with a model in a process beside it and, in embedded mode, the store."""

    def __init__(self, settings: Settings, name: str, door: int | None = None, locks: Sequence[int] = ()) -> None:
        """`door` leads to a model's process; without it, one is started for this worker, which gets the descriptors `locks`."""
        self._closed = self._opened = False  #: this runtime; its store
        self._models: OrderedDict[tuple[str, ...], Model] = OrderedDict()  #: by name, revision and parts, the last used one last
        self._ready: set[str] = set()
        self._broken: KbError | None = None  #: why there is no model or store
        self._ends = ExitStack()  #: of what is open; the end of one does not keep the others from theirs
        # First, so that it imports torch while this process opens the ledger and the store.
        own = start(name, locks) if door is None and not settings.embed_url else None
        self._door = own.door if own else door
        try:
            # With its process, the models end too.
            self._ends.callback(own.close if own else self._close_models)
            super().__init__(settings, name, Stage.EMBED)
            self._ends.callback(self.tracing.close)
            self._begin()
        except BaseException:  # the next attempt opens all of it again, and starts another process
            self.close()
            raise

    def _begin(self) -> None:
        """Load; what is known to go wrong is only told."""
        try:
            self._load()
        except KbError as error:
            # The process stays, so that people can read the reason; every message is returned until the fault is fixed.
            self._broken = error
            self._say(_note(error))
            log.error("%s", error)

    def _load(self) -> None:
        """Open the store and load the model that is needed first; raises what they raise."""
        from pipeline.steps.bulk import Bulk
        from pipeline.store import open_store

        settings = self.settings
        if not self._opened:  # a second attempt has the store of the first, as models that it has loaded do
            self._store = open_store(settings, role="owner")
            self._ends.callback(self._store.close)
            self._opened = True
        info = self._model(self._first_profile()).embedder.info
        self._bulk = Bulk(self.ledger, self._store, settings.bulk_documents, settings.graph_points)
        self._settle()
        # The row is the consumer's, whose child we are: its process id tells the next supervisor whose documents are free.
        self.ledger.registry.register(
            self.name, "embed", socket.gethostname(), os.getppid(), info.device, info.dtype, info.chunks_per_s
        )
        log.info("embeds with %s on %s in %s, %.0f chunks/s", info.model, info.device, info.dtype, info.chunks_per_s)

    def _first_profile(self) -> str:
        """The profile of the documents that wait; that of the configuration where some of them follow it, or none waits."""
        awaited = self.ledger.collections.awaited()
        return NO_PROFILE if NO_PROFILE in awaited or not awaited else awaited[0]

    def _model(self, profile: str) -> Model:
        """The model of collections with this profile; loaded when it is first needed, and KEPT_MODELS of them kept."""
        from pipeline.embed.base import embed_fingerprint
        from pipeline.steps.index import IndexStep

        settings = self.settings.of_collection(profile)
        key = (settings.model, settings.model_revision, settings.embed_model, str(settings.part_tokens))
        if key not in self._models:
            while len(self._models) >= KEPT_MODELS:
                self._models.popitem(last=False)[1].embedder.close()
            self._say(STARTING)
            embedder = self._embedder(settings)
            self._say("")
            fingerprint = embed_fingerprint(settings, embedder.info.dimension)
            step = IndexStep(
                ledger=self.ledger,
                staging=self.staging,
                embedder=embedder,
                store=self._store,
                fingerprint=fingerprint,
                measured=self.measured,
                tracing=self.tracing,
            )
            self._models[key] = Model(embedder, fingerprint, step)
        self._models.move_to_end(key)
        return self._models[key]

    def _embedder(self, settings: Settings) -> Embedder:
        if self._door is not None:
            try:
                return RemoteEmbedder(self._door, settings, settings.ingest_device, self._end_at_once)
            except ModelGone as gone:
                log.warning("%s; this process loads the model", gone)
        from pipeline.embed import make_embedder

        return make_embedder(settings, device=settings.ingest_device)

    def _end_at_once(self) -> None:
        """End as if the model had killed this process: its documents may be the reason, and count an attempt."""
        if not self._closed:  # after a shutdown, a call that was abandoned finds the model gone
            log.error("the model's process has died")
            os.kill(os.getpid(), signal.SIGKILL)

    def run(self, ids: list[str], batch: str) -> list[str]:
        """Index documents; return the ids that are searchable now."""
        done = self.work(ids, self._index)
        if self._broken is None:
            self._settle()
        return done

    def _settle(self) -> None:
        """Build the graphs that a large load has deferred, once it is complete."""
        try:
            self._bulk.settle()
        except KbError as error:  # it stands in the ledger: the next batch or the next start tries again
            log.warning("%s", error)

    def _index(self, claim: Claim) -> list[str]:
        if isinstance(self._broken, TransientError):  # a server that was away when we started may be back
            self._load()
            self._broken = None
        elif self._broken is not None:
            raise self._broken
        collection = self.collection_of(claim)
        model = self._model(collection.profile)
        self._open(collection, model)
        self._bulk.begin(collection)
        return model.step.run(claim, collection.physical)

    def _memory_bytes(self) -> int:
        held = max((model.embedder.memory_bytes() for model in self._models.values()), default=0)
        return held or super()._memory_bytes()

    def _open(self, collection: Collection, model: Model) -> None:
        """Before the first write: is this the collection's model? Then make sure that it is there and has its name."""
        if collection.name in self._ready:
            return
        from pipeline.embed.base import wholes

        name = model.embedder.info.model
        collection.require_model(model.fingerprint, name)
        ours = wholes(model.embedder.embed([CANARY]))[0]
        canary = self.ledger.collections.set_canary(collection.name, json.dumps(ours.tolist()))
        cosine = float(ours @ np.array(json.loads(canary), np.float32))
        if not cosine >= CANARY_COSINE:
            raise ModelError(
                f"this worker's {name} is not the model that made {collection.name!r} "
                f"(cosine {cosine:.3f} on the same sentence): other weights, or another model behind KB_EMBED_URL"
            )
        parts = self.settings.of_collection(collection.profile).part_tokens > 0
        self._store.create(collection.physical, collection.dimension, parts=parts)
        # One that is being built gets its name when it takes the old one's place.
        if collection.state == LIVE and self._store.aliases().get(collection.public) is None:
            self._store.set_alias(collection.public, collection.physical)
        self._ready.add(collection.name)

    def close(self) -> None:
        """Flush and close the store, send the last spans, and end the models; raises what one of them raises, after all of them."""
        self._closed = True
        self._ends.close()

    def _close_models(self) -> None:
        for model in self._models.values():
            model.embedder.close()
