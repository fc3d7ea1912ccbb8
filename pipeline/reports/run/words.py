"""Notes and names in reports."""

from __future__ import annotations

from pipeline.reports.run import PARTLY, RunReport
from pipeline.sources.uris import name_of
from pipeline.text import visible


def missing(report: RunReport) -> str:
    """Note for a report that lacks events of its run."""
    some = report.events == PARTLY
    return (
        f"{'Some' if some else 'All'} events of this run are missing: the ledger deletes the steps of documents after "
        "KB_STEPS_DAYS and the rest after KB_EVENTS_DAYS, and events after the end of a failed run do not count. Throughput, "
        "stages and single documents are "
        f"{'based on the remaining events' if some else 'unknown'}."
    )


def file_name(uri: str) -> str:
    """The name of the file or object at a URI."""
    return visible(name_of(uri))
