"""`kb-ingest reindex` and `rollback`: change the model or chunk size of a collection without downtime."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from pipeline.text import plural
from workers.cli.context import Context, print_json, say
from workers.cli.options import existing_collection_option, json_option, of_ledger

if TYPE_CHECKING:
    from workers.jobs.reindex import Reindexed


@click.command()
@existing_collection_option("rebuild")
@click.option("--model", default="", help="New embedding model: hub id, local folder, or its name at KB_EMBED_URL.")
@click.option("--model-revision", default="", help="Commit of the new model on the hub.")
@click.option("--chunk-tokens", type=click.IntRange(16), default=None, help="New maximum number of tokens per chunk.")
@click.option(
    "--part-tokens",
    type=click.IntRange(0),
    default=None,
    help="New number of tokens of parts with vectors of their own; 0: no parts.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0.0, min_open=True),
    help="Maximum documents per second, to leave capacity for searches and syncs.",
)
@click.option(
    "--queries",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of questions with known answers, in the format of `eval`.",
)
@click.option(
    "-k", "k", type=click.IntRange(1, 100), default=10, show_default=True, help="Number of top-ranked documents to evaluate."
)
@click.option(
    "--max-regression", type=click.FloatRange(0.0, 1.0), default=0.02, show_default=True,
    help="Keep the old generation if recall or MRR would fall by more than this.",
)  # fmt: skip
@json_option
@click.pass_obj
def reindex(
    context: Context, collection: str | None, model: str, model_revision: str, chunk_tokens: int | None, part_tokens: int | None,
    rate: float | None, queries: Path | None, k: int, max_regression: float, as_json: bool,
) -> int:  # fmt: skip
    """Build a new generation of a collection next to the live one, compare them, and swap them if the new one is not worse.

    Searches continue during the rebuild. Without --model, --chunk-tokens and --part-tokens, the collection is rebuilt with its
    current settings. After Ctrl-C, run the command again to continue. Exit status 1 also means that the old generation was kept;
    the message gives the reason.
    """
    from workers.cli.display import progress_display
    from workers.jobs.reindex import Change, Reindexing
    from workers.jobs.webhooks import Sending

    with context.ledger("warning", collection=collection) as (settings, ledger):
        settings = of_ledger(settings, ledger)
    change = Change(
        model=model,
        revision=model_revision,
        chunk_tokens=chunk_tokens or 0,
        part_tokens=part_tokens,
        rate=rate or 0.0,
        queries=queries,
        k=k,
        max_regression=max_regression,
    )
    with Reindexing(settings, settings.collection, change) as reindexing, Sending(settings), progress_display() as display:
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
        f"run {result.run}: {plural(result.documents, 'document')}, {plural(result.chunks, 'chunk')} with "
        f"{result.model}, {result.embedded} of them embedded, in {result.seconds:.1f} s"
    )
    for name, scores in (("old", result.old), ("new", result.new)):
        if scores is not None:
            click.echo(
                f"{name}: recall@{scores.k} {scores.recall:.3f}, MRR@{scores.k} {scores.mrr:.3f} "
                f"over {plural(scores.queries, 'question')}"
            )
    if result.swapped:
        click.echo(f"{result.collection} is now {result.generation}; run `kb-ingest rollback -c {result.collection}` to undo this")


@click.command()
@existing_collection_option("roll back")
@click.pass_obj
def rollback(context: Context, collection: str | None) -> None:
    """Swap back the generation that the last reindex replaced. A second rollback restores the new one.

    The generation has the contents it had when it was replaced; the next sync or load brings it up to date.
    """
    from workers.jobs.generations import roll_back

    with context.ledger(collection=collection) as (settings, ledger):
        settings = of_ledger(settings, ledger)
    live, completed = roll_back(settings, settings.collection)
    click.echo(f"{settings.collection} is {live.name} ({live.model}){': completed an interrupted swap' if completed else ' again'}")
