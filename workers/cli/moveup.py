"""`kb-ingest ledger copy` and `move-up`: from a laptop's files to servers, without processing anything again."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from pipeline.text import plural
from workers.cli.context import Context, print_json, teller
from workers.cli.options import json_option
from workers.cli.store import RECORD


@click.group()
def ledger() -> None:
    """Copy the ledger to another database."""


@ledger.command("copy")
@click.option(
    "--to",
    "url",
    metavar="URL",
    required=True,
    help="Database, e.g. postgresql+psycopg://kb@db.example.org/kb or sqlite:////data/kb.db",
)
@json_option
@click.pass_obj
def copy(context: Context, url: str, as_json: bool) -> None:
    """Copy every row of the ledger, compare the copy with it, and change nothing else.

    An interrupted copy continues. Set KB_DATABASE_URL afterwards.
    """
    from workers.jobs.moveup import copy_to

    done = copy_to(context.settings("warning"), url, teller())
    if as_json:
        print_json(done)
    else:
        click.echo(f"{plural(done.rows, 'row')} in the copy, each compared; {plural(done.changed, 'row')} copied now")


@click.command("move-up")
@click.option("--database", metavar="URL", help="Database for the ledger (KB_DATABASE_URL).")
@click.option("--qdrant", metavar="URL", help="Qdrant server for the points (KB_QDRANT_URL).")
@click.option("--redis", metavar="URL", help="Redis in place of the broker folder (KB_REDIS_URL).")
@click.option("--staging", metavar="URL", help="Object store or folder for staged files (KB_STAGING_URL).")
@click.option("--write", is_flag=True, help="Write the new places to `.env` in this folder if all is whole.")
@json_option
@click.pass_obj
def move_up(
    context: Context, database: str | None, qdrant: str | None, redis: str | None, staging: str | None, write: bool, as_json: bool
) -> int:
    """Copy ledger, points and staged files to servers, and compare them there; nothing is embedded again.

    The old places stay as they are. An interrupted move continues. Stop loads, workers and services first.
    """
    from workers.jobs.moveup import move_up as move

    chosen = {"database_url": database, "qdrant_url": qdrant, "redis_url": redis, "staging_url": staging}
    settings, target = context.settings("warning"), context.settings("warning", **chosen)
    moved = move(settings, target, teller())
    values = {f"KB_{name.upper()}": value for name, value in chosen.items() if value}
    if write and moved.clean:
        from pipeline.host import envfile

        envfile.update(Path(".env"), values, comment="written by kb-ingest move-up")
    if as_json:
        print_json(
            {"staged": moved.staged, "points": moved.points, "rows": moved.rows, "clean": moved.clean, "settings": sorted(values),
             "collections": {name: {key: getattr(one, key) for key in RECORD} for name, one in moved.collections.items()}}
        )  # fmt: skip
        return 0 if moved.clean else 1
    counts = (plural(moved.staged, "staged file"), plural(sum(moved.points.values()), "point"), plural(moved.rows, "row"))
    click.echo(f"copied: {', '.join(counts)} of the ledger")
    for name, one in moved.collections.items():
        click.echo(f"{name}: " + ", ".join(f"{getattr(one, key)} {key.replace('_', ' ')}" for key in RECORD))
    if not moved.clean:
        click.echo("the new places differ from each other; run `kb-ingest verify --repair` where you are, and move again", err=True)
        return 1
    names = ", ".join(values)
    click.echo(f"written to .env: {names}" if write else f"now set {names} to these places, or run the same command with --write")
    return 0
