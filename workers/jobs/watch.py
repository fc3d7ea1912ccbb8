"""Keeps a collection equal to a folder while it runs: a sync after every burst of changes, and one now and then."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import ConfigError, KbError, SourceBusy, SourceError, TooManyFailures, TransientError
from pipeline.files.errors import translating
from pipeline.files.lock import FileLock
from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.sources.changes import Changes, Interest
from pipeline.sources.mounts import remote_type
from pipeline.text import duration
from workers.jobs.crew import Working
from workers.jobs.load import Loading, Result
from workers.jobs.sources import Job, source_job
from workers.monitoring.snapshot import Moment

#: Seconds between two checks of the workers while nothing changes.
TEND_EVERY_S = 1.0

#: First and maximum pause after a sync that failed, in seconds; it doubles each time.
AGAIN_FIRST_S, AGAIN_MAX_S = 2.0, 60.0

#: Errors that may be over the next time; after any other one somebody must act.
PASSING = (TransientError, SourceError, TooManyFailures)


@dataclass(frozen=True, slots=True)
class Options:
    """How a source is watched."""

    allow_delete: bool = False  #: as of a sync, but never for a folder that has become empty
    poll: bool | None = None  #: look at all files instead of waiting for notifications; None: where the file system needs it
    poll_every_s: float = 5.0
    full_every_s: float = 3600.0  #: a sync after this time, whether or not changes were reported


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told what happens."""

    on_begin: Callable[[str], None]  #: how changes are noticed, once it is so
    on_result: Callable[[Result], None]
    on_moment: Callable[[Moment], None]
    on_trouble: Callable[[str], None]  #: an error that is tried again, human-readable


class Watching:
    """Watches one source, with workers that stay warm between changes where no other process has any."""

    def __init__(self, settings: Settings, ledger: Ledger, name: str, options: Options, watcher: Watcher) -> None:
        """Raises SourceError for a source that does not exist or is no folder."""
        found, job = source_job(ledger, settings, name)
        _folder(job)
        self._settings = settings.model_copy(update={"collection": found.collection})
        self._ledger = ledger
        self._name = name
        self._options = options
        self._watcher = watcher
        self._next = 0.0  #: when a sync is due without any change, monotonic
        self._failed = 0  #: syncs in a row
        self._begun = ""  #: what was told last about how changes are noticed

    def run(self) -> None:
        """Sync at once and after every change, until interrupted.

        Raises SourceBusy if the source is being watched already, and errors that last, such as ConfigError when it was removed.
        """
        with ExitStack() as stack:
            self._lock(stack)
            work = stack.enter_context(Working(self._settings, self._ledger))
            while True:
                try:
                    with self._changes() as changes:
                        self._follow(changes, work)
                except PASSING as error:
                    self._fail(error)
                    self._rest(work)

    def _lock(self, stack: ExitStack) -> None:
        """Watch alone in this data folder. Watchers on several hosts take turns by the lease that each of their syncs holds."""
        folder = self._settings.data_dir / "locks"
        name = hashlib.sha256(self._name.encode()).hexdigest()[:16]
        with translating(folder):
            folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"watch-{name}.lock")
        if not lock.take():
            raise SourceBusy(f"source {self._name!r} is being watched by another `kb-ingest watch`; stop it first")
        stack.callback(lock.release)

    def _job(self) -> Job:
        """The source as it is now; raises ConfigError when it was removed meanwhile."""
        if self._ledger.sources.get(self._name) is None:
            raise ConfigError(f"source {self._name!r} was removed while it was being watched")
        return source_job(self._ledger, self._settings, self._name)[1]

    def _changes(self) -> Changes:
        """Notifications for the source's folder, or polling where there are none."""
        job = self._job()
        try:
            root = _folder(job).expanduser().resolve(strict=True)
        except OSError as error:
            raise SourceError(f"cannot read {job.scope.roots[0]}: {error.strerror}") from error
        interest = Interest(root, job.scope.patterns, job.scope.elsewhere)
        kind = remote_type(root) if self._options.poll is None else ""
        if not kind and not self._options.poll:
            self._tell(f"watching {root}")
            return Changes(interest, poll_every_s=self._options.poll_every_s)
        every = duration(self._options.poll_every_s, rough=self._options.poll_every_s >= 1)
        self._tell(f"watching {root}, looking every {every}" + (f" (file system {kind})" if kind else ""))
        return Changes(interest, poll=True, poll_every_s=self._options.poll_every_s)

    def _tell(self, how: str) -> None:
        if how != self._begun:
            self._begun = how
            self._watcher.on_begin(how)

    def _follow(self, changes: Changes, work: Working) -> None:
        """Sync whenever it is due, until the folder is another one."""
        while not changes.lost:
            if changes.due() or time.monotonic() >= self._next:
                changes.take()  # before the listing: a change during the sync is one after it
                self._sync(work)
            else:
                changes.wait(min(TEND_EVERY_S, max(0.0, self._next - time.monotonic())))
                work.tend()
        changes.check()
        self._next = 0.0  # what happened between two watches is not known

    def _sync(self, work: Working) -> None:
        try:
            job = self._job()
            allow = self._options.allow_delete and not _is_empty(_folder(job))
            with Loading(self._settings, self._settings.collection, work=work) as loading:
                result = loading.run(replace(job, allow_delete=allow), self._watcher.on_moment)
        except PASSING as error:
            self._fail(error)
            return
        self._failed = 0
        self._next = time.monotonic() + self._options.full_every_s
        self._watcher.on_result(result)

    def _fail(self, error: KbError) -> None:
        """Report an error, and be due again after a pause that grows with errors in a row."""
        self._failed += 1
        pause_s = self._pause_s()
        self._next = time.monotonic() + pause_s
        self._watcher.on_trouble(f"{error}; next try in {duration(pause_s, rough=True)}")

    def _pause_s(self) -> float:
        return min(AGAIN_MAX_S, AGAIN_FIRST_S * 2.0 ** min(self._failed - 1, 10)) if self._failed else 0.0

    def _rest(self, work: Working) -> None:
        """Wait until the next try is due, and keep the workers running meanwhile."""
        while (left_s := self._next - time.monotonic()) > 0:
            time.sleep(min(TEND_EVERY_S, left_s))
            work.tend()


def _folder(job: Job) -> Path:
    """The root of a source that is a folder or file; raises SourceError for a URL."""
    root = job.scope.roots[0]
    if isinstance(root, Path):
        return root
    raise SourceError(f"{root} is no folder, so its changes cannot be watched; sync it on a schedule (`kb-ingest schedule add`)")


def _is_empty(folder: Path) -> bool:
    """Whether a folder has no entries, as one that is not mounted."""
    try:
        with os.scandir(folder.expanduser()) as entries:
            return next(entries, None) is None
    except NotADirectoryError:
        return False
    except OSError:
        return True
