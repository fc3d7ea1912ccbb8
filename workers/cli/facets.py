"""`kb-ingest facets`: the fields of documents, and how many documents have which value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from pipeline.text import plural, visible
from workers.cli.context import Context, print_json
from workers.cli.options import check_filters, existing_collection_option, json_option, of_ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ledger.facets import Facet, FieldCount


@click.command()
@click.argument("field", required=False)
@existing_collection_option("count in")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="FILTER",
    help='Count only documents that pass, such as "year >= 2020"; repeatable.',
)
@click.option("--limit", "-n", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Maximum number of values.")
@json_option
@click.pass_obj
def facets(
    context: Context, field: str | None, collection: str | None, filters: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """Show how many documents have which value of FIELD; without it, which fields there are to filter by.

    Only documents that searches find are counted.
    """
    check_filters(filters)
    with context.ledger(collection=collection) as (settings, ledger):
        live = ledger.collections.live_name(of_ledger(settings, ledger).collection)
        if field is None:
            fields = ledger.facets.fields(live, filters)
            print_json(fields) if as_json else _print_fields(fields)
        else:
            found = ledger.facets.values(live, field, filters, limit)
            print_json(found) if as_json else _print_values(found)


def _print_fields(fields: Sequence[FieldCount]) -> None:
    if not fields:
        click.echo("no documents")
    width = max((len(one.name) for one in fields), default=0)
    for one in fields:
        click.echo(visible(f"{one.name:{width}}  {one.type:8}  {plural(one.documents, 'document')}"))


def _print_values(found: Facet) -> None:
    from pipeline.metadata import shown

    if not found.values:
        click.echo("no documents")
    for one in found.values:
        click.echo(visible(f"{one.documents:>8,}  {shown(one.value)}"))
    rest = found.distinct - len(found.values)
    if rest:
        click.echo(f"{plural(rest, 'more value')} (--limit)")
    if found.least is not None:
        click.echo(visible(f"from {shown(found.least)} to {shown(found.greatest)}"))
