"""`kb-ingest quarantine` and `kb-ingest retry`: documents that wait for a person."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from pipeline.text import one_line, visible
from workers.cli.context import Context, print_json


@click.group()
def quarantine() -> None:
    """See, release or drop the documents that wait for a person."""


@quarantine.command("list")
@click.option("--collection", "-c", help="Only this collection.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value on stdout.")
@click.pass_obj
def list_(context: Context, collection: str | None, as_json: bool) -> None:
    """Count quarantined documents by reason."""
    from pipeline.ledger import Ledger

    ledger = Ledger.open(context.settings("error").prepare().ledger_url)
    rows = ledger.report.quarantined(ledger.collections.live_name(collection) if collection else None)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(visible(f"{row.documents:>7}  {row.reason:<14} {row.collection}  such as {row.example}"))
    if not rows:
        click.echo("nothing is quarantined")


@quarantine.command()
@click.option("--collection", "-c", help="Only this collection.")
@click.option("--reason", metavar="CODE", help="Only documents quarantined for this reason.")
@click.option("--run", type=int, help="Only documents of this run.")
@click.option("--limit", "-n", type=click.IntRange(1), default=100, show_default=True, help="Most documents, the newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value on stdout.")
@click.pass_obj
def show(context: Context, collection: str | None, reason: str | None, run: int | None, limit: int, as_json: bool) -> None:
    """Show quarantined documents with the details of their failure."""
    from pipeline.ledger import Ledger

    ledger = Ledger.open(context.settings("error").prepare().ledger_url)
    live = ledger.collections.live_name(collection) if collection else None
    rows = ledger.report.failures(run, live, _known(reason), limit)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(visible(row.uri))
        click.echo(f"    {row.reason}: {one_line(row.detail)} ({row.starts} starts)")


@click.command()
@click.argument("uris", nargs=-1, metavar="[URI...]")
@click.option("--reason", metavar="CODE", help="Only documents quarantined for this reason.")
@click.option("--run", type=int, help="Only documents of this run.")
@click.pass_obj
def retry(context: Context, uris: tuple[str, ...], reason: str | None, run: int | None) -> None:
    """Put quarantined documents back to pending: all, or those that URI, --reason and --run select.

    Workers then try them again: those of `kb-ingest up`, or of the next load.
    """
    from pipeline.ledger import Ledger

    ledger = Ledger.open(context.settings().prepare().ledger_url)
    count = ledger.intake.retry(uris=uris_of(uris), reason=_known(reason), run=run)
    click.echo(f"{count} documents are pending again")


@quarantine.command()
@click.argument("uris", nargs=-1, metavar="[URI...]")
@click.option("--reason", metavar="CODE", help="Only documents quarantined for this reason.")
@click.option("--run", type=int, help="Only documents of this run.")
@click.option("--all", "everything", is_flag=True, help="All quarantined documents.")
@click.pass_obj
def drop(context: Context, uris: tuple[str, ...], reason: str | None, run: int | None, everything: bool) -> None:
    """Forget quarantined documents and delete the points of their last good version.

    The next load that finds them takes them for new.
    """
    from pipeline.ledger import Ledger
    from pipeline.store import open_store

    if not (uris or reason or run is not None or everything):
        raise click.UsageError("name what to drop: URI, --reason, --run or --all")
    settings = context.settings("error").prepare()
    ledger = Ledger.open(settings.ledger_url)
    store = open_store(settings, role="reader")
    count = 0
    try:
        stored = store.collections()
        for collection, ids in ledger.intake.quarantined(uris=uris_of(uris), reason=_known(reason), run=run).items():
            # Points first: a row that is gone could not tell of them any more.
            made = ledger.collections.get(collection)
            if made is not None and made.physical in stored:
                store.delete_documents(made.physical, ids)
            count += ledger.intake.drop(ids)
    finally:
        store.close()
    click.echo(f"{count} documents dropped")


quarantine.add_command(retry, "release")


def uris_of(texts: tuple[str, ...]) -> list[str]:
    """URIs as given, and as paths: people have the path at hand."""
    from pipeline.sources.discover import uri_of

    return [uri for text in texts for uri in (text, uri_of(Path(text).absolute()))]


def _known(reason: str | None) -> str | None:
    from pipeline.types import Reason

    if reason is not None and reason not in set(Reason):
        raise click.UsageError(f"--reason {reason}: known are {', '.join(Reason)}")
    return reason
