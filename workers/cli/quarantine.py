"""`kb-ingest quarantine` and `kb-ingest retry`: documents that need attention."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from pipeline.text import one_line, plural, visible
from workers.cli.context import Context, print_json
from workers.cli.options import collection_option, json_option, of_ledger

if TYPE_CHECKING:
    from pipeline.ledger import Ledger
    from pipeline.settings import Settings


@click.group()
def quarantine() -> None:
    """List, release or drop quarantined documents."""


@quarantine.command("list")
@collection_option("Count only documents of this collection.")
@click.option("--skipped", is_flag=True, help="Count skipped documents instead.")
@json_option
@click.pass_obj
def list_(context: Context, collection: str | None, skipped: bool, as_json: bool) -> None:
    """Count quarantined documents by reason."""
    from pipeline.types import DocumentState

    state = DocumentState.SKIPPED if skipped else DocumentState.QUARANTINED
    with context.ledger(collection=collection) as (settings, ledger):
        rows = ledger.report.quarantined(_generation(settings, ledger) if collection else None, state)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(visible(f"{row.documents:>7}  {row.reason:<14} {row.collection}  e.g. {row.example}"))
    if not rows:
        click.echo(f"no {state} documents")


@quarantine.command()
@collection_option("Show only documents of this collection.")
@click.option("--reason", metavar="CODE", help="Select only documents quarantined for this reason.")
@click.option("--run", type=int, help="Select only documents of this run.")
@click.option(
    "--limit", "-n", type=click.IntRange(1), default=100, show_default=True, help="Maximum number of documents, newest first."
)
@json_option
@click.pass_obj
def show(context: Context, collection: str | None, reason: str | None, run: int | None, limit: int, as_json: bool) -> None:
    """Show quarantined documents with the details of their failures."""
    with context.ledger(collection=collection) as (settings, ledger):
        rows = ledger.report.failures(run, _generation(settings, ledger) if collection else None, _known(reason), limit)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(visible(row.uri))
        click.echo(f"    {row.reason}: {one_line(row.detail)} ({plural(row.starts, 'attempt')})")


@click.command()
@click.argument("uris", nargs=-1, metavar="[URI...]")
@click.option("--reason", metavar="CODE", help="Select only documents quarantined or skipped for this reason.")
@click.option("--run", type=int, help="Select only documents of this run.")
@click.pass_obj
def retry(context: Context, uris: tuple[str, ...], reason: str | None, run: int | None) -> None:
    """Set quarantined documents to pending again: all of them, or those selected by URI, --reason and --run.

    Skipped documents are selected only by URI and --reason. The workers of `kb-ingest up` or of the next load then process
    them again.
    """
    with context.ledger(None) as (_, ledger):
        count = ledger.intake.retry(uris=uris_of(uris), reason=_known(reason), run=run)
    click.echo(f"{plural(count, 'document')} pending again")


@quarantine.command()
@click.argument("uris", nargs=-1, metavar="[URI...]")
@click.option("--reason", metavar="CODE", help="Select only documents quarantined for this reason.")
@click.option("--run", type=int, help="Select only documents of this run.")
@click.option("--all", "everything", is_flag=True, help="Select all quarantined documents.")
@click.pass_obj
def drop(context: Context, uris: tuple[str, ...], reason: str | None, run: int | None, everything: bool) -> None:
    """Remove quarantined documents from the ledger, and delete the points of their last good version.

    The next load that finds their files loads them as new documents.
    """
    from pipeline.store import open_store

    if not (uris or reason or run is not None or everything):
        raise click.UsageError("select documents to drop with URI, --reason, --run or --all")
    count = 0
    with context.ledger() as (settings, ledger), closing(open_store(settings, role="reader")) as store:
        stored = store.collections()
        for collection, ids in ledger.intake.quarantined(uris=uris_of(uris), reason=_known(reason), run=run).items():
            # Points first: once the row is deleted, its points cannot be found any more.
            made = ledger.collections.get(collection)
            if made is not None and made.physical in stored:
                store.delete_documents(made.physical, ids)
            count += ledger.intake.drop(ids)
    click.echo(f"{plural(count, 'document')} dropped")


quarantine.add_command(retry, "release")


def _generation(settings: Settings, ledger: Ledger) -> str:
    """The live generation of the named collection; raises CollectionMissing."""
    return ledger.collections.live_name(of_ledger(settings, ledger).collection)


def uris_of(texts: tuple[str, ...]) -> list[str]:
    """Each text as a URI and as a path."""
    from pipeline.sources.uris import uri_of

    return [uri for text in texts for uri in (text, uri_of(Path(text).absolute()))]


def _known(reason: str | None) -> str | None:
    from pipeline.types import Reason

    if reason is not None and reason not in set(Reason):
        raise click.UsageError(f"unknown --reason {reason}; use one of {', '.join(Reason)}")
    return reason
