"""The actions of schedules on a source: one function per action."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.text import plural
from workers.jobs.load import Loading
from workers.jobs.sources import source_job
from workers.monitoring.snapshot import Moment

#: Max checks of a collection until none of its documents is in progress; a check during work proves nothing.
CHECKS = 3

#: Seconds between two checks whether a collection is at rest.
REST_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Errand:
    """One run of a schedule."""

    source: str
    schedule: str
    still_ours: Callable[[], None]  #: raises LeaseLost if the run is no longer wanted; call it regularly
    show: Callable[[Moment], None]
    worker_stderr: int = 2  #: file descriptor for the output of worker processes

    def look(self, moment: Moment) -> None:
        """Show the state of the run, if it is still ours; raises LeaseLost."""
        self.still_ours()
        self.show(moment)


def sync(settings: Settings, ledger: Ledger, errand: Errand) -> None:
    """Make the collection equal to the source."""
    found, job = source_job(ledger, settings, errand.source)
    with Loading(settings.model_copy(update={"collection": found.collection}), found.collection) as loading:
        loading.run(replace(job, schedule=errand.schedule), errand.look, errand.worker_stderr)


def reindex(settings: Settings, ledger: Ledger, errand: Errand) -> None:
    """Rebuild the source's collection as configured, and swap it in if it is not worse; keeps one generation for rollback."""
    from workers.jobs.generations import prune
    from workers.jobs.reindex import Change, Reindexing

    found, _ = source_job(ledger, settings, errand.source)
    with Reindexing(settings, found.collection, Change(source=errand.source, schedule=errand.schedule)) as reindexing:
        result = reindexing.run(errand.look, errand.worker_stderr)
    if result.swapped:
        prune(settings, found.collection, keep=1)


def verify(settings: Settings, ledger: Ledger, errand: Errand) -> None:
    """Compare the store with the ledger, point by point, once the collection is at rest."""
    from pipeline.staging import open_staging
    from pipeline.steps import verify as step
    from pipeline.store import open_store
    from pipeline.store.names import open_physical

    found, _ = source_job(ledger, settings, errand.source)
    collection = found.collection
    live = ledger.collections.live_name(collection)
    run = ledger.runs.start(collection, "verify", errand.source, errand.schedule)
    store = open_store(settings, role="reader")
    try:
        for _ in range(CHECKS):
            while ledger.intake.open_documents(live, 1):
                errand.still_ours()
                time.sleep(REST_EVERY_S)
            physical = open_physical(store, collection)
            seen = step.verify(ledger, open_staging(settings.staging_location), store, live, physical)
            if seen.clean or not ledger.intake.open_documents(live, 1):
                break
    finally:
        store.close()
    errand.still_ours()
    wrong = {"missing": seen.missing, "orphaned": seen.orphans, "zero": seen.zero_vectors}
    detail = "" if seen.clean else (
        ", ".join(f"{plural(count, 'point')} {what}" for what, count in wrong.items() if count)
        + f"; `kb-ingest verify --collection {collection} --repair` fixes this"
    )  # fmt: skip
    totals = (seen.documents, seen.actual_points, sum(wrong.values()))
    ledger.runs.end(run, "done" if seen.clean else "failed", detail, totals)


def gc(settings: Settings, ledger: Ledger, errand: Errand) -> None:
    """Remove what nobody needs any more from the whole data folder; the run is recorded for the source's collection."""
    from workers.jobs.upkeep import collect, told

    found, _ = source_job(ledger, settings, errand.source)
    run = ledger.runs.start(found.collection, "gc", errand.source, errand.schedule)
    collected = collect(settings, ledger, on_step=errand.still_ours)
    errand.still_ours()
    ledger.runs.end(run, "done", "; ".join([f"removed: {told(collected)}", *collected.kept]))


#: What can be scheduled, by name.
ACTIONS: Mapping[str, Callable[[Settings, Ledger, Errand], None]] = {"sync": sync, "reindex": reindex, "verify": verify, "gc": gc}
