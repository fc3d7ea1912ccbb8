"""`kb-ingest eval`: measure how well searches find the known answers of questions."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from pipeline.text import plural
from workers.cli.context import Context, print_json
from workers.cli.options import existing_collection_option, json_option, of_store
from workers.cli.search import MODES

if TYPE_CHECKING:
    from pipeline.search.evaluate import Scores
    from pipeline.types import SearchMode


@click.command("eval")
@click.argument("queries", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@existing_collection_option("search")
@click.option("--mode", "modes", multiple=True, type=click.Choice(MODES), help="Measure only this search mode; repeatable.")
@click.option(
    "-k", "k", type=click.IntRange(1, 100), default=10, show_default=True, help="Number of top-ranked documents to evaluate."
)
@json_option
@click.pass_obj
def evaluate(context: Context, queries: Path, collection: str | None, modes: tuple[SearchMode, ...], k: int, as_json: bool) -> None:
    """Measure how well searches find the relevant documents of the questions in QUERIES.

    QUERIES holds one line {"query": "...", "relevant": ["URI or its ending", ...]} per question.
    """
    from pipeline.search import Searcher, document_ranking
    from pipeline.search.evaluate import NDCG_DEPTH, read_queries
    from pipeline.search.evaluate import evaluate as measured
    from pipeline.store import open_store
    from pipeline.store.names import open_physical

    judged = read_queries(queries)
    settings = context.settings("error", collection=collection)
    scores: dict[str, Scores] = {}
    with closing(open_store(settings, role="reader")) as store:
        settings = of_store(settings, store)
        physical = open_physical(store, settings.collection)
        asked = modes or (MODES if store.has_sparse(physical) else ("dense",))
        searcher = Searcher(settings, store)
        embedder = searcher.embedder(settings.collection, physical) if {*asked} != {"sparse"} else None
        for mode in asked:
            ranking = document_ranking(store, physical, embedder, mode, max(k, NDCG_DEPTH))
            scores[mode] = measured(judged, ranking, k)
    if as_json:
        print_json({"collection": settings.collection, "queries": len(judged), "k": k, "modes": scores})
    else:
        _print_scores(settings.collection, scores)


def _print_scores(collection: str, scores: dict[str, Scores]) -> None:
    first = next(iter(scores.values()))
    click.echo(f"{plural(first.queries, 'question')}, collection {collection}")
    click.echo(f"{'mode':<8}  {f'recall@{first.k}':>10}  {f'MRR@{first.k}':>10}  {'nDCG@10':>10}")
    for mode, found in scores.items():
        click.echo(f"{mode:<8}  {found.recall:>10.3f}  {found.mrr:>10.3f}  {found.ndcg_10:>10.3f}")
