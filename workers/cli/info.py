"""`kb-ingest config` and `kb-ingest version`: what is set, and what runs."""

from __future__ import annotations

import rich_click as click

from workers.cli.context import Context, print_json
from workers.versions import versions


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value on stdout.")
@click.pass_obj
def config(context: Context, as_json: bool) -> None:
    """Show all settings as they are in force; secrets are masked."""
    values = context.settings("error").masked()
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        text = ",".join(value) if isinstance(value, list) else value
        click.echo(f"KB_{name.upper()}={text}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value on stdout.")
def version(as_json: bool) -> None:
    """Show the versions of kb-ingest, Python and the packages that matter."""
    found = versions()
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        click.echo(f"{name} {value}")
