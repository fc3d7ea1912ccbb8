"""A whole load: stage, dispatch, wait; with workers of its own in embedded mode."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from pipeline.errors import CollectionReplaced, KbError, TooManyFailures
from pipeline.ledger import Ledger
from pipeline.ledger.losses import LossSummary
from pipeline.ledger.registry import WorkerRow
from pipeline.ledger.report import Progress, QuarantinedDocument
from pipeline.ledger.runs import NewRun
from pipeline.metadata import Raw
from pipeline.settings import Settings
from pipeline.sources.remotes import Remotes
from pipeline.staging import Staging, open_staging
from pipeline.staging.local import LocalStaging
from pipeline.steps.load import Load, LoadCounts, Planned
from pipeline.steps.plan import Planning, SyncPlan
from pipeline.steps.prepare import Prepared, prepare
from pipeline.steps.remove import vanished
from pipeline.steps.scope import Listed
from pipeline.telemetry.context import about
from pipeline.telemetry.spans import Tracing
from pipeline.telemetry.tracing import open_tracing
from pipeline.types import DocumentState, RecordFields, Stage
from workers.jobs.crew import Remover, Working, queue_now
from workers.jobs.hold import holding
from workers.jobs.sources import Job, sources_inside
from workers.monitoring.snapshot import Lookout, Moment
from workers.process.ahead import Ahead

#: Seconds between two questions whether a run has ended. They are cheap; a whole look at the run is not.
END_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Result:
    """A finished load."""

    run: int
    counts: LoadCounts
    progress: Progress
    failures: list[QuarantinedDocument]
    seconds: float
    worker: WorkerRow | None  #: an embed worker that served it
    model: str  #: that made the collection
    deleted: int = 0  #: documents that were marked as deleted
    refused: str = ""  #: human-readable reason why deletions were refused
    skipped: dict[str, int] = field(default_factory=dict)  #: number of skipped documents by reason
    losses: LossSummary = field(default_factory=lambda: LossSummary(0, {}))  #: of its indexed documents


class Loading:
    """Everything a load needs, opened once; a context manager."""

    def __init__(self, settings: Settings, collection: str, ahead: Ahead | None = None, *, work: Working | None = None) -> None:
        """`ahead`: started by the command for the workers of this load. `work`: workers that serve it, and outlive it."""
        self.settings = settings.prepare()
        self._ahead = ahead
        self._work = work
        self.ledger = Ledger.open(settings.ledger_url)
        self.staging: Staging = open_staging(settings.staging_location)
        self._public = collection
        self.run_id: int | None = None  #: of the run that was begun last
        self._prepared: Prepared | None = None
        self._tracing = Tracing()
        self._remotes = Remotes(self.settings)

    def __enter__(self) -> Loading:
        return self

    def __exit__(self, *_: object) -> None:
        self._remotes.close()
        self._tracing.close()
        self.ledger.close()

    def prepare(self, *, create: bool = True) -> Prepared:
        """Resolve the model and the collection; `create` records a new one.

        Raises ModelError, and CollectionMismatch when the collection was made with another model.
        """
        if self._prepared is None:
            self._prepared = prepare(self.settings, self.ledger, self._public, create=create)
        return self._prepared

    def step(
        self,
        *,
        checksum: bool = False,
        meta: Mapping[str, Raw] = MappingProxyType({}),
        records: RecordFields | None = None,
        listed: Listed | None = None,
    ) -> Load:
        """The staging step for this collection; fills `listed`."""
        prepared = self.prepare()
        return Load(
            ledger=self.ledger,
            staging=self.staging,
            collection=prepared.collection.name,
            parse_fingerprint=prepared.parse_fingerprint,
            embed_fingerprint=prepared.embed_fingerprint,
            max_file_bytes=self.settings.max_file_bytes,
            checksum=checksum,
            meta=meta,
            records=records,
            programs=prepared.programs,
            file_times=self.settings.file_times,
            listed=listed,
            tracing=self._tracing,
            remotes=self._remotes,
        )

    def plan(self, job: Job) -> Iterator[Planned]:
        """What a load would do, file by file; changes nothing."""
        self.prepare(create=False)
        return self.step(meta=job.meta, records=job.records).plan(job.scope)

    def plan_sync(self, job: Job) -> SyncPlan:
        """What a sync would do and cost; changes nothing."""
        from pipeline.model.files import resolve_limit, resolve_tokenizer
        from pipeline.sandbox.guard import GuardOptions, ParseGuard

        prepared = self.prepare(create=False)
        collection, settings = prepared.collection, self.settings.of_collection(prepared.collection.profile)
        options = GuardOptions.from_settings(settings, resolve_tokenizer(settings), resolve_limit(settings))
        with ParseGuard(options) as guard:
            planning = Planning(
                ledger=self.ledger,
                staging=self.staging,
                guard=guard,
                generation=collection.name,
                dimension=collection.dimension,
                part_tokens=settings.part_tokens,
            )
            step = self.step(records=job.records, listed=Listed(job.scope.uris()))
            return planning.plan(step, job.scope, settings.max_delete_ratio)

    def run(self, job: Job, on_moment: Callable[[Moment], None], worker_stderr: int = 2) -> Result:
        """Stage everything, and wait until nothing of this run is open any more unless told not to.

        Interrupting it at any point loses nothing: another run, or any worker, continues from the ledger. Raises what the
        stages raise, ConfigError when the only embed worker says that it cannot work, and SourceBusy where another run loads
        one of the roots into this collection.
        """
        if job.sync:
            elsewhere = sources_inside(self.ledger, self._public, job.scope.uris())
            job = replace(job, scope=replace(job.scope, elsewhere=elsewhere))
        self._remotes.public_only = bool(job.token) and not self.settings.web_private
        new = NewRun(self._public, job.action, job.source, job.schedule, job.token)
        with holding(self.ledger, new, job.scope.uris(), self.settings.lease_s) as (run, still_ours):
            self.run_id = run

            def show(moment: Moment) -> None:
                still_ours()
                on_moment(moment)

            return self._run(run, job, show, worker_stderr)

    def _run(self, run: int, job: Job, on_moment: Callable[[Moment], None], worker_stderr: int) -> Result:
        began = time.monotonic()
        self._tracing = open_tracing(self.settings, f"load-{os.getpid()}@{socket.gethostname()}")
        if isinstance(self.staging, LocalStaging):
            self.staging.sweep()
        self.ledger.life.forget(self.settings.events_days * 86_400)
        with about(run=run), self._recorded(run), ExitStack() as stack:
            work = self._work
            if work is None and job.wait:
                work = stack.enter_context(Working(self.settings, self.ledger, worker_stderr, self._ahead))
            watch = Watch(settings=self.settings, ledger=self.ledger, run=run, work=work, on_moment=on_moment)
            counts, deleted, refused = self._stage(run, job, watch)
            moment = watch.look(counts, staging=False)
            while job.wait and moment.progress.open:
                watch.wait()
                moment = watch.look(counts, staging=False)
            if job.wait:
                self._remove(watch, counts)
            else:
                self.ledger.runs.staged(run)
                queue_now(self.settings, self.ledger)
            embedders = [row for row in self.ledger.registry.workers() if row.role == Stage.EMBED and row.device]
            if work and work is not self._work:
                work.done()
        result = Result(
            run=run,
            counts=counts,
            progress=self.ledger.report.progress(run),
            failures=self.ledger.report.failures(run, limit=1000),
            seconds=time.monotonic() - began,
            worker=embedders[0] if embedders else None,
            model=self.prepare().collection.model,
            deleted=deleted,
            refused=refused,
            skipped=self.ledger.report.skipped(run),
            losses=self.ledger.losses.summary(run),
        )
        if job.wait:
            partly = "partly" if result.progress.states.get(DocumentState.QUARANTINED) else "done"
            self.ledger.runs.end(run, "refused" if refused else partly, refused)
            if job.source and not refused:
                self.ledger.sources.synced(job.source, job.scope.uris()[0])
        return result

    def _stage(self, run: int, job: Job, watch: Watch) -> tuple[LoadCounts, int, str]:
        """List and stage; counts, how many documents were marked as deleted, and why none were."""
        while True:
            listed = Listed(job.scope.uris()) if job.sync else None
            step = self.step(checksum=job.checksum, meta=job.meta, records=job.records, listed=listed)
            try:
                with about(stage="load"):
                    counts = step.run(run, job.scope, watch.window)
                self._mark_gone(run, job.scope.gone)
                return counts, *(self._mark_vanished(run, job, listed) if listed is not None else (0, ""))
            except CollectionReplaced:  # by a re-index, while we listed; what it knew by then it has taken along
                self._prepared = None

    @contextmanager
    def _recorded(self, run: int) -> Iterator[None]:
        """Have the ledger say why a run failed."""
        try:
            yield
        except KeyboardInterrupt:
            with suppress(KbError):
                self.ledger.runs.end(run, "interrupted", "it was stopped by a signal; the next load continues its work")
            raise
        except KbError as error:
            with suppress(KbError):  # it may be the ledger that failed
                self.ledger.runs.end(run, "failed", str(error))
            raise

    def _mark_vanished(self, run: int, job: Job, listed: Listed) -> tuple[int, str]:
        """Mark the documents that no longer exist in the source; return how many, and the human-readable reason for a refusal."""
        generation = self.prepare().collection.name
        ratio = self.settings.max_delete_ratio
        found = vanished(self.ledger, generation, job.scope, listed, ratio, allow=job.allow_delete)
        deleted = self.ledger.removal.mark(generation, [document.id for document in found.documents])
        self.ledger.runs.update(run, deleted=deleted)
        return deleted, found.refused

    def _mark_gone(self, run: int, uris: Sequence[str]) -> None:
        """Mark the documents at these URIs, whose files no longer exist, as deleted."""
        if uris:
            generation = self.prepare().collection.name
            known = self.ledger.removal.named(generation, uris)
            self.ledger.runs.update(run, deleted=self.ledger.removal.mark(generation, [one.id for one in known]))

    def _remove(self, watch: Watch, counts: LoadCounts) -> None:
        """Remove what is marked, and wait for workers that still hold some of it."""
        with Remover(self.settings, self.ledger, self.prepare().collection.name) as remover:
            while remover.left():
                watch.look(counts, staging=False)
                time.sleep(watch.pause_s)


class Watch:
    """Looks at a run now and then, and spends no more than a tenth of the time on it."""

    def __init__(
        self, settings: Settings, ledger: Ledger, run: int, work: Working | None, on_moment: Callable[[Moment], None]
    ) -> None:
        self._settings = settings
        self._work = work
        self._on_moment = on_moment
        self._ledger = ledger
        self._run = run
        self._lookout = Lookout(settings, ledger, run, begins=True)

    @property
    def pause_s(self) -> float:
        """Seconds until the next look."""
        return self._lookout.pause_s

    def wait(self) -> None:
        """Wait until the next look, or until the run has no open document: nobody should wait for the end of a load."""
        while (left_s := self._lookout.next - time.monotonic()) > 0:
            time.sleep(min(left_s, END_EVERY_S))
            if not self._ledger.kept.get(("open", self._run), lambda: self._ledger.report.is_open(self._run)):
                return

    def window(self, counts: LoadCounts) -> None:
        """Look if it is time to, between two windows of files that are being staged."""
        if time.monotonic() >= self._lookout.next:
            self.look(counts, staging=True)

    def look(self, counts: LoadCounts, *, staging: bool) -> Moment:
        """Tend the workers, and say how things stand; raises what they raise, and TooManyFailures."""
        trouble, own_workers = (self._work.tend(), self._work.owns_workers) if self._work else ("", False)
        moment = self._lookout.look(counts, staging=staging, trouble=trouble, own_workers=own_workers)
        self._on_moment(moment)
        self._check_failures(moment, counts)
        return moment

    def _check_failures(self, moment: Moment, counts: LoadCounts) -> None:
        """Stop a run whose documents fail in numbers: the fault is elsewhere, and thousands more would only hide it."""
        settings, states = self._settings, moment.progress.states
        # Those that failed in earlier runs, and have not changed since, say nothing about this one.
        failed = states.get(DocumentState.QUARANTINED, 0) - counts.refused
        finished = failed + states.get(DocumentState.INDEXED, 0)
        if too_many(settings, failed, finished):
            reasons = ", ".join(sorted({failure.reason for failure in moment.failures}))
            raise TooManyFailures(
                f"{failed} of {finished} documents failed ({reasons}), more than KB_MAX_FAILURE_RATIO "
                f"{settings.max_failure_ratio:g} allows; "
                "see `kb-ingest quarantine list`, fix the cause, then `kb-ingest retry` and load again"
            )


def too_many(settings: Settings, failed: int, finished: int) -> bool:
    """Whether more documents of a run have failed than KB_MAX_FAILURE_RATIO allows: the fault is elsewhere."""
    return finished >= settings.max_failure_floor and failed > settings.max_failure_ratio * finished
