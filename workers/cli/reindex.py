"""`kb-ingest reindex` and `rollback`: another model or chunk size for a collection, without downtime."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from workers.cli.context import Context, print_json, say
from workers.cli.options import existing_collection_option, json_option, of_ledger

if TYPE_CHECKING:
    from workers.jobs.reindex import Reindexed


@click.command()
@existing_collection_option("change")
@click.option("--model", default="", help="The new embedding model: hub id, local folder, or its name at KB_EMBED_URL.")
@click.option("--model-revision", default="", help="Commit of the new model on the hub.")
@click.option("--chunk-tokens", type=click.IntRange(16), default=None, help="The new most tokens of a chunk.")
@click.option("--rate", type=click.FloatRange(min=0.0, min_open=True), help="Most documents a second, to spare searches and syncs.")
@click.option(
    "--queries", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Questions with known answers, as `eval` reads."
)
@click.option("-k", "k", type=click.IntRange(1, 100), default=10, show_default=True, help="Documents that count as found.")
@click.option(
    "--max-regression", type=click.FloatRange(0.0, 1.0), default=0.02, show_default=True,
    help="Keep the old one if recall or MRR would fall by more.",
)  # fmt: skip
@json_option
@click.pass_obj
def reindex(
    context: Context, collection: str | None, model: str, model_revision: str, chunk_tokens: int | None, rate: float | None,
    queries: Path | None, k: int, max_regression: float, as_json: bool,
) -> int:  # fmt: skip
    """Build a collection anew beside the live one, judge both, and swap them if the new one is not worse.

    Searches go on all the while. Without --model and --chunk-tokens it is built as it is. Run it again to go on after Ctrl-C.
    Exit status 1 also means that the old one was kept; the message says why.
    """
    from workers.cli.display import progress_display
    from workers.jobs.reindex import Change, Reindexing

    with context.ledger("warning", collection=collection) as (settings, ledger):
        settings = of_ledger(settings, ledger)
    change = Change(model, model_revision, chunk_tokens or 0, rate or 0.0, queries, k, max_regression)
    with Reindexing(settings, settings.collection, change) as reindexing, progress_display() as display:
        result = reindexing.run(display, display.stderr)
    if as_json:
        print_json(result)
    else:
        _print(result)
    if result.why:
        say(f"error: the old generation was kept: {result.why}", logging.ERROR)
    return 0 if result.swapped else 1


def _print(result: Reindexed) -> None:
    click.echo(
        f"run {result.run}: {result.documents} documents, {result.chunks} chunks with {result.model}, {result.embedded} of them "
        f"embedded, in {result.seconds:.1f} s"
    )
    for name, scores in (("old", result.old), ("new", result.new)):
        if scores is not None:
            click.echo(
                f"{name}: recall@{scores.k} {scores.recall:.3f}, MRR@{scores.k} {scores.mrr:.3f} over {scores.queries} questions"
            )
    if result.swapped:
        click.echo(f"{result.collection} is {result.generation} now; `kb-ingest rollback -c {result.collection}` takes it back")


@click.command()
@existing_collection_option("take back")
@click.pass_obj
def rollback(context: Context, collection: str | None) -> None:
    """Put the generation that the last reindex replaced back in its place; again, and the new one is back.

    It is as it was when it was replaced: the next sync or load brings it up to date.
    """
    from workers.jobs.reindex import roll_back

    with context.ledger(collection=collection) as (settings, ledger):
        settings = of_ledger(settings, ledger)
    live, completed = roll_back(settings, settings.collection)
    click.echo(
        f"{settings.collection} is {live.name} ({live.model}){', as an interrupted swap had begun' if completed else ' again'}"
    )
