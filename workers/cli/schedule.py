"""`kb-ingest schedule`: actions that run at fixed times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from workers.cli.context import Context, print_json
from workers.cli.options import json_option

if TYPE_CHECKING:
    from pipeline.ledger import Ledger
    from pipeline.ledger.schedules import Schedule

#: Max characters of a schedule's name.
NAME_LENGTH = 100


@click.group()
def schedule() -> None:
    """Sync, re-index or check sources on a schedule, run by `kb-ingest up` and `kb-ingest scheduler`."""


@schedule.command()
@click.argument("name")
@click.option("--cron", required=True, metavar="EXPRESSION", help='When to run: minute hour day month weekday, e.g. "0 2 * * *".')
@click.option("--source", required=True, metavar="NAME", help="Name of the source, as in `kb-ingest source list`.")
@click.option(
    "--action",
    type=click.Choice(["sync", "reindex", "verify", "gc"]),
    default="sync",
    show_default=True,
    help="Action to run on the source.",
)
@click.option("--timezone", metavar="ZONE", help="Time zone of the cron expression, e.g. Europe/Berlin (default: this machine's).")
@click.pass_obj
def add(context: Context, name: str, cron: str, source: str, action: str, timezone: str | None) -> None:
    """Schedule an action. It runs for the first time when it is next due."""
    import time

    from pipeline.errors import ConfigError
    from workers.jobs.sources import source_job
    from workers.schedules.cron import Cron

    if not name.strip() or len(name) > NAME_LENGTH:
        raise ConfigError(f"a schedule's name must have 1 to {NAME_LENGTH} characters")
    with context.ledger() as (settings, ledger):
        source_job(ledger, settings, source)
        parsed = Cron.parse(cron, timezone or _local_zone())
        if not ledger.schedules.add(name, parsed.expression, parsed.timezone, source, action, time.time()):
            raise ConfigError(f"schedule {name!r} already exists; `kb-ingest schedule remove {name}` deletes it")
    click.echo(f"{name}: {action} of {source}, next {_when(parsed.after(time.time()), parsed.timezone)}")


@schedule.command("list")
@json_option
@click.pass_obj
def list_(context: Context, as_json: bool) -> None:
    """List the schedules with their next run and last result."""
    with context.ledger() as (_, ledger):
        rows = [_record(ledger, one) for one in ledger.schedules.all()]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        last = row["last_run"]
        result = (
            f"last {last['outcome']}{': ' + last['detail'] if last['detail'] else ''} (run {last['run']})"
            if last
            else "not run yet"
        )
        going = ", a run is in progress" if row["going_on"] else ""
        coming = "paused" if row["paused"] else row["trouble"] or f"next {row['next_run']}"
        click.echo(
            f"{row['name']}: {row['action']} of {row['source']} at {row['cron']} ({row['timezone']}), {coming}{going}, {result}"
        )
    if not rows:
        click.echo("no schedules yet; `kb-ingest schedule add NAME --cron EXPRESSION --source NAME` creates one")


@schedule.command()
@click.argument("name")
@click.pass_obj
def pause(context: Context, name: str) -> None:
    """Pause a schedule until it is resumed. A run in progress continues."""
    with context.ledger() as (_, ledger):
        _known(ledger, name, ledger.schedules.pause(name))
    click.echo(f"{name} is paused; `kb-ingest schedule resume {name}` resumes it")


@schedule.command()
@click.argument("name")
@click.pass_obj
def resume(context: Context, name: str) -> None:
    """Resume a paused schedule. Runs missed during the pause are not caught up."""
    import time

    with context.ledger() as (_, ledger):
        _known(ledger, name, ledger.schedules.resume(name, time.time()))
        click.echo(f"{name}: next {_record(ledger, _get(ledger, name))['next_run']}")


@schedule.command()
@click.argument("name")
@click.pass_obj
def remove(context: Context, name: str) -> None:
    """Delete a schedule. Its runs stay listed; a run in progress is stopped."""
    with context.ledger() as (_, ledger):
        _known(ledger, name, ledger.schedules.remove(name))
    click.echo(f"{name} is deleted; its runs stay in `kb-ingest runs`")


@schedule.command("run-now")
@click.argument("name")
@json_option
@click.pass_obj
def run_now(context: Context, name: str, as_json: bool) -> int:
    """Run a schedule now, in this process, even if it is paused, and wait for it. The time of its next run does not change.

    Exit status: 0 on success, 3 if some documents are quarantined, 1 otherwise or if a run is already in progress.
    """
    from workers.cli.display import progress_display
    from workers.cli.runs import line, record
    from workers.schedules.run import run_now as carry_out

    with context.ledger("warning") as (settings, ledger), progress_display() as display:
        past = carry_out(settings, ledger, _get(ledger, name), display, display.stderr)
    print_json(record(past)) if as_json else click.echo(line(past))
    return {"done": 0, "partly": 3}.get(past.outcome, 1)


def _get(ledger: Ledger, name: str) -> Schedule:
    found = ledger.schedules.get(name)
    _known(ledger, name, found is not None)
    assert found is not None
    return found


def _known(ledger: Ledger, name: str, there: bool) -> None:
    """Check that a schedule exists; raises ConfigError."""
    from pipeline.errors import ConfigError

    if not there:
        names = ", ".join(one.name for one in ledger.schedules.all()) or "none yet"
        raise ConfigError(f"schedule {name!r} does not exist (known: {names}); `kb-ingest schedule add` creates one")


def _record(ledger: Ledger, one: Schedule) -> dict[str, Any]:
    import time

    from pipeline.errors import ConfigError
    from workers.cli.runs import record
    from workers.schedules.due import next_slot

    coming, trouble = None, ""
    try:
        slot = next_slot(one, time.time())
        coming = None if slot is None else _when(slot, one.timezone)
    except ConfigError as error:
        trouble = str(error)
    last = ledger.runs.history(1, schedule=one.name)
    return {
        "name": one.name, "cron": one.cron, "timezone": one.timezone, "source": one.source, "action": one.action,
        "paused": one.paused, "going_on": one.lease is not None, "next_run": coming, "trouble": trouble,
        "last_run": record(last[0]) if last else None,
    }  # fmt: skip


def _when(slot: int, timezone: str) -> str:
    """ISO 8601 with the zone's offset."""
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo

    return datetime.fromtimestamp(slot, UTC).astimezone(ZoneInfo(timezone)).isoformat(sep=" ")


def _local_zone() -> str:
    """The name of this machine's time zone."""
    from tzlocal import get_localzone_name

    return get_localzone_name() or "UTC"
