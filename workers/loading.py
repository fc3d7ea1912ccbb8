"""A whole load: stage, dispatch, wait; with workers of its own in embedded mode."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipeline.discover import Patterns
from pipeline.errors import BrokerUnavailable, CollectionMismatch, ConfigError, TooManyFailures
from pipeline.ledger import Ledger
from pipeline.ledger.flow import Stage
from pipeline.ledger.intake import Collection
from pipeline.ledger.report import Failure, Progress, WorkerRow
from pipeline.settings import Settings
from pipeline.stage import LocalStaging, Staging, open_staging
from pipeline.steps.load import Load, LoadCounts, Planned
from pipeline.types import DocumentState
from workers.app import make_app
from workers.broker import Broker
from workers.dispatch import Dispatcher, DispatchThread
from workers.pool import HostLock, Supervisor, bury, parse_processes, plan

#: Seconds between two looks at the run while waiting for it.
WAIT_EVERY_S = 0.25

#: A look at a run of a million documents takes a while; this many times as long passes until the next.
LOOK_PAUSE = 10

#: Seconds between two sweeps of the dispatcher of a command that waits.
SWEEP_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Prepared:
    """What decides whether a document must be worked on again."""

    collection: Collection
    parse_fingerprint: str
    embed_fingerprint: str


@dataclass(frozen=True, slots=True)
class Moment:
    """A run as it stands, for displays."""

    counts: LoadCounts
    progress: Progress
    failures: list[Failure]
    workers: list[WorkerRow]
    staging: bool  #: files are still being discovered
    trouble: str  #: why nothing moves, in words; empty while all is well


@dataclass(frozen=True, slots=True)
class Result:
    """A finished load."""

    run: int
    counts: LoadCounts
    progress: Progress
    failures: list[Failure]
    seconds: float
    worker: WorkerRow | None  #: an embed worker that served it


class Loading:
    """Everything a load needs, opened once; a context manager."""

    def __init__(self, settings: Settings, collection: str) -> None:
        self.settings = settings.prepare()
        self.ledger = Ledger.open(settings.ledger_url)
        self.staging: Staging = open_staging(settings.staging_location)
        self._name = collection
        self._prepared: Prepared | None = None

    def __enter__(self) -> Loading:
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()

    def prepare(self, *, create: bool = True) -> Prepared:
        """Resolve the model and the collection; `create` records a new one.

        Raises ModelError, and CollectionMismatch when the collection was made with another model.
        """
        if self._prepared is None:
            self._prepared = prepare(self.settings, self.ledger, self._name, create=create)
        return self._prepared

    def step(self, *, checksum: bool = False) -> Load:
        """The staging step for this collection."""
        prepared = self.prepare()
        return Load(
            self.ledger, self.staging, self._name, prepared.parse_fingerprint, prepared.embed_fingerprint,
            max_file_bytes=self.settings.max_file_bytes, checksum=checksum,
        )  # fmt: skip

    def plan(self, roots: Sequence[Path], patterns: Patterns) -> Iterator[Planned]:
        """What a load would do, file by file; changes nothing."""
        self.prepare(create=False)
        return self.step().plan(roots, patterns)

    def run(
        self, roots: Sequence[Path], patterns: Patterns, *, wait: bool, checksum: bool, on_moment: Callable[[Moment], None],
        worker_stderr: int = 2,
    ) -> Result:  # fmt: skip
        """Stage everything, and wait until nothing of this run is open any more unless told not to.

        Interrupting it at any point loses nothing: another run, or any worker, goes on from the ledger. Raises what the
        stages raise, and ConfigError when the only embed worker says that it cannot work.
        """
        began = time.monotonic()
        step = self.step(checksum=checksum)
        if isinstance(self.staging, LocalStaging):
            self.staging.sweep()
        run = self.ledger.intake.start_run(self._name)
        with ExitStack() as stack:
            work = stack.enter_context(Working(self.settings, self.ledger, worker_stderr)) if wait else None

            watch = Watch(self.settings, self.ledger, run, work, on_moment)
            counts = step.run(run, roots, patterns, watch.window)
            moment = watch.look(counts, staging=False)
            while wait and moment.progress.open:
                time.sleep(watch.pause_s)
                moment = watch.look(counts, staging=False)
            self.ledger.intake.update_run(
                run, discovered=counts.discovered, unchanged=counts.unchanged, staged_bytes=counts.bytes, finished=wait
            )
            if not wait:
                _queue(self.settings, self.ledger)
            embedders = [row for row in self.ledger.report.workers() if row.role == Stage.EMBED and row.device]
            if work:
                work.done()
        return Result(
            run, counts, self.ledger.report.progress(run), self.ledger.report.failures(run, limit=1000),
            time.monotonic() - began, embedders[0] if embedders else None,
        )  # fmt: skip


class Watch:
    """Looks at a run now and then, and spends no more than a tenth of the time on it."""

    def __init__(
        self, settings: Settings, ledger: Ledger, run: int, work: Working | None, on_moment: Callable[[Moment], None]
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._run = run
        self._work = work
        self._on_moment = on_moment
        self._next = 0.0  #: monotonic
        self.pause_s = WAIT_EVERY_S  #: until the next look

    def window(self, counts: LoadCounts) -> None:
        """Look if it is time to, between two windows of files that are being staged."""
        if time.monotonic() >= self._next:
            self.look(counts, staging=True)

    def look(self, counts: LoadCounts, *, staging: bool) -> Moment:
        """Tend the workers, and say how things stand; raises what they raise, and TooManyFailures."""
        trouble = self._work.tend() if self._work else ""
        report, began = self._ledger.report, time.monotonic()
        moment = Moment(counts, report.progress(self._run), report.failures(self._run, limit=5), report.workers(), staging, trouble)
        self.pause_s = max(WAIT_EVERY_S, LOOK_PAUSE * (time.monotonic() - began))
        self._next = time.monotonic() + self.pause_s
        self._on_moment(moment)
        self._check_failures(moment)
        return moment

    def _check_failures(self, moment: Moment) -> None:
        """Stop a run whose documents fail in numbers: the fault is elsewhere, and thousands more would only hide it."""
        settings, states = self._settings, moment.progress.states
        # Those that failed in earlier runs, and have not changed since, say nothing about this one.
        failed = states.get(DocumentState.QUARANTINED, 0) - moment.counts.refused
        finished = failed + states.get(DocumentState.INDEXED, 0)
        if finished >= settings.max_failure_floor and failed > settings.max_failure_ratio * finished:
            reasons = ", ".join(sorted({failure.reason for failure in moment.failures}))
            raise TooManyFailures(
                f"{failed} of {finished} documents failed ({reasons}), more than KB_MAX_FAILURE_RATIO "
                f"{settings.max_failure_ratio:g} allows; "
                "see `kb-ingest quarantine list`, mend the cause, then `kb-ingest retry` and load again"
            )


class Working:
    """Workers and dispatcher of a command that waits for work to be done; a context manager.

    In embedded mode the command runs workers itself, unless another one serves the data folder; when that one ends
    first, this one takes over.
    """

    def __init__(self, settings: Settings, ledger: Ledger, worker_stderr: int = 2) -> None:
        self._settings = settings
        self._worker_stderr = worker_stderr  #: file descriptor for what our workers say
        self._ledger = ledger
        self._stack = ExitStack()
        self._lock = HostLock(settings.data_dir) if settings.embedded_broker else None
        self._supervisor: Supervisor | None = None
        self._dispatch = DispatchThread(make_dispatcher(settings, ledger), SWEEP_EVERY_S)

    def __enter__(self) -> Working:
        if self._lock is not None:
            self._stack.callback(self._lock.release)
        self._serve()
        self._stack.enter_context(self._dispatch)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def tend(self) -> str:
        """Keep the workers running; return why nothing moves, in words, or nothing.

        Raises ConfigError when every embed worker says that it cannot work and waiting will not help.
        """
        self._serve()
        rows = self._ledger.report.workers()
        notes = [row.note for row in rows if row.role == Stage.EMBED]
        if notes and all(note.startswith("fatal:") for note in notes):
            raise ConfigError(notes[0].removeprefix("fatal: "))
        if self._dispatch.error is not None:
            return str(self._dispatch.error)
        if self._lock is None:
            for stage in Stage:
                if not any(row.role == stage for row in rows):
                    return f"no worker serves the queue {stage.value}: start one with `kb-ingest worker`"
        return next((row.note for row in rows if row.note and row.note != "starting"), "")

    def done(self) -> None:
        """Nothing is left to do: end our own workers without waiting for them."""
        if self._supervisor is not None and not self._ledger.flow.leases():
            self._supervisor.stop(idle=True)

    def _serve(self) -> None:
        if self._supervisor is not None:
            self._supervisor.tend()
        elif self._lock is not None and self._lock.acquire():
            specs = plan(self._settings, list(Stage))
            supervisor = Supervisor(
                self._settings, specs, bury(self._ledger, self._settings.max_starts), stderr=self._worker_stderr
            )
            self._supervisor = self._stack.enter_context(supervisor)


def make_dispatcher(settings: Settings, ledger: Ledger) -> Dispatcher:
    """A dispatcher over this configuration's broker."""
    return Dispatcher(ledger, Broker(make_app(settings)), settings, spread=4 * parse_processes(settings))


