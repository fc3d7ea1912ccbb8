"""`kb-ingest worker` and `kb-ingest up`: the long-running processes of a host."""

from __future__ import annotations

import rich_click as click

from workers.cli.context import Context


@click.command()
@click.option("--stage", type=click.Choice(["parse", "embed"]), multiple=True, help="Serve only this queue; repeatable.")
@click.option("--require-gpu", is_flag=True, default=None, help="Fail instead of embedding on the CPU.")
@click.option("--until-empty", is_flag=True, help="Exit when all documents have been processed.")
@click.pass_obj
def worker(context: Context, stage: tuple[str, ...], require_gpu: bool | None, until_empty: bool) -> None:
    """Run this host's workers: parse processes, and one embed process per GPU or one for the CPU.

    Workers that die are restarted. SIGTERM and Ctrl-C stop them gracefully.
    """
    _serve(context, stage or ("parse", "embed"), require_gpu, until_empty)


@click.command()
@click.option("--require-gpu", is_flag=True, default=None, help="Fail instead of embedding on the CPU.")
@click.option("--until-empty", is_flag=True, help="Exit when all documents have been processed.")
@click.option("--yes", is_flag=True, help="Take the default answer if the model does not fit into memory.")
@click.pass_obj
def up(context: Context, require_gpu: bool | None, until_empty: bool, yes: bool) -> None:
    """Run everything this host needs: broker folder if no Redis is configured, dispatcher, workers, schedules.

    With --until-empty, schedules do not run.
    """
    from workers.cli.host import preflight

    preflight(context.settings(), yes=yes, docker=False)
    _serve(context, ("parse", "embed"), require_gpu, until_empty, schedules=not until_empty)


@click.command()
@click.pass_obj
def scheduler(context: Context) -> None:
    """Run schedules and the dispatcher, which fills the queues from the ledger and recovers work lost by workers and brokers.

    `kb-ingest up` does the same. Running several has the same effect as running one.
    """
    _serve(context, (), None, False, schedules=True)


@click.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5555, show_default=True, help="Port to listen on.")
@click.pass_obj
def flower(context: Context, address: str, port: int) -> None:
    """Run the Flower dashboard of the queues; its login is KB_FLOWER_AUTH (user:password)."""
    from workers.monitoring.flower import serve_flower

    serve_flower(context.settings().prepare(), address, port)


@click.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9808, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--once", is_flag=True, help="Print the metrics on stdout and exit.")
@click.pass_obj
def metrics(context: Context, address: str, port: int, once: bool) -> None:
    """Serve the metrics of the whole deployment to Prometheus at /metrics; /healthz reports whether the ledger answers.

    One exporter is enough, on any host that can reach the ledger and the broker.
    """
    from workers.monitoring import exporter

    settings = context.settings("warning" if once else None).prepare()
    if once:
        click.echo(exporter.once(settings), nl=False)
    else:
        exporter.serve(settings, address, port)


def _serve(
    context: Context, stages: tuple[str, ...], require_gpu: bool | None, until_empty: bool, *, schedules: bool = False
) -> None:
    from workers.service import serve

    with context.ledger(None, require_gpu=require_gpu) as (settings, ledger):
        serve(settings, ledger, stages, schedules=schedules, until_empty=until_empty)
