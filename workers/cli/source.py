"""`kb-ingest source`, `sync` and `delete`: keep collections equal to their sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from pipeline.text import duration, local_time, one_line, plural, size, visible
from workers.cli.context import Context, print_json
from workers.cli.options import collection_option, existing_collection_option, json_option, of_ledger, strict_options
from workers.cli.records import records_options

if TYPE_CHECKING:
    from pipeline.ledger import Ledger
    from pipeline.ledger.removal import Kept
    from pipeline.steps.load import Action
    from pipeline.steps.plan import SyncPlan
    from pipeline.types import RecordFields


@click.group()
def source() -> None:
    """Manage sources: named folders, git repositories, websites and other URLs that collections are kept equal to."""


@source.command()
@click.argument("name")
@click.argument("location", metavar="PATH|URL")
@collection_option("Collection to keep equal to the source (KB_COLLECTION).")
@click.option("--include", multiple=True, metavar="GLOB", help="Load only files whose name or path below PATH matches; repeatable.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Skip files whose name or path below PATH matches; repeatable.")
@records_options
@click.pass_obj
def add(
    context: Context,
    name: str,
    location: str,
    collection: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    records: RecordFields | None,
) -> None:
    """Add a folder, a repository such as git+https://host/repo.git@main#docs or another URL; `kb-ingest sync NAME` loads it."""
    from pipeline.errors import SourceError
    from pipeline.sources.discover import check_root
    from pipeline.sources.uris import root_of, root_uri
    from pipeline.store.names import check_name

    root = root_of(location)
    with context.ledger(collection=collection) as (settings, ledger):
        check_name(settings.collection)
        check_root(root)
        absolute = root if isinstance(root, str) else str(root.expanduser().absolute())
        rivals = (one for one in ledger.sources.all() if one.name != name and one.collection == settings.collection)
        for other in rivals:
            if root_uri(root_of(other.location)) == root_uri(root):
                raise SourceError(
                    f"source {other.name!r} already loads this location into {other.collection!r}: each would delete "
                    "the documents of the other; use another --collection, or one source with several patterns"
                )
        if not ledger.sources.add(name, settings.collection, absolute, include, exclude, records):
            raise SourceError(f"source {name!r} already exists; `kb-ingest source remove {name}` deletes it")
    click.echo(f"{name}: {absolute} for collection {settings.collection}; `kb-ingest sync {name}` loads it")


@source.command("list")
@json_option
@click.pass_obj
def list_(context: Context, as_json: bool) -> None:
    """List the sources with their collections and last syncs."""
    with context.ledger() as (_, ledger):
        found = ledger.sources.all()
    if as_json:
        print_json(found)
        return
    for one in found:
        click.echo(f"{one.name}: {one.location} for {one.collection}, {_synced(one.synced_at)}")
    if not found:
        click.echo("no sources yet; `kb-ingest source add NAME PATH` creates one")


@source.command()
@click.argument("name")
@json_option
@click.pass_obj
def show(context: Context, name: str, as_json: bool) -> None:
    """Show a source with its number of documents and its last runs."""
    from pipeline.sources.uris import root_of, root_uri
    from workers.jobs.sources import source_job

    with context.ledger() as (settings, ledger):
        found, job = source_job(ledger, settings, name)
        below = [root_uri(root_of(found.location))]
        live = ledger.collections.live_name(found.collection)
        count = sum(len(window) for window in ledger.removal.present(live, below, job.scope.elsewhere))
        runs = ledger.runs.latest(5, source=name)
    if as_json:
        print_json({"source": found, "documents": count, "runs": runs})
        return
    click.echo(f"{found.name}: {found.location} for {found.collection}, {plural(count, 'document')}, {_synced(found.synced_at)}")
    for kind, patterns in (("include", found.include), ("exclude", found.exclude)):
        if patterns:
            click.echo(f"    {kind}: {', '.join(patterns)}")
    if found.records is not None:
        click.echo(f"    records: {_told(found.records)}")
    for run in runs:
        click.echo(f"    run {run.id}: {run.outcome or 'not finished'}{': ' + one_line(run.detail) if run.detail else ''}")


