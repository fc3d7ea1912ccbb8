"""`kb-ingest logs --document`: the history of one document."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from pipeline.text import duration, local_time, one_line, plural, visible
from workers.cli.context import Context, print_json
from workers.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ledger import Ledger
    from pipeline.ledger.life import Event, Standing


@click.command()
@click.option("--document", required=True, metavar="URI", help="URI, id or path of a document, or the end of its URI or path.")
@json_option
@click.pass_obj
def logs(context: Context, document: str, as_json: bool) -> int:
    """Show the history of a document from the ledger: every state with its time, worker, duration and reason.

    Events older than KB_EVENTS_DAYS are deleted, and by `gc` the steps of documents that ended before KB_STEPS_DAYS. Exit status 1
    if no document is found.
    """
    with context.ledger() as (_, ledger):
        found = standings(ledger, document)
        lives = [(standing, ledger.life.of(standing.id)) for standing in found]
    if as_json:
        print_json([_record(*life) for life in lives])
    for life in lives if not as_json else ():
        click.echo("\n".join(map(visible, _lines(*life))))
    if not lives:
        click.echo(visible(f"error: no document in the ledger matches {document}"), err=True)
    return 0 if lives else 1


def standings(ledger: Ledger, document: str) -> list[Standing]:
    """The documents that a command's argument means; those that were deleted only where no other fits."""
    tried = (look(one) for look in (ledger.life.find, ledger.life.gone) for one in _meanings(document))
    return next(filter(None, tried), [])


def _meanings(document: str) -> list[str]:
    """Possible URIs of the argument, the most likely first: a path relative to the working directory, then the text itself.

    Roots are loaded under their real paths; a link below a root is loaded under its own name.
    """
    from pipeline.sources.uris import uri_of

    path = Path(document).absolute()
    # realpath, because Path.resolve fails on circular links.
    places = (path, Path(os.path.realpath(path.parent), path.name), Path(os.path.realpath(path)))
    return [*dict.fromkeys(map(uri_of, places)), document]


def _record(standing: Standing, events: Sequence[Event]) -> dict[str, Any]:
    lasted = _durations(events)
    return {**asdict(standing), "events": [{**asdict(event), "seconds": s} for event, s in zip(events, lasted, strict=True)]}


def _durations(events: Sequence[Event]) -> list[float]:
    """The duration of each state in seconds; the last one lasts until now."""
    ends = [*(event.at for event in events[1:]), time.time()]
    return [round(max(0.0, end - event.at), 3) for event, end in zip(events, ends, strict=False)]


def _lines(standing: Standing, events: Sequence[Event]) -> list[str]:
    kind = ", ".join(filter(None, (standing.media_type, f"{standing.size:,} bytes", f"generation {standing.collection}")))
    lines = [f"{standing.uri} ({kind})"]
    if not events:
        lines.append("  no events: the last one is older than KB_EVENTS_DAYS, or older than the ledger's record of events")
    run = None
    for event, seconds in zip(events, _durations(events), strict=True):
        if event.run != run:
            run = event.run
            lines.append(f"  run {run}")
        at, lasted = local_time(event.at, milliseconds=True), duration(seconds)
        lines.append(f"    {at}  {event.state:11} {lasted:>12}  {_told(event)}".rstrip())
    worker = f" by {standing.worker}, which showed progress {standing.beat_s:.0f} s ago" if standing.beat_s is not None else ""
    why = ": ".join(filter(None, (standing.reason, one_line(standing.detail))))
    starts = f", {plural(standing.starts, 'attempt')}" if standing.starts else ""
    lines.append(
        f"  now: {standing.state}{worker}{f' ({why})' if why else ''}, {plural(standing.chunks, 'chunk')} searchable{starts}"
    )
    return lines


def _told(event: Event) -> str:
    """The worker, the result, and the reason."""
    parts = [event.owner]
    if event.chunks is not None:
        parts.append(
            f"{plural(event.chunks, 'chunk')}, {event.embedded} of them embedded, {plural(event.tokens or 0, 'token')}; "
            f"parser {event.parse_s:.2f} s, embedding {event.embed_s:.2f} s"
        )
    parts.append(": ".join(filter(None, (event.reason, one_line(event.detail)))))
    return "  ".join(filter(None, parts))
