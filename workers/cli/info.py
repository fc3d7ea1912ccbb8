"""`kb-ingest config`, `kb-ingest version` and `kb-ingest --version`: the settings and the versions in use."""

from __future__ import annotations

import rich_click as click

from workers.cli.context import Context, print_json
from workers.cli.options import json_option
from workers.versions import rules, versions


@click.command()
@json_option
@click.pass_obj
def config(context: Context, as_json: bool) -> None:
    """Show the effective value of every setting; secrets are masked."""
    values = context.settings("error").masked()
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        text = ",".join(value) if isinstance(value, list) else value
        click.echo(f"KB_{name.upper()}={text}")


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Show the versions of kb-ingest, Python and the main packages, and the output of `kb-ingest --version`."""
    found, stored = versions(), rules()
    if as_json:
        print_json(found | {name.replace(" ", "_"): value for name, value in stored.items()})
        return
    for name, value in found.items():
        click.echo(f"{name} {value}")
    _print_rules(stored)


def print_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    """Print the output of `--version`, and exit."""
    if wanted and not context.resilient_parsing:
        click.echo(f"kb-ingest {versions()['kb-ingest']}")
        _print_rules(rules())
        context.exit()


def _print_rules(stored: dict[str, str]) -> None:
    for name, value in stored.items():
        click.echo(f"{name}: {value}")
