"""Change of model or chunker: builds a new generation next to the live one, judges both, and swaps them."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.embed import make_embedder
from pipeline.embed.base import embed_fingerprint
from pipeline.errors import ConfigError, KbError, StoreUnavailable, TooManyFailures
from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.ledger.schema import BUILDING, SUPERSEDED
from pipeline.model.files import resolve_model, resolve_tokenizer
from pipeline.model.tokens import TokenCounter
from pipeline.search import Searcher, document_ranking
from pipeline.search.evaluate import NDCG_DEPTH, JudgedQuery, Scores, evaluate, read_queries, self_queries
from pipeline.settings import PROFILE_FIELDS, Settings
from pipeline.staging import open_staging
from pipeline.steps.load import LoadCounts
from pipeline.store import open_store
from pipeline.store.base import VectorStore
from pipeline.store.choice import missing
from pipeline.store.names import physical_name
from pipeline.telemetry.context import about
from pipeline.telemetry.tracing import check_tracing
from pipeline.text import plural
from pipeline.types import DocumentState, document_id
from workers.jobs.crew import Remover, Working
from workers.jobs.load import too_many
from workers.monitoring.snapshot import WAIT_EVERY_S, Lookout, Moment

log = logging.getLogger(__name__)

#: Max questions generated for a collection without its own.
SELF_QUERIES = 200

#: Max documents added to the new generation in one statement.
GIVEN_AT_ONCE = 250

#: A new model keeps the old chunks if it accepts this many times their tokens, because tokenizers count differently.
TOKEN_MARGIN = 1.5


@dataclass(frozen=True, slots=True)
class Change:
    """The requested change, and how much worse the result may be."""

    model: str = ""  #: empty: unchanged
    revision: str = ""
    chunk_tokens: int = 0  #: 0: unchanged
    rate: float = 0.0  #: max documents per second; 0: no limit
    queries: Path | None = None  #: file of questions with known answers; None: sentences of the collection itself
    k: int = 10
    max_regression: float = 0.02  #: max drop of recall@k or MRR@k; with more, the old generation is kept
    source: str = ""  #: source and schedule, as recorded in the run
    schedule: str = ""


@dataclass(frozen=True, slots=True)
class Reindexed:
    """The result of a re-index."""

    run: int
    collection: str
    generation: str
    model: str
    swapped: bool
    why: str  #: why the generations were not swapped; empty if they were
    documents: int
    chunks: int
    embedded: int
    seconds: float
    queries: int
    old: Scores | None
    new: Scores | None


class Reindexing:
    """Builds a generation and swaps it with the live one; a context manager.

    The ledger records every step: another call with the same change continues an interrupted one.
    """

    def __init__(self, settings: Settings, public: str, change: Change) -> None:
        """Raises ConfigError if the file of questions cannot be read."""
        self._settings = settings.prepare()
        self._public = public
        self._change = change
        self._ledger = Ledger.open(settings.ledger_url)
        self._store = open_store(settings, role="reader")
        self._judged = read_queries(change.queries) if change.queries else []

    def __enter__(self) -> Reindexing:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()
        self._ledger.close()

    def run(self, on_moment: Callable[[Moment], None], worker_stderr: int = 2) -> Reindexed:
        """Build, judge, swap. Raises errors of models, stores and workers, and ConfigError if another change is in progress."""
        began = time.monotonic()
        live = self._live()
        run = self._ledger.runs.start(self._public, "reindex", self._change.source, self._change.schedule)
        try:
            if self._store.aliases().get(self._public) not in (None, live.physical):
                # A swap was interrupted between ledger and store.
                set_alias(self._store, self._public, live.physical)
                return self._end(run, live, "", None, None, began)
            live = self._fixed(live)
            new = self._new(live)
            with about(run=run), Working(self._settings, self._ledger, worker_stderr) as work:
                self._catch_up(run, live, new, work, on_moment)
                self._store.create(new.physical, new.dimension)  # without documents, no worker has created it
                why, old_scores, new_scores = self._incomplete(live, new), None, None
                if not why:
                    old_scores, new_scores = self._judge(live, new)
                    why = regression(old_scores, new_scores, self._change.max_regression)
                while not why and (moved := self._ledger.collections.swap(live.name, new.name)):
                    log.info("not swapped yet: %s", moved)
                    self._catch_up(run, live, new, work, on_moment)
                    why = self._incomplete(live, new)
                work.done()
            self._ledger.collections.set_note(new.name, why)
            if not why:
                set_alias(self._store, self._public, new.physical)
        except KbError as error:
            self._ledger.runs.end(run, "failed", str(error))
            raise
        return self._end(run, new, why, old_scores, new_scores, began)

    def _end(self, run: int, one: Collection, why: str, old: Scores | None, new: Scores | None, began: float) -> Reindexed:
        self._ledger.runs.end(run, "refused" if why else "done", why)
        progress = self._ledger.report.progress(collection=one.name)
        return Reindexed(
            run, self._public, one.name, one.model, not why, why, progress.states.get(DocumentState.INDEXED, 0), progress.chunks,
            progress.embedded, time.monotonic() - began, len(self._judged), old, new,
        )  # fmt: skip

    def _live(self) -> Collection:
        live = self._ledger.collections.live(self._public)
        if live is None:
            raise missing(self._public, self._ledger.collections.names())
        return live

    def _fixed(self, live: Collection) -> Collection:
        """The live generation with the settings that made it, so that a rollback works under any configuration."""
        settings, fixed = self._settings.of_collection(live.profile), json.loads(live.profile)
        profile = {name: getattr(settings, name) for name in PROFILE_FIELDS}
        if "model" not in fixed:
            profile |= {"model": live.model, "model_revision": live.revision}
        text = json.dumps(profile, sort_keys=True)
        if embed_fingerprint(self._settings.of_collection(text), live.dimension) != live.fingerprint:
            raise ConfigError(f"{live.name!r} was made with {live.model}, which has changed since; load the collection again first")
        if text != live.profile:
            self._ledger.collections.set_profile(live.name, text)
        return replace(live, profile=text)

    def _new(self, live: Collection) -> Collection:
        """The generation to build: an unfinished one with the same change, or a new one."""
        wanted = self._wanted(live)
        for begun in self._ledger.collections.of(self._public):
            if begun.state != BUILDING:
                continue
            if (begun.fingerprint, begun.profile) != (wanted.fingerprint, wanted.profile):
                raise ConfigError(
                    f"another change of {self._public!r} is in progress (to {begun.model}): finish it with the same options, "
                    "or discard it with `kb-ingest collections prune --refused`"
                )
            return begun
        return self._ledger.collections.add(wanted)

    def _wanted(self, live: Collection) -> Collection:
        settings, change = self._settings.of_collection(live.profile), self._change
        profile = json.loads(live.profile)
        if change.model:
            profile |= {"model": change.model, "model_revision": change.revision}
            if settings.embed_url:
                # This is the server's name for the model, which need not be the name of a tokenizer.
                profile |= {"embed_model": change.model, "tokenizer": settings.tokenizer or settings.model}
            else:
                kept = not change.chunk_tokens and self._takes(settings, change)
                profile["tokenizer"] = (settings.tokenizer or settings.model) if kept else ""
        if change.chunk_tokens:
            profile["chunk_tokens"] = change.chunk_tokens
        text = json.dumps(profile, sort_keys=True)
        made = self._settings.of_collection(text)
        check_tracing(made)
        dimension = _dimension(made)
        fingerprint = embed_fingerprint(made, dimension)
        names = {one.name for one in self._ledger.collections.all()} | {*self._store.collections(), *self._store.aliases()}
        name = next(name for n in itertools.count(2) if (name := f"{self._public}@{n}") not in names)
        return Collection(
            name, physical_name(name, fingerprint), made.model, made.model_revision, dimension, fingerprint, "", time.time(),
            self._public, BUILDING, text,
        )  # fmt: skip

    def _takes(self, settings: Settings, change: Change) -> bool:
        """Whether the new model accepts the existing chunks, so that nothing must be parsed again."""
        made = settings.model_copy(update={"model": change.model, "model_revision": change.revision, "tokenizer": ""})
        files = resolve_model(made)
        if files.max_tokens >= TOKEN_MARGIN * settings.chunk_tokens:
            return True
        old, new = (TokenCounter.from_folder(resolve_tokenizer(one)).fingerprint for one in (settings, made))
        return old == new and files.max_tokens >= settings.chunk_tokens

    def _catch_up(self, run: int, live: Collection, new: Collection, work: Working, on_moment: Callable[[Moment], None]) -> None:
        """Copy documents until the new generation holds the same ones as the live one, and both are at rest."""
        pace, after, found = Pace(self._change.rate), "", 0
        lookout = Lookout(self._settings, self._ledger, run, begins=True)
        most = self._settings.max_in_flight // 2 + 1
        opened = self._ledger.intake.open_documents
        while True:
            if time.monotonic() >= lookout.next:
                self._look(live, new, lookout, work, on_moment)
            room = min(GIVEN_AT_ONCE, most - opened(new.name, most), pace.now())
            if room > 0:
                wanted = self._ledger.mirror.lacking(live.name, new.name, room, after)
                self._ledger.mirror.give(new.name, run, wanted)
                pace.spend(len(wanted))
                found += len(wanted)
                if wanted:
                    after = wanted[-1].uri
                    continue
                # End of a round: documents that have changed since come earlier in the order of names.
                if not opened(new.name, 1) and not opened(live.name, 1):
                    surplus = self._ledger.mirror.surplus(live.name, new.name, GIVEN_AT_ONCE)
                    gone = self._ledger.removal.mark(new.name, surplus)
                    if not (found or gone):
                        break
                    after, found = "", 0
                    continue
            time.sleep(WAIT_EVERY_S)
        self._look(live, new, lookout, work, on_moment)
        with Remover(self._settings.model_copy(update={"delete_grace": 0.0}), self._ledger, new.name) as remover:
            while remover.left():
                work.tend()
                time.sleep(WAIT_EVERY_S)

    def _look(
        self, live: Collection, new: Collection, lookout: Lookout, work: Working, on_moment: Callable[[Moment], None]
    ) -> None:
        """Tend the workers, and show a snapshot."""
        trouble, report = work.tend(), self._ledger.report
        old, built = report.progress(collection=live.name), report.progress(collection=new.name)
        counts = LoadCounts(discovered=sum(old.states.values()))
        # It receives its documents gradually: those it lacks are left to process, too.
        built = replace(built, left_tokens=max(0, old.tokens - built.written_tokens))
        moment = lookout.look(counts, trouble=trouble, own_workers=work.owns_workers, progress=built)
        on_moment(moment)
        self._check_failures(moment.progress.states)

    def _check_failures(self, states: dict[str, int]) -> None:
        failed = states.get(DocumentState.QUARANTINED, 0)
        finished = failed + states.get(DocumentState.INDEXED, 0)
        if too_many(self._settings, failed, finished):
            raise TooManyFailures(
                f"{failed} of {plural(finished, 'document')} failed in the new generation; see `kb-ingest quarantine list`"
            )

    def _incomplete(self, live: Collection, new: Collection) -> str:
        """A human-readable description of what the new generation lacks; empty if it is complete."""
        report, lost, example = self._ledger.report, 0, ""
        for window in report.expected(live.name):
            ids = {document_id(new.name, document.uri): document for document in window}
            known = self._ledger.intake.known(list(ids))
            missing = [
                one.uri for key, one in ids.items() if key not in known or known[key].indexed_hash != one.content_hash
            ]  # fmt: skip
            lost, example = lost + len(missing), example or next(iter(missing), "")
        if lost:
            return f"{plural(lost, 'document')} could not be re-indexed, e.g. {example}; see `kb-ingest quarantine list`"
        expected = sum(document.chunks for window in report.expected(new.name) for document in window)
        points = self._store.count(new.physical) if expected else 0
        return (
            "" if points == expected else f"the store holds {plural(points, 'point')} of the new generation instead of {expected}"
        )

    def _judge(self, live: Collection, new: Collection) -> tuple[Scores | None, Scores | None]:
        """The scores of both generations for the same questions; None if there are no questions."""
        if not self._judged:
            staging = open_staging(self._settings.staging_location)
            self._judged = self_queries(self._ledger, staging, live.name, SELF_QUERIES)
        if not self._judged:
            return None, None
        scores = [self._scores(one, self._judged) for one in (live, new)]
        return scores[0], scores[1]

    def _scores(self, generation: Collection, judged: Sequence[JudgedQuery]) -> Scores:
        mode = self._settings.search_mode
        searcher = Searcher(self._settings, self._store)
        try:
            embedder = searcher.embedder(self._public, generation.physical) if mode != "sparse" else None
            depth = max(self._change.k, NDCG_DEPTH)
            return evaluate(judged, document_ranking(self._store, generation.physical, embedder, mode, depth), self._change.k)
        finally:
            searcher.close()


class Pace:
    """A rate limit: a token bucket with a capacity of one second."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s  #: 0: no limit
        self._held = max(1.0, per_s)
        self._at = time.monotonic()

    def now(self) -> int:
        """How many may be spent now."""
        if not self._per_s:
            return GIVEN_AT_ONCE
        at = time.monotonic()
        self._held = min(max(1.0, self._per_s), self._held + (at - self._at) * self._per_s)
        self._at = at
        return int(self._held)

    def spend(self, count: int) -> None:
        """Spend `count`."""
        self._held -= count


def regression(old: Scores | None, new: Scores | None, most: float) -> str:
    """A human-readable reason if the new generation is worse than allowed; empty otherwise."""
    if old is None or new is None:
        return ""
    for name, before, after in ((f"recall@{old.k}", old.recall, new.recall), (f"MRR@{old.k}", old.mrr, new.mrr)):
        if before - after > most:
            return f"{name} would fall from {before:.3f} to {after:.3f}, more than --max-regression {most:g} allows"
    return ""


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
            # An unfinished one is dropped from the ledger first, so that its reindex notices before it writes again.
            if state == BUILDING and not ledger.collections.drop(one.name, state):
                continue
            store.drop(one.physical)
            if state == BUILDING or ledger.collections.drop(one.name, state):
                gone.append(one.name)
        return gone
    finally:
        store.close()
        ledger.close()


def set_alias(store: VectorStore, public: str, physical: str) -> None:
    """Point a collection's alias to a physical collection, atomically for searches."""
    if store.aliases().get(public) != physical:
        store.set_alias(public, physical)


def _dimension(settings: Settings) -> int:
    if not settings.embed_url:
        return resolve_model(settings).dimension
    embedder = make_embedder(settings, device="cpu")
    embedder.close()
    return embedder.info.dimension
