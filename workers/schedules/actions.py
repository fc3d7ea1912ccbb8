"""What a schedule can do to a source: one function an action."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pipeline.ledger import Ledger
from pipeline.settings import Settings
from workers.jobs.load import Loading
from workers.jobs.sources import source_job
from workers.monitoring.snapshot import Moment

#: A check of documents that are being worked on says nothing: it is made so many times at most until nothing is.
CHECKS = 3

#: Seconds between two looks whether a collection is at rest.
REST_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Errand:
    """One run of a schedule."""

    source: str
    schedule: str
    still_ours: Callable[[], None]  #: raises LeaseLost when the run is no longer wanted; call it now and then
    show: Callable[[Moment], None]
    worker_stderr: int = 2  #: file descriptor for what worker processes say

    def look(self, moment: Moment) -> None:
        """Show where the run stands, if it is still ours; raises LeaseLost."""
        self.still_ours()
        self.show(moment)


def sync(settings: Settings, ledger: Ledger, errand: Errand) -> None:
    """Make the collection equal to the source."""
    found, job = source_job(ledger, settings, errand.source)
    with Loading(settings.model_copy(update={"collection": found.collection}), found.collection) as loading:
        loading.run(replace(job, schedule=errand.schedule), errand.look, errand.worker_stderr)


def reindex(settings: Settings, ledger: Ledger, errand: Errand) -> None:
    """Build the source's collection anew, as it is configured, and swap it in if it is not worse; one rollback is kept."""
    from workers.jobs.reindex import Change, Reindexing, prune

    found, _ = source_job(ledger, settings, errand.source)
    with Reindexing(settings, found.collection, Change(source=errand.source, schedule=errand.schedule)) as reindexing:
        result = reindexing.run(errand.look, errand.worker_stderr)
    if result.swapped:
        prune(settings, found.collection, keep=1)


def verify(settings: Settings, ledger: Ledger, errand: Errand) -> None:
    """Compare the store with the ledger, point by point, when nothing of the collection is being worked on."""
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
        ", ".join(f"{count} points {what}" for what, count in wrong.items() if count)
        + f"; `kb-ingest verify --collection {collection} --repair` mends it"
    )  # fmt: skip
    totals = (seen.documents, seen.actual_points, sum(wrong.values()))
    ledger.runs.end(run, "done" if seen.clean else "failed", detail, totals)


#: What can be scheduled, by name.
ACTIONS: Mapping[str, Callable[[Settings, Ledger, Errand], None]] = {"sync": sync, "reindex": reindex, "verify": verify}
