"""`kb-ingest status`: what stands where."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import rich_click as click

from workers.cli.context import Context, print_json

if TYPE_CHECKING:
    from pipeline.ledger import Ledger
    from pipeline.settings import Settings

#: Seconds between two pictures of `--watch`.
WATCH_EVERY_S = 2.0


@click.command()
@click.argument("run", type=int, required=False)
@click.option("--watch", is_flag=True, help="Print it again every 2 seconds, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value on stdout.")
@click.pass_obj
def status(context: Context, run: int | None, watch: bool, as_json: bool) -> None:
    """Show documents by state, queues, workers and failures; of one RUN or of everything."""
    from pipeline.errors import ConfigError
    from pipeline.ledger import Ledger

    settings = context.settings("error").prepare()
    ledger = Ledger.open(settings.ledger_url)
    if run is not None and ledger.report.run(run) is None:
        raise ConfigError(f"there is no run {run}")
    while True:
        record = _record(settings, ledger, run)
        if watch and not as_json:
            click.clear()
        print_json(record) if as_json else _print(record)
        if not watch:
            return
        time.sleep(WATCH_EVERY_S)


def _record(settings: Settings, ledger: Ledger, run: int | None) -> dict[str, Any]:
    from pipeline.errors import BrokerUnavailable
    from pipeline.ledger.flow import Stage
    from workers.app import make_app
    from workers.broker import Broker

    broker = Broker(make_app(settings))
    workers = ledger.report.workers()
    queues: dict[str, dict[str, int | None]] = {}
    for stage in Stage:
        try:
            depth = broker.depth(stage)
        except BrokerUnavailable:
            depth = None
        queues[stage.value] = {"depth": depth, "workers": sum(worker.role == stage for worker in workers)}
    return {
        "documents": ledger.report.progress(run).states,
        "queues": queues,
        "workers": workers,
        "failures": ledger.report.failures(run, limit=1000),
    }


def _print(record: dict[str, Any]) -> None:
    click.echo("documents: " + (", ".join(f"{count} {state}" for state, count in sorted(record["documents"].items())) or "none"))
    for name, queue in record["queues"].items():
        depth = "does not answer" if queue["depth"] is None else f"{queue['depth']} messages wait"
        click.echo(f"queue {name}: {depth}, {queue['workers']} workers")
    for worker in record["workers"]:
        device = f" on {worker.device} in {worker.dtype}, {worker.chunks_per_s:.0f} chunks/s at start" if worker.device else ""
        click.echo(f"worker {worker.name}: {worker.role}{device}{': ' + worker.note if worker.note else ''}")
    for failure in record["failures"]:
        click.echo(f"quarantined: {failure.uri}: {failure.reason}: {failure.detail} ({failure.starts} starts)")
