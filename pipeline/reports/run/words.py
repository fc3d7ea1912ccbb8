"""Human-readable numbers, times and names."""

from __future__ import annotations

import time

from pipeline.reports.run import PARTLY, RunReport
from pipeline.sources.uris import name_of
from pipeline.text import visible


def number(value: float) -> str:
    """`12,345`, `3.2`, `0.004`."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1 else f"{value:.3f}".rstrip("0")


def size(value: float) -> str:
    """`820 B`, `1.5 kB`, `12.0 MB`."""
    for unit, letters in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= unit:
            return f"{value / unit:,.1f} {letters}"
    return f"{value:,.0f} B"


def duration(seconds: float) -> str:
    """`0.25 s`, `41.2 s`, `12 min 3 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def moment(at: float) -> str:
    """A time in this machine's time zone, with the zone's name."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at))


def missing(report: RunReport) -> str:
    """Note for a report that lacks events of its run."""
    some = report.events == PARTLY
    return (
        f"{'Some' if some else 'All'} events of this run are missing: the ledger deletes them after KB_EVENTS_DAYS, and events "
        "after the end of a failed run do not count. Throughput, stages and single documents are "
        f"{'based on the remaining events' if some else 'unknown'}."
    )


def file_name(uri: str) -> str:
    """The name of the file or object at a URI."""
    return visible(name_of(uri))
