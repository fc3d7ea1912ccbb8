"""Change of model or chunker: a new generation is built next to the live one, both are judged, and they are swapped."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.embed import dimension_of
from pipeline.embed.base import embed_fingerprint
from pipeline.errors import ConfigError, KbError
from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.ledger.schema import BUILDING
from pipeline.model.files import resolve_model, resolve_tokenizer
from pipeline.model.tokens import TokenCounter
from pipeline.search import Searcher, document_ranking
from pipeline.search.evaluate import NDCG_DEPTH, JudgedQuery, Scores, evaluate, read_queries, self_queries
from pipeline.settings import PROFILE_FIELDS, Settings
from pipeline.staging import open_staging
from pipeline.store import open_store
from pipeline.store.choice import missing
from pipeline.store.names import physical_name
from pipeline.telemetry.context import about
from pipeline.telemetry.tracing import check_tracing
from pipeline.types import DocumentState
from workers.jobs.build import Build
from workers.jobs.crew import Working
from workers.jobs.generations import set_alias
from workers.monitoring.snapshot import Moment

log = logging.getLogger(__name__)

#: Max questions generated for a collection without its own.
SELF_QUERIES = 200

#: A new model keeps the old chunks if it accepts this many times their tokens, because tokenizers count differently.
TOKEN_MARGIN = 1.5


@dataclass(frozen=True, slots=True)
class Change:
    """The requested change, and how much worse the result may be."""

    model: str = ""  #: empty: unchanged
    revision: str = ""
    chunk_tokens: int = 0  #: 0: unchanged
    part_tokens: int | None = None  #: of parts with vectors of their own; None: unchanged
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
                build = Build(
                    settings=self._settings,
                    ledger=self._ledger,
                    store=self._store,
                    work=work,
                    run=run,
                    live=live,
                    new=new,
                    rate=self._change.rate,
                    on_moment=on_moment,
                )
                why, old_scores, new_scores = self._exchange(build)
                work.done()
            self._ledger.collections.set_note(new.name, why)
            if not why:
                set_alias(self._store, self._public, new.physical)
        except KbError as error:
            self._ledger.runs.end(run, "failed", str(error))
            raise
        return self._end(run, new, why, old_scores, new_scores, began)

    def _exchange(self, build: Build) -> tuple[str, Scores | None, Scores | None]:
        """Fill the new generation and put it in the live one's place in the ledger; why not, and the scores of both."""
        live, new = build.live, build.new
        build.catch_up()
        parts = self._settings.of_collection(new.profile).part_tokens > 0
        self._store.create(new.physical, new.dimension, parts=parts)  # without documents, no worker has created it
        if why := build.incomplete():
            return why, None, None
        old_scores, new_scores = self._judge(live, new)
        why = regression(old_scores, new_scores, self._change.max_regression)
        while not why and (moved := self._ledger.collections.swap(live.name, new.name)):
            log.info("not swapped yet: %s", moved)
            build.catch_up()
            why = build.incomplete()
        return why, old_scores, new_scores

    def _end(self, run: int, one: Collection, why: str, old: Scores | None, new: Scores | None, began: float) -> Reindexed:
        self._ledger.runs.end(run, "refused" if why else "done", why)
        progress = self._ledger.report.progress(collection=one.name)
        return Reindexed(
            run=run,
            collection=self._public,
            generation=one.name,
            model=one.model,
            swapped=not why,
            why=why,
            documents=progress.states.get(DocumentState.INDEXED, 0),
            chunks=progress.chunks,
            embedded=progress.embedded,
            seconds=time.monotonic() - began,
            queries=len(self._judged),
            old=old,
            new=new,
        )

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
        fixed_settings = self._settings.of_collection(text)
        live.require_model(embed_fingerprint(fixed_settings, live.dimension), fixed_settings.model)
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
        if change.part_tokens is not None:
            profile["part_tokens"] = change.part_tokens
        text = json.dumps(profile, sort_keys=True)
        made = self._settings.of_collection(text)
        check_tracing(made)
        dimension = dimension_of(made)
        fingerprint = embed_fingerprint(made, dimension)
        names = {one.name for one in self._ledger.collections.all()} | {*self._store.collections(), *self._store.aliases()}
        name = next(name for n in itertools.count(2) if (name := f"{self._public}@{n}") not in names)
        return Collection(
            name=name,
            physical=physical_name(name, fingerprint),
            model=made.model,
            revision=made.model_revision,
            dimension=dimension,
            fingerprint=fingerprint,
            canary="",
            created_at=time.time(),
            serves=self._public,
            state=BUILDING,
            profile=text,
        )

    def _takes(self, settings: Settings, change: Change) -> bool:
        """Whether the new model accepts the existing chunks, so that nothing must be parsed again."""
        made = settings.model_copy(update={"model": change.model, "model_revision": change.revision, "tokenizer": ""})
        files = resolve_model(made)
        if files.max_tokens >= TOKEN_MARGIN * settings.chunk_tokens:
            return True
        old, new = (TokenCounter.from_folder(resolve_tokenizer(one)).fingerprint for one in (settings, made))
        return old == new and files.max_tokens >= settings.chunk_tokens

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


def regression(old: Scores | None, new: Scores | None, most: float) -> str:
    """A human-readable reason if the new generation is worse than allowed; empty otherwise."""
    if old is None or new is None:
        return ""
    for name, before, after in ((f"recall@{old.k}", old.recall, new.recall), (f"MRR@{old.k}", old.mrr, new.mrr)):
        if before - after > most:
            return f"{name} would fall from {before:.3f} to {after:.3f}, more than --max-regression {most:g} allows"
    return ""
