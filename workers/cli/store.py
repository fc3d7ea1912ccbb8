"""`kb-ingest verify`, `collections` and `promote`: check, list, prune and copy collections."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import rich_click as click

from pipeline.text import plural
from workers.cli.context import Context, print_json, say
from workers.cli.options import existing_collection_option, json_option, of_ledger, of_store

if TYPE_CHECKING:
    from pipeline.ledger import Ledger
    from pipeline.ledger.generations import Collection
    from pipeline.ledger.report import Progress
    from pipeline.settings import Settings
    from pipeline.steps.verify import Verified


@click.command()
@existing_collection_option("check")
@click.option("--repair", is_flag=True, help="Delete orphaned points, restore missing ones, and check again.")
@json_option
@click.pass_obj
def verify(context: Context, collection: str | None, repair: bool, as_json: bool) -> int:
    """Compare the store with the ledger, point by point; exit status 1 if they differ."""
    with context.ledger("warning", collection=collection) as (settings, ledger):
        settings = of_ledger(settings, ledger)
        found = _verify(settings, ledger, repair=repair)
        if repair and not found.clean:
            _work_until_done(settings, ledger)
            found = _verify(settings, ledger, repair=False)
        losses = ledger.losses.summary(collection=ledger.collections.live_name(settings.collection))
    record = {name: getattr(found, name) for name in RECORD}
    if as_json:
        print_json(record | {"lossy_documents": losses.documents, "losses": losses.kinds})
    else:
        click.echo(", ".join(f"{value} {name.replace('_', ' ')}" for name, value in record.items()))
        if losses:
            click.echo(str(losses))
    return 0 if found.clean else 1


#: The fields that `verify` reports, in this order.
RECORD = ("documents", "expected_points", "actual_points", "missing", "orphans", "zero_vectors")


def _verify(settings: Settings, ledger: Ledger, *, repair: bool) -> Verified:
    from pipeline.staging import open_staging
    from pipeline.steps import verify as step
    from pipeline.store import open_store
    from pipeline.store.names import open_physical

    with closing(open_store(settings, role="reader")) as store:
        physical = open_physical(store, settings.collection)
        live = ledger.collections.live_name(settings.collection)
        found = step.verify(ledger, open_staging(settings.staging_location), store, live, physical)
        if repair:
            count = step.repair(ledger, store, physical, found)
            say(f"{plural(len(found.stray), 'point')} deleted, {plural(count, 'document')} to compare again")
    return found


def _work_until_done(settings: Settings, ledger: Ledger) -> None:
    """Run or wait for workers until no document is open."""
    import time

    from workers.cli.display import progress_display
    from workers.jobs.crew import Working
    from workers.monitoring.snapshot import Lookout

    lookout = Lookout(settings, ledger, collection=ledger.collections.live_name(settings.collection), begins=True)
    with progress_display() as display, Working(settings, ledger, display.stderr) as work:
        while True:
            moment = lookout.look(trouble=work.tend(), own_workers=work.owns_workers)
            if not moment.progress.open:
                return
            display(moment)
            time.sleep(lookout.pause_s)


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def collections(click_context: click.Context, as_json: bool) -> None:
    """List the collections and their generations with model, documents and points."""
    if click_context.invoked_subcommand is None:
        _list(click_context.obj, as_json)


@collections.command("prune")
@existing_collection_option("prune")
@click.option(
    "--refused", is_flag=True, help="Drop generations that a reindex built but did not swap in, instead of replaced ones."
)
@click.pass_obj
def prune(context: Context, collection: str | None, refused: bool) -> None:
    """Drop generations that a reindex has replaced, with all their points. Rollback to them is then impossible."""
    from workers.jobs.generations import prune as drop

    with context.ledger(collection=collection) as (settings, ledger):
        settings = of_ledger(settings, ledger)
    dropped = drop(settings, settings.collection, refused=refused)
    click.echo(f"dropped: {', '.join(dropped) or 'nothing'}")


def _list(context: Context, as_json: bool) -> None:
    with context.ledger() as (_, ledger):
        rows = [_row(found, ledger.report.progress(collection=found.name)) for found in ledger.collections.all()]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        why = ", ".join(filter(None, (row["generation"], row["note"])))
        state = "" if row["state"] == "live" else f" ({row['state']}: {why})"
        click.echo(
            f"{row['name']}: {row['indexed']} of {plural(row['documents'], 'document')} indexed, "
            f"{plural(row['points'], 'point')}, {row['model']} ({row['dimension']}){state}"
        )
    if not rows:
        click.echo("no collections yet; `kb-ingest load PATH` creates one")


def _row(found: Collection, progress: Progress) -> dict[str, Any]:
    return {
        "name": found.public,
        "generation": found.name,
        "state": found.state,
        "note": found.note,
        "physical": found.physical,
        "model": found.model,
        "dimension": found.dimension,
        "documents": sum(progress.states.values()),
        "indexed": progress.states.get("indexed", 0),
        "points": progress.chunks,
    }


@click.command()
@click.option("--to", "url", required=True, metavar="URL", help="Qdrant server to copy to; its key is KB_API_KEY.")
@existing_collection_option("copy")
@json_option
@click.pass_obj
def promote(context: Context, url: str, collection: str | None, as_json: bool) -> int:
    """Copy a collection from the embedded store to a Qdrant server, and compare the numbers of points.

    Nothing is embedded again. Set KB_QDRANT_URL afterwards; ledger and staging stay as they are.
    """
    from pipeline.steps.promote import promote as copy
    from pipeline.store import open_store
    from pipeline.store.names import open_physical

    settings = context.settings("warning", collection=collection, qdrant_url="").prepare()
    target_settings = settings.model_copy(update={"qdrant_url": url})
    with closing(open_store(settings, role="reader")) as source, closing(open_store(target_settings, role="owner")) as target:
        name = of_store(settings, source).collection
        physical = open_physical(source, name)
        report = copy(source, target, physical, name, lambda done, total: say(f"{done} of {plural(total, 'point')} copied"))
    if as_json:
        print_json(report)
    else:
        click.echo(f"{plural(report.copied, 'point')} copied; the server holds {report.target_count} of {report.source_count}")
    return 0 if report.target_count == report.source_count else 1