@source.command()
@click.argument("name")
@click.pass_obj
def remove(context: Context, name: str) -> None:
    """Delete a source. Its documents stay; `kb-ingest delete --prefix` deletes them."""
    from pipeline.errors import SourceError

    with context.ledger() as (_, ledger):
        used = [one.name for one in ledger.schedules.all() if one.source == name]
        if used:
            raise SourceError(
                f"source {name!r} is used by schedules: {', '.join(used)}; remove these first with `kb-ingest schedule remove`"
            )
        if not ledger.sources.remove(name):
            raise SourceError(f"source {name!r} does not exist; `kb-ingest source list` lists all sources")
    click.echo(f"{name} is deleted; its documents stay")


@click.command()
@click.argument("name")
@click.option("--allow-delete", is_flag=True, help="Delete documents even if many or all documents of the source are gone.")
@click.option("--wait/--no-wait", default=True, help="Wait until everything is indexed, or return after staging.")
@click.option(
    "--checksum", is_flag=True, help="Compare the contents of files even if their size and modification time are unchanged."
)
@click.option("--require-gpu", is_flag=True, default=None, help="Fail instead of embedding on the CPU.")
@strict_options
@json_option
@click.pass_obj
def sync(
    context: Context,
    name: str,
    allow_delete: bool,
    wait: bool,
    checksum: bool,
    require_gpu: bool | None,
    strict: bool,
    fail_on_loss: bool,
    as_json: bool,
) -> int:
    """Make the collection equal to the source NAME: load new and changed documents, delete those that are gone.

    Exit status 1 also means that deletions were refused; the message gives the reason. New documents are loaded even then.
    """
    from dataclasses import replace

    from workers.cli.load import run_job
    from workers.jobs.sources import source_job
    from workers.process.ahead import Ahead

    with context.ledger("warning", require_gpu=require_gpu) as (settings, ledger):
        found, job = source_job(ledger, settings, name)
    job = replace(job, allow_delete=allow_delete, wait=wait, checksum=checksum)
    settings = settings.model_copy(update={"collection": found.collection})
    with Ahead() as ahead:
        return run_job(settings, job, ahead, as_json=as_json, strict=strict, fail_on_loss=fail_on_loss)


@click.command()
@click.argument("name")
@json_option
@click.pass_obj
def plan(context: Context, name: str, as_json: bool) -> None:
    """Estimate what `sync NAME` would do and cost: documents, chunks, time, and growth of the store. Changes nothing."""
    from workers.jobs.load import Loading
    from workers.jobs.sources import source_job

    with context.ledger("warning") as (settings, ledger):
        found, job = source_job(ledger, settings, name)
    with Loading(settings, found.collection) as loading:
        planned = loading.plan_sync(job)
    if as_json:
        print_json({"counts": {action: planned.count(action) for action in ACTIONS}, "seconds": planned.seconds, "plan": planned})
    else:
        _print_plan(planned)


#: The counts of a plan, in display order.
ACTIONS: tuple[Action, ...] = ("added", "changed", "moved", "vanished", "unchanged", "unknown", "skipped")