def _queue(settings: Settings, ledger: Ledger) -> None:
    """Queue what fits before the command ends; whoever dispatches next goes on."""
    try:
        make_dispatcher(settings, ledger).sweep()
    except BrokerUnavailable:
        return  # staged and in the ledger: nothing is lost, a worker's dispatcher will queue it


def prepare(settings: Settings, ledger: Ledger, name: str, *, create: bool) -> Prepared:
    """Fingerprints of this configuration, and the collection's row in the ledger; `create` records a new one.

    Raises ConfigError, ModelError, and CollectionMismatch when the collection was made with another model.
    """
    check_limits(settings)
    from pipeline.embed import embed_fingerprint, make_embedder
    from pipeline.guard import GuardOptions
    from pipeline.model import resolve_limit, resolve_model, resolve_tokenizer
    from pipeline.search import physical_name
    from pipeline.store import check_name

    check_name(name)
    if settings.embed_url:
        embedder = make_embedder(settings, device="cpu")
        dimension = embedder.info.dimension
        embedder.close()
    else:
        dimension = resolve_model(settings).dimension
    fingerprint = embed_fingerprint(settings, dimension)
    parse = GuardOptions.from_settings(settings, resolve_tokenizer(settings), resolve_limit(settings)).fingerprint()
    found = ledger.intake.collection(name)
    if found is None:
        new = Collection(
            name, physical_name(name, fingerprint), settings.model, settings.model_revision, dimension, fingerprint, "", time.time()
        )
        found = ledger.intake.add_collection(new) if create else new
    if found.fingerprint != fingerprint:
        raise CollectionMismatch(
            f"the collection {name!r} was made with {found.model} ({found.dimension} dimensions), KB_MODEL is {settings.model}; "
            "use another --collection, or set KB_MODEL back"
        )
    return Prepared(found, parse, fingerprint)


def check_limits(settings: Settings) -> None:
    """Refuse settings that contradict each other; raises ConfigError."""
    if settings.chunk_overlap >= settings.chunk_tokens // 2:
        raise ConfigError("KB_CHUNK_OVERLAP must be less than half of KB_CHUNK_TOKENS")
