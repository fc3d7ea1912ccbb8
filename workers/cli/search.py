"""`kb-ingest search`: find the best chunks for a question."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import rich_click as click

from pipeline.text import visible
from pipeline.types import Refinement
from workers.cli.context import Context, print_json, say
from workers.cli.options import check_filters, existing_collection_option, json_option, of_store

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from pipeline.types import Hit, Results, SearchMode

#: Search modes; those of `pipeline.types.SearchMode`.
MODES: tuple[SearchMode, ...] = ("hybrid", "dense", "sparse")


@click.command()
@click.argument("query")
@existing_collection_option("search")
@click.option("--limit", "-n", type=click.IntRange(1, 1000), default=5, show_default=True, help="Maximum number of results.")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="FILTER",
    help="Return only chunks of documents that pass, such as \"year >= 2020 and folder ~ '/srv/*'\"; repeatable.",
)
@click.option(
    "--mode", type=click.Choice(MODES), help="Match by meaning (dense), words (sparse) or both (hybrid) (KB_SEARCH_MODE)."
)
@click.option("--context", "neighbours", type=click.IntRange(0, 10), default=0, help="Also show this many chunks before and after.")
@click.option("--per-document", type=click.IntRange(1), help="Maximum number of results of one document.")
@click.option("--min-score", type=float, help="Leave out results with a lower score.")
@click.option("--diversity", type=click.FloatRange(0, 1), default=0.0, help="0: best first; up to 1: results that differ.")
@click.option("--rerank/--no-rerank", default=True, help="Use the reranker, if KB_RERANK_MODEL or KB_RERANK_URL names one.")
@click.option("--url", help="Ask the service at this URL, with KB_TOKEN, instead of this data folder's.")
@json_option
@click.pass_obj
def search(
    context: Context, /, query: str, collection: str | None, limit: int, filters: tuple[str, ...], mode: SearchMode | None,
    url: str | None, as_json: bool, **refining: Any,
) -> None:  # fmt: skip
    """Find the chunks that best answer QUERY. If `kb-ingest serve` runs over this data folder, it answers."""
    if not query.strip():
        raise click.UsageError("the query is empty")
    check_filters(filters)
    settings = context.settings("error", collection=collection, search_mode=mode)
    refinement = Refinement(**refining)
    found = _asked(settings, url, query, limit, filters, refinement)
    if found is None:
        found = _searched(settings, query, limit, filters, refinement)
    if found.note:
        say(found.note)
    if as_json:
        print_json(found.hits)
    else:
        _print_hits(found.hits)


def _asked(
    settings: Settings, url: str | None, query: str, limit: int, filters: Sequence[str], refinement: Refinement
) -> Results | None:
    """What a service answers; None if there is none, or this data folder's cannot answer."""
    from pipeline.errors import ServiceUnavailable
    from pipeline.store.choice import is_named
    from workers.api import MAX_LIMIT
    from workers.api.asking import named_service, own_service

    service = own_service(settings) if url is None else named_service(settings, url)
    if service is None or (service.is_ours and (limit > MAX_LIMIT or len(query) > settings.serve_query_chars)):
        return None
    collection = settings.collection if is_named(settings) else None
    try:
        return service.search(collection, query, limit, filters, settings.search_mode, refinement)
    except ServiceUnavailable:
        if service.is_ours:  # it may have been killed a moment ago
            return None
        raise


def _searched(settings: Settings, query: str, limit: int, filters: Sequence[str], refinement: Refinement) -> Results:
    # A question is too small to be divided, and threads that wait for work would take the time of busy cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from pipeline.search import Searcher
    from pipeline.store import open_store

    with closing(open_store(settings, role="reader")) as store:
        name = of_store(settings, store).collection
        return Searcher(settings, store).search(name, query, limit, filters, settings.search_mode, refinement)


def _print_hits(hits: list[Hit]) -> None:
    from pipeline.metadata import shown

    if not hits:
        click.echo("no results")
    for number, hit in enumerate(hits, 1):
        pages = f", page {hit.page_first}" if hit.page_first is not None else ""
        if hit.page_last not in (None, hit.page_first):
            pages = f", pages {hit.page_first}-{hit.page_last}"
        click.echo(visible(f"{number}. {hit.score:.3f}  {hit.title}{pages}"))
        click.echo(visible(f"   {hit.uri}"))
        if hit.heading_path:
            click.echo(visible(f"   {' > '.join(hit.heading_path)}"))
        if hit.metadata:
            click.echo(visible(f"   {'; '.join(f'{name}: {shown(value)}' for name, value in hit.metadata.items())}"))
        for text in (*hit.before, hit.text, *hit.after):
            click.echo(visible(f"   {textwrap.shorten(text, 300, placeholder=' …')}"))
        if hit.copies:
            click.echo(visible(f"   the same text: {', '.join(hit.copies)}"))
