"""`kb-ingest map`: draw a collection as a map, and find duplicates."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from workers.cli.context import Context, print_json
from workers.cli.options import existing_collection_option, json_option, of_store

if TYPE_CHECKING:
    from pipeline.reports.map import Findings

#: Max findings of each kind listed on the terminal; the page and --json list more.
MAX_SHOWN = 5


@click.command("map")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the map to this file, as one self-contained page.",
)
@existing_collection_option("map")
@click.option("--near", type=click.FloatRange(0.5, 1), help="Minimum cosine of two near-duplicate documents.  [default: 0.97]")
@json_option
@click.pass_obj
def embedding_map(context: Context, html: Path | None, collection: str | None, near: float | None, as_json: bool) -> None:
    """Map a collection: draw its documents as points, and list copies, near-duplicates and outliers."""
    from pipeline.reports.map import draw
    from pipeline.reports.map.likeness import NEAR_COSINE
    from pipeline.store import open_store
    from pipeline.store.names import open_physical

    with context.ledger(collection=collection) as (settings, ledger), closing(open_store(settings, role="reader")) as store:
        name = of_store(settings, store).collection
        drawn = draw(ledger, store, name, open_physical(store, name), NEAR_COSINE if near is None else near)
    if html is not None:
        from pipeline.reports.map.page import map_page
        from pipeline.reports.write import write_page

        write_page(map_page(drawn), html)
    if as_json:
        print_json(drawn.findings)
    else:
        _print_findings(drawn.findings, html)


def _print_findings(found: Findings, html: Path | None) -> None:
    from pipeline.reports.map.likeness import written
    from pipeline.text import number, plural

    copies = "1 group of copies" if found.copies_total == 1 else f"{number(found.copies_total)} groups of copies"
    click.echo(
        f"{plural(found.documents, 'document')} in {plural(len(found.folders), 'folder')}, {copies}, "
        f"{plural(found.near_total, 'near-duplicate pair')}, {plural(found.outliers_total, 'outlier')}"
    )
    lines = [
        [f"copies: {copies.documents[0].path} = {copies.documents[1].path}" + _more(len(copies.documents) - 2)
         for copies in found.copies],
        [f"near ({written(pair.cosine)}): {pair.first.path} ~ {pair.second.path}" for pair in found.near],
        [f"outlier ({lonely.cosine:.2f}): {lonely.document.path}" for lonely in found.outliers],
    ]  # fmt: skip
    for kind in lines:
        for line in kind[:MAX_SHOWN]:
            click.echo(line)
    click.echo(f"map written to {html}" if html is not None else "add --html FILE to write the map and all findings as a page")


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
