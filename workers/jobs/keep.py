"""Loads that a service was asked for: staged at once, then watched to their end by one thread, with workers if nobody has any."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import replace

from pipeline.errors import KbError, SourceBusy
from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.store.base import VectorStore
from pipeline.text import plural
from pipeline.types import DocumentState
from workers.jobs.crew import Remover, Working
from workers.jobs.load import Loading, too_many
from workers.jobs.sources import Job
from workers.monitoring.snapshot import Moment

log = logging.getLogger(__name__)

#: Seconds between two looks at the loads that are open.
LOOK_EVERY_S = 0.5

#: Seconds that a caller waits for a load to begin.
BEGIN_S = 10.0

#: Seconds that loads which are being staged get to end when the service stops.
CLOSE_S = 10.0

#: Outcome of a load that was cancelled.
CANCELLED = "cancelled"

#: Why a load failed whose service ended too early.
INTERRUPTED = "the service ended before it had listed everything; load this again"


class _Ended(Exception):
    """The load was cancelled, or the service stopped, while files were listed and staged."""


class Keeper:
    """Begins, watches and cancels loads. What is staged is safe: a service that dies leaves it to the next one, or to workers."""

    def __init__(self, settings: Settings, ledger: Ledger, store: VectorStore) -> None:
        self._settings = settings
        self._ledger = ledger
        self._store = store
        self._lock = threading.Lock()
        self._open: set[int] = set()  #: runs that are staged and not finished
        self._staging: set[Loading] = set()
        self._given_up: set[Loading] = set()  #: that did not begin in time
        self._cancelled: set[int] = set()  #: runs, also those that are being staged
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="jobs", daemon=True)

    def start(self) -> None:
        """Watch, the loads of an earlier service included."""
        self._open.update(run.id for run in self._ledger.runs.unfinished())
        self._changed.set()
        self._thread.start()

    def close(self) -> None:
        """Stop watching; workers of ours end, and their documents wait for others."""
        self._stopping.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join()
        deadline = time.monotonic() + CLOSE_S
        while self._staging and time.monotonic() < deadline:
            time.sleep(0.02)

    def load(self, collection: str, job: Job) -> int:
        """Stage what a job names, and return its run when everything is staged. Raises what a load raises."""
        with Loading(self._settings, collection) as loading:
            return self._stage(loading, job)

    def begin(self, collection: str, job: Job) -> int:
        """Begin a load that may take long to list; return its run. Raises what a load raises before it begins."""
        failed: list[Exception] = []
        loading = Loading(self._settings, collection)

        def stage() -> None:
            try:
                with loading:
                    self._stage(loading, job)
            except Exception as error:
                failed.append(error)
                if loading.run_id is not None:
                    log.warning("run %d: %s", loading.run_id, error, exc_info=None if isinstance(error, KbError) else error)

        thread = threading.Thread(target=stage, name="load", daemon=True)
        thread.start()
        deadline = time.monotonic() + BEGIN_S
        while loading.run_id is None and thread.is_alive() and time.monotonic() < deadline:
            thread.join(0.02)
        if loading.run_id is not None:
            return loading.run_id
        self._given_up.add(loading)
        raise failed[0] if failed else SourceBusy("another run may still be loading this; try again")

    def cancel(self, run: int) -> None:
        """End a load: documents that were never searchable are dropped, changed ones are finished."""
        with self._lock:
            self._cancelled.add(run)
            is_staging = any(loading.run_id == run for loading in self._staging)
        if not is_staging:  # otherwise its thread drops them when it has stopped
            self._drop(run)

    def _drop(self, run: int) -> None:
        dropped = self._ledger.removal.unindexed(run)
        for generation in sorted({one for _, one in dropped}):
            self._ledger.removal.mark(generation, [key for key, one in dropped if one == generation])
        self._ledger.runs.end(run, CANCELLED, f"{plural(len(dropped), 'document')} dropped")
        with self._lock:
            self._open.discard(run)
        self._remove()

    def _stage(self, loading: Loading, job: Job) -> int:
        """Stage what a job names; return its run, which is to be watched unless it was ended meanwhile."""

        def show(_moment: Moment) -> None:
            if self._stopping.is_set() or loading in self._given_up or loading.run_id in self._cancelled:
                raise _Ended

        with self._lock:
            self._staging.add(loading)
        is_whole = False
        try:
            loading.run(replace(job, wait=False), show)
            is_whole = True
        except _Ended:
            pass
        except Exception as error:
            if loading.run_id is not None and not isinstance(error, KbError):  # those are recorded
                self._ledger.runs.end(loading.run_id, "failed", "a fault of the service; its log has the reason")
            raise
        finally:
            with self._lock:
                self._staging.discard(loading)
        run = loading.run_id
        assert run is not None
        if run in self._cancelled:
            self._drop(run)
        elif not is_whole:
            self._ledger.runs.end(run, "failed", INTERRUPTED)
        else:
            with self._lock:
                self._open.add(run)
            self._changed.set()
        return run

    def _watch(self) -> None:
        while not self._stopping.is_set():
            self._changed.wait()
            self._changed.clear()
            while self._open and not self._stopping.is_set():
                try:
                    with Working(self._settings, self._ledger) as work:
                        self._tend(work)
                except KbError as error:  # nothing can work: the reason belongs to every load
                    log.error("%s", error)
                    for run in sorted(self._open):
                        self._close(run, "failed", str(error))
                except Exception:
                    log.exception("cannot watch the loads; trying again")
                    self._stopping.wait(LOOK_EVERY_S)

    def _tend(self, work: Working) -> None:
        while self._open and not self._stopping.is_set():
            if trouble := work.tend():
                log.warning("%s", trouble)
            for run in sorted(self._open):
                self._look(run)
            self._stopping.wait(LOOK_EVERY_S)
        if not self._stopping.is_set():
            work.done()

    def _look(self, run: int) -> None:
        row = self._ledger.runs.get(run)
        if row is None or row.finished_at is not None:  # another service has seen to it
            with self._lock:
                self._open.discard(run)
            return
        if row.staged_at is None:  # begun by a service that may have died
            if not self._ledger.holds.is_held(run):
                self._close(run, "failed", INTERRUPTED)
            return
        progress = self._ledger.report.progress(run)
        failed = progress.states.get(DocumentState.QUARANTINED, 0)
        stops = too_many(self._settings, failed, failed + progress.states.get(DocumentState.INDEXED, 0))
        if progress.open and not stops:
            return
        why = f"{plural(failed, 'document')} failed, more than KB_MAX_FAILURE_RATIO allows" if stops else ""
        self._close(run, "failed" if stops else ("partly" if failed else "done"), why)

    def _close(self, run: int, outcome: str, detail: str) -> None:
        with self._lock:
            self._open.discard(run)
        self._remove()
        with suppress(KbError):  # the next service finds it unfinished, and ends it
            self._ledger.runs.end(run, outcome, detail)

    def _remove(self) -> None:
        """Delete the points of documents that were dropped, as far as no worker holds them."""
        try:
            with Remover(self._settings, self._ledger, store=self._store) as remover:
                remover.left()
        except KbError as error:
            log.warning("cannot remove deleted documents from the store yet: %s", error)
