"""`kb-ingest gc`, `backup` and `restore`: remove what nobody needs, copy the data folder, and put a copy back."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from pipeline.text import duration, plural, size
from workers.cli.context import Context, print_json, teller
from workers.cli.options import json_option
from workers.cli.store import RECORD

if TYPE_CHECKING:
    from pipeline.steps.garbage import Item

C = TypeVar("C", bound=Callable[..., Any])

#: Units of an age, in seconds.
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")


def age_option(name: str, text: str) -> Callable[[C], C]:
    """An option for an age such as `30d`, decoded to seconds; a number alone means days."""
    return click.option(name, metavar="AGE", callback=_decoded, help=text)


def _decoded(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    found = _AGE.fullmatch(value.strip().lower())
    if found is None:
        raise click.BadParameter(f"{value!r} is not an age; use a number with s, m, h, d or w, such as 30d")
    return float(found[1]) * UNITS[found[2] or "d"]


@click.command()
@age_option("--older-than", "Remove what nobody has used for this long, e.g. 7d (KB_STAGED_DAYS, KB_ROLLBACK_DAYS, KB_GC_DAYS).")
@age_option("--runs-older-than", "Forget runs that ended longer ago, e.g. 365d (KB_RUNS_DAYS).")
@click.option("--dry-run", is_flag=True, help="List what would be removed, with ages and sizes; change nothing.")
@json_option
@click.pass_obj
def gc(context: Context, older_than: float | None, runs_older_than: float | None, dry_run: bool, as_json: bool) -> None:
    """Remove staged files, generations, leftovers of the store and old runs that nobody needs any more.

    Safe while loads run: the ledger decides. Staged files that were used within the last hour always stay.
    """
    from workers.jobs.upkeep import collect, told

    with context.ledger("warning") as (settings, ledger):
        found = collect(settings, ledger, files_s=older_than, runs_s=runs_older_than, dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, "kinds": found.kinds, "items": found.items, "kept": found.kept})
        return
    for item in found.items if dry_run else ():
        click.echo(_line(item))
    more = sum(kind.count for kind in found.kinds.values()) - len(found.items)
    if dry_run and more > 0:
        click.echo(f"... and {more:,} more")
    click.echo(f"{'would be removed' if dry_run else 'removed'}: {told(found)}")
    for why in found.kept:
        click.echo(f"kept: {why}")


def _line(item: Item) -> str:
    sized = f", {size(item.bytes)}" if item.bytes else ""
    note = f" ({item.note})" if item.note else ""
    return f"{item.kind} {item.name}{note}: unused for {_age(item.age_s)}{sized}"


def _age(seconds: float) -> str:
    days = int(seconds // 86_400)
    return plural(days, "day") if days else duration(seconds, rough=True)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@json_option
@click.pass_obj
def backup(context: Context, folder: Path, as_json: bool) -> None:
    """Copy the ledger, the staged files that it needs, and the points to FOLDER, while loads run.

    FOLDER must be new or empty; a backup in it that was interrupted starts again.
    """
    from workers.jobs.upkeep import back_up

    made = back_up(context.settings("warning"), folder, _telling("copied"))
    if as_json:
        print_json(made)
        return
    lost = f"; {made['lost']} staged files vanished meanwhile" if made["lost"] else ""
    click.echo(f"backed up {plural(made['files'], 'file')} ({size(made['bytes'])}) to {made['folder']}{lost}")
    click.echo(f"points: {made['points']}")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@json_option
@click.pass_obj
def restore(context: Context, folder: Path, as_json: bool) -> None:
    """Restore the backup in FOLDER into an empty data folder, and compare the store with the ledger.

    Every file is compared with its hash before anything is changed.
    """
    from workers.jobs.upkeep import restore as put_back

    done = put_back(context.settings("warning"), folder, _telling("checked"))
    if as_json:
        print_json(done)
        return
    click.echo(f"restored {plural(done['files'], 'file')} ({size(done['bytes'])})")
    for one in done["collections"]:
        click.echo(f"{one['name']}: " + ", ".join(f"{one[name]} {name.replace('_', ' ')}" for name in RECORD))
        if not one["clean"]:
            click.echo(
                f"{one['name']}: documents were being worked on, or points are not in the backup; orphaned points were deleted, "
                f"{plural(one['again'], 'indexed document')} to compare again: the next load or `kb-ingest up` completes them"
            )


def _telling(done: str) -> Callable[[int, int], None]:
    """Say from time to time how many files are done."""
    tell = teller()
    return lambda files, total: tell(f"{plural(files, 'file')} {done} ({size(total)})")
