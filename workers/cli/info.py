"""`kb-ingest config` and `kb-ingest version`: what is set, and what runs."""

from __future__ import annotations

import platform
from importlib import metadata

import rich_click as click

from workers.cli.context import Context, print_json

#: Packages whose versions decide how kb-ingest behaves.
PACKAGES = ("celery", "kombu", "redis", "torch", "sentence-transformers", "qdrant-client", "qdrant-edge-py", "unstructured")


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
    found = {"kb-ingest": _version("kb-ingest"), "python": platform.python_version()}
    found.update((name, _version(name)) for name in PACKAGES)
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        click.echo(f"{name} {value}")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
