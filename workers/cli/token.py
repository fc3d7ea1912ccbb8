"""`kb-ingest token`: who may ask the service for what."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

import rich_click as click

from pipeline.filters import shown
from pipeline.text import local_time, visible
from workers.cli.context import Context, print_json
from workers.cli.options import check_filters, json_option

if TYPE_CHECKING:
    from pipeline.ledger.tokens import Scope, Token

#: Seconds in a unit of `--expires`.
UNITS = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}


@click.group()
def token() -> None:
    """Make, list and revoke tokens for `kb-ingest serve`."""


@token.command()
@click.argument("name")
@click.option(
    "--scopes", default="search", show_default=True, help="Comma-separated: search, ingest (load and delete), admin (all)."
)
@click.option("--collections", default="", help="Comma-separated collections that exist for it; default: all.")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="FILTER",
    help="Only documents that pass exist for it, such as \"folder ~ '/srv/handbook/*'\"; repeatable.",
)
@click.option("--expires", metavar="TIME", help="Time after which it is refused: 12h, 30d, 4w (default: never).")
@json_option
@click.pass_obj
def add(
    context: Context, name: str, scopes: str, collections: str, filters: tuple[str, ...], expires: str | None, as_json: bool
) -> None:
    """Make a token named NAME and print it. It is shown only now: the ledger keeps its hash."""
    check_filters(filters)
    ends = None if expires is None else time.time() + _seconds(expires)
    with context.ledger() as (_, ledger):
        wanted = cast("list[Scope]", _split(scopes))
        secret = ledger.tokens.add(name, wanted, _split(collections), filters, ends)
    if as_json:
        print_json({"name": name, "token": secret, "expires_at": ends})
    else:
        click.echo(secret)


@token.command("list")
@json_option
@click.pass_obj
def list_(context: Context, as_json: bool) -> None:
    """List tokens with what they may do and when they were last used, to the minute."""
    with context.ledger() as (_, ledger):
        found = ledger.tokens.all()
    if as_json:
        print_json([{**asdict(one), "expired": one.is_expired} for one in found])
        return
    for one in found:
        click.echo(visible(_line(one)))
    if not found:
        click.echo("no tokens")


@token.command()
@click.argument("name")
@click.pass_obj
def revoke(context: Context, name: str) -> int:
    """Revoke a token: its next request is refused. Exit status 1 if there is no such token."""
    with context.ledger() as (_, ledger):
        existed = ledger.tokens.revoke(name)
    click.echo(visible(f"token {name} revoked" if existed else f"there is no token {name}"), err=not existed)
    return 0 if existed else 1


def _line(one: Token) -> str:
    limits = [f"collections {', '.join(one.collections)}"] if one.collections else []
    limits += shown(one.filters)
    ends = (
        "never expires" if one.expires_at is None else f"{'expired' if one.is_expired else 'expires'} {local_time(one.expires_at)}"
    )
    used = "never used" if one.used_at is None else f"used {local_time(one.used_at)}"
    return f"{one.name}: {', '.join(one.scopes)}; {'; '.join(limits) or 'all documents'}; {ends}; {used}"


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", text.strip())
    if found is None:
        raise click.UsageError(f"--expires {text}: use a number with h, d or w, such as 30d")
    return int(found[1]) * UNITS[found[2]]
