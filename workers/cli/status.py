"""`kb-ingest status`: the state of the work, and whether it is stuck."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

import rich_click as click

from pipeline.text import one_line, plural, visible
from workers.cli.context import Context, print_json
from workers.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ledger import Ledger
    from pipeline.ledger.losses import LossSummary, LossyDocument
    from workers.monitoring.snapshot import Lookout, Moment

#: Seconds between two moments of `--watch`.
WATCH_EVERY_S = 1.0

#: Max failures to list.
LISTED = 1000


@click.command()
@click.argument("run", type=int, required=False)
@click.option(
    "--watch", is_flag=True, help="Show the state live until Ctrl-C, or as a line every 5 seconds if stderr is not a terminal."
)
@click.option(
    "--document",
    metavar="URI",
    help="Show one document and what of it could not be read, by URI, id, path or the end of its URI.",
)
@json_option
@click.pass_obj
def status(context: Context, run: int | None, watch: bool, document: str | None, as_json: bool) -> int:
    """Show whether work is stuck, documents by state, queues, workers, failures and losses; of one RUN or of everything.

    The first line reports whether work is stuck: no (idle, starting, working, or paused by backpressure), or yes, with the
    likely cause (starved: no worker serves a queue; stalled: no progress).
    """
    from pipeline.errors import ConfigError
    from workers.monitoring.snapshot import Lookout

    with context.ledger() as (settings, ledger):
        if document is not None:
            return _one(ledger, document, as_json)
        if run is not None and ledger.runs.get(run) is None:
            raise ConfigError(f"run {run} does not exist; `kb-ingest runs` lists all runs")
        lookout = Lookout(settings, ledger, run)
        if watch:
            _watch(lookout, as_json)
        else:
            moment = lookout.look(failures=LISTED)
            losses = ledger.losses.summary(run)
            lossy = ledger.losses.documents(run, limit=LISTED) if losses else []
            print_json(_record(moment) | {"losses": losses.kinds, "lossy": lossy}) if as_json else _print(moment, losses, lossy)
    return 0


def _one(ledger: Ledger, document: str, as_json: bool) -> int:
    """Show the documents that the argument means; exit status 1 if there is none."""
    from pipeline.ledger.losses import told
    from pipeline.metadata import shown
    from workers.cli.life import standings

    found = standings(ledger, document)
    losses = {standing.id: ledger.losses.of(standing.id) for standing in found}
    if as_json:
        print_json(
            [
                {
                    **asdict(standing),
                    "properties": json.loads(standing.properties or "{}"),
                    "metadata": json.loads(standing.metadata or "{}"),
                    "losses": losses[standing.id],
                }
                for standing in found
            ]
        )
        return 0 if found else 1
    for standing in found:
        why = ": ".join(filter(None, (standing.reason, one_line(standing.detail))))
        click.echo(visible(standing.uri))
        click.echo(f"    {standing.state}{f' ({why})' if why else ''}, {plural(standing.chunks, 'chunk')} searchable")
        click.echo(
            visible(f"    {standing.media_type or 'not parsed yet'}, {plural(standing.size, 'byte')}, {standing.collection}")
        )
        for name, value in {**json.loads(standing.properties or "{}"), **json.loads(standing.metadata or "{}")}.items():
            click.echo(f"    {one_line(name)}: {one_line(shown(value))}")
        for loss in losses[standing.id]:
            where = f" at {one_line(loss.place)}" if loss.place else ""
            click.echo(f"    loss: {told({loss.kind: loss.count})}{where}{f' ({one_line(loss.detail)})' if loss.detail else ''}")
    if not found:
        click.echo(visible(f"error: no document in the ledger matches {document}"), err=True)
    return 0 if found else 1


def _watch(lookout: Lookout, as_json: bool) -> NoReturn:
    """Show one moment after another, until interrupted."""
    from workers.cli.display import progress_display

    if as_json:
        while True:
            print_json(_record(lookout.look(failures=LISTED)))
            time.sleep(max(WATCH_EVERY_S, lookout.pause_s))
    with progress_display() as display:
        while True:
            display(lookout.look())
            time.sleep(max(WATCH_EVERY_S, lookout.pause_s))


def _record(moment: Moment) -> dict[str, Any]:
    return {
        "stuck": moment.diagnosis.stuck,
        "verdict": moment.diagnosis.verdict,
        "why": moment.diagnosis.words,
        "documents": moment.progress.states,
        "chunks": {"parsed": moment.progress.parsed, "written": moment.progress.written},
        "rates": moment.rates,
        "left_s": None if moment.left_s is None else round(moment.left_s, 1),
        "parse_left_s": None if moment.parse_left_s is None else round(moment.parse_left_s, 1),
        "queues": {
            stage.value: {"depth": depth, "workers": sum(worker.role == stage for worker in moment.workers)}
            for stage, depth in moment.queues.items()
        },
        "workers": moment.workers,
        "failures": moment.failures,
    }


def _print(moment: Moment, losses: LossSummary, lossy: Sequence[LossyDocument]) -> None:
    from pipeline.ledger.losses import told
    from workers.cli.display import chunks, time_left

    record = _record(moment)
    left = f", about {words}" if (words := time_left(moment)) else ""
    click.echo(visible(f"stuck: {'YES' if moment.diagnosis.stuck else 'no'}, {moment.diagnosis}{left}"))
    click.echo("documents: " + (", ".join(f"{count} {state}" for state, count in sorted(record["documents"].items())) or "none"))
    if moment.progress.open:
        click.echo(f"chunks: {chunks(moment.progress)}, {moment.rates.chunks_per_s:.0f} chunks/s")
    for name, queue in record["queues"].items():
        depth = "does not answer" if queue["depth"] is None else f"{plural(queue['depth'], 'message')} waiting"
        click.echo(f"queue {name}: {depth}, {plural(queue['workers'], 'worker')}")
    for worker in moment.workers:
        device = f" on {worker.device} in {worker.dtype}, {worker.chunks_per_s:.0f} chunks/s at start" if worker.device else ""
        click.echo(f"worker {worker.name}: {worker.role}{device}{': ' + one_line(worker.note) if worker.note else ''}")
    for failure in moment.failures:
        why = f"{failure.reason}: {one_line(failure.detail)} ({plural(failure.starts, 'attempt')})"
        click.echo(f"quarantined: {visible(failure.uri)}: {why}")
    for document in lossy:
        click.echo(f"losses: {visible(document.uri)}: {told(document.kinds)}")
    if losses:
        click.echo(str(losses))
