"""`kb-ingest runs`: list past runs, each compared with the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from pipeline.text import duration, local_time, one_line, plural, visible
from workers.cli.context import Context, print_json
from workers.cli.options import json_option

if TYPE_CHECKING:
    from pipeline.ledger.runs import Past, RunFigures


@click.command()
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of runs.")
@click.option("--schedule", metavar="NAME", help="List only runs of this schedule.")
@click.option("--source", metavar="NAME", help="List only runs of this source.")
@json_option
@click.pass_obj
def runs(context: Context, limit: int, schedule: str | None, source: str | None, as_json: bool) -> None:
    """List loads, syncs, checks and deletions, newest first.

    Each run is compared with the previous run of the same action, source and collection.
    """
    with context.ledger() as (_, ledger):
        found = ledger.runs.history(limit, schedule, source)
    if as_json:
        print_json([record(past) for past in found])
        return
    for past in found:
        click.echo(line(past))
    if not found:
        click.echo("no runs yet; `kb-ingest load PATH` starts one")


def record(past: Past) -> dict[str, Any]:
    """A run as JSON."""
    run, figures = past.run, past.figures
    return {
        "run": run.id, "action": run.action, "source": run.source, "schedule": run.schedule, "collection": run.collection,
        "started_at": run.started_at, "seconds": past.seconds, "outcome": past.outcome, "detail": run.detail,
        "discovered": run.discovered, "unchanged": run.unchanged, "added": run.added, "changed": run.changed,
        "deleted": run.deleted, "indexed": run.indexed, "quarantined": run.quarantined, "embedded": run.embedded,
        "bytes": run.bytes, "figures": figures, "previous": past.before, "difference": past.difference,
    }  # fmt: skip


def line(past: Past) -> str:
    """A run in two or three lines of text."""
    run = past.run
    subject = run.source or run.collection
    why = f" by schedule {run.schedule}" if run.schedule else ""
    took = f" after {duration(past.seconds)}" if past.seconds is not None else ""
    began = local_time(run.started_at)
    lines = [f"run {run.id}: {run.action} of {subject}{why}, {began}: {past.outcome}{took}"]
    if run.detail:
        lines.append(f"    {one_line(run.detail)}")
    if run.action not in ("verify", "gc"):
        lines.append(
            f"    {run.added} added, {run.changed} changed, {run.unchanged} unchanged, {run.deleted} deleted; "
            f"{run.indexed} indexed, {run.quarantined} quarantined, {plural(run.embedded, 'chunk')} embedded"
        )
    if past.figures is not None:
        lines.append(f"    {_compared(past.figures, past.difference)}" + (f" since run {past.before}" if past.before else ""))
    return "\n".join(map(visible, lines))


def _compared(figures: RunFigures, difference: RunFigures | None) -> str:
    """`120 documents (+2), 4010 chunks (+35), 0 failures (-1), 98.5 chunks/s (-3.2)`."""
    parts = []
    for name, noun in (("documents", "document"), ("chunks", "chunk"), ("failures", "failure"), ("chunks_per_s", "")):
        change = "" if difference is None else f" ({getattr(difference, name):+g})"
        value = getattr(figures, name)
        parts.append((plural(value, noun) if noun else f"{value:,} chunks/s") + change)
    return ", ".join(parts)