def _print_plan(planned: SyncPlan) -> None:
    for file in planned.files:
        if file.action != "unchanged":
            click.echo(visible(f"{file.action:9} {file.bytes:>12,} B  {file.uri}{'  (' + file.why + ')' if file.why else ''}"))
    click.echo(", ".join(f"{planned.count(action)} {action}" for action in ACTIONS))
    about, seconds = "about " if planned.estimated else "", planned.seconds
    span = "time unknown until a first document has been embedded here"
    if seconds is not None:
        span = f"about {duration(seconds, rough=True)}"
    click.echo(f"{about}{plural(planned.chunks, 'chunk')} ({plural(planned.tokens, 'token')}) to embed, {span}")
    if planned.estimated:
        files = planned.count("added") + planned.count("changed")
        click.echo(
            f"estimated from {planned.parsed_files:,} of {plural(files, 'file')}, chosen at random: "
            f"probably {planned.chunks_low:,} to {plural(planned.chunks_high, 'chunk')}"
        )
    if unknown := planned.count("unknown"):
        click.echo(f"{plural(unknown, 'page')} of unknown state: asked for by a sync, and in no estimate")
    for one in planned.stores:
        click.echo(f"{one.store} would grow by about {size(one.memory_bytes)} of memory and {size(one.disk_bytes)} of disk")
    if planned.refused:
        click.echo(f"deletions would be refused: {planned.refused}")


@click.command()
@click.argument("uris", nargs=-1, metavar="[URI...]")
@click.option("--prefix", metavar="PREFIX", help="Delete all documents whose URI starts with PREFIX, instead of named ones.")
@existing_collection_option("delete from")
@click.option("--dry-run", is_flag=True, help="List documents that would be deleted; delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@click.pass_obj
def delete(
    context: Context, uris: tuple[str, ...], prefix: str | None, collection: str | None, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Delete documents from a collection by URI or path, immediately.

    Their files are not touched: the next load or sync that finds them loads them again.
    """
    if bool(uris) == bool(prefix):
        raise click.UsageError("select documents to delete with URIs or --prefix, not both")
    with context.ledger(collection=collection, delete_grace=0.0) as (settings, ledger):
        settings = of_ledger(settings, ledger)
        live = ledger.collections.live_name(settings.collection)
        found = _wanted(ledger, live, uris, prefix)
        if dry_run or not found:
            return _report(found, 0, as_json)
        if prefix and not yes:
            click.confirm(f"Delete {plural(len(found), 'document')} from {settings.collection}?", abort=True, err=True)
        from workers.jobs.crew import delete_now

        return _report(found, delete_now(settings, ledger, live, [document.id for document in found]), as_json)


def _wanted(ledger: Ledger, live: str, uris: tuple[str, ...], prefix: str | None) -> list[Kept]:
    """The named documents of a generation, or those whose URI has the prefix."""
    if not prefix:
        return ledger.removal.named(live, sorted({spelling for uri in uris for spelling in _spellings(uri)}))
    return [one for spelling in _spellings(prefix) for window in ledger.removal.present(live, prefix=spelling) for one in window]


def _spellings(text: str) -> list[str]:
    """A URI or URI prefix as given and as in the ledger; a trailing slash is kept, so that `a/` does not match `ab`."""
    from pipeline.errors import ConfigError
    from pipeline.sources.uris import root_of, root_uri

    try:
        found = root_uri(root_of(text)) + ("/" if text.endswith("/") else "")
    except ConfigError:  # the beginning of the URL of a repository, which is no such URL itself
        return [text]
    return [found] if "://" not in text else list(dict.fromkeys([text, found]))


def _report(found: list[Kept], deleted: int, as_json: bool) -> int:
    if as_json:
        print_json({"found": [document.uri for document in found], "deleted": deleted})
        return 0
    for document in found[:20]:
        click.echo(visible(document.uri))
    if len(found) > 20:
        click.echo(f"and {len(found) - 20} more")
    click.echo(f"{plural(len(found), 'document')} found, {deleted} deleted")
    return 0


def _told(records: RecordFields) -> str:
    """How records are documents, human-readable."""
    if not records.wanted:
        return "no documents of their own"
    fields = {"id": records.id, "text": ", ".join(records.text), "metadata": ", ".join(records.metadata)}
    return "documents of their own" + "".join(f"; {name}: {field}" for name, field in fields.items() if field)


def _synced(at: float | None) -> str:
    return "never synced" if at is None else f"synced {local_time(at)}"
