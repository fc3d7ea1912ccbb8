"""`kb-ingest source`, `sync` and `delete`: collections that are kept equal to where they come from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import rich_click as click

from pipeline.text import one_line, visible
from workers.cli.context import Context, print_json
from workers.cli.options import collection_option, existing_collection_option, json_option, of_ledger

if TYPE_CHECKING:
    from pipeline.ledger import Ledger
    from pipeline.ledger.removal import Kept
    from pipeline.steps.load import Action
    from pipeline.steps.plan import Plan


@click.group()
def source() -> None:
    """Name the folders and URLs that collections are kept equal to."""


@source.command()
@click.argument("name")
@click.argument("location", metavar="PATH|URL")
@collection_option("The collection to keep equal to it (KB_COLLECTION).")
@click.option("--include", multiple=True, metavar="GLOB", help="Only files whose name or path below PATH matches; repeatable.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="No files whose name or path below PATH matches; repeatable.")
@click.pass_obj
def add(
    context: Context, name: str, location: str, collection: str | None, include: tuple[str, ...], exclude: tuple[str, ...]
) -> None:
    """Give a folder or URL a name; `kb-ingest sync NAME` loads it."""
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
                    f"{other.name!r} is that place for {other.collection!r} already: each would delete what the other one loads; "
                    "use another --collection, or one source with several patterns"
                )
        if not ledger.sources.add(name, settings.collection, absolute, include, exclude):
            raise SourceError(f"there is a source {name!r} already; `kb-ingest source remove {name}` forgets it")
    click.echo(f"{name}: {absolute} for the collection {settings.collection}; `kb-ingest sync {name}` loads it")


@source.command("list")
@json_option
@click.pass_obj
def list_(context: Context, as_json: bool) -> None:
    """List the sources with their collection and last sync."""
    with context.ledger() as (_, ledger):
        found = ledger.sources.all()
    if as_json:
        print_json(found)
        return
    for one in found:
        click.echo(f"{one.name}: {one.location} for {one.collection}, {_synced(one.synced_at)}")
    if not found:
        click.echo("no sources yet; `kb-ingest source add NAME PATH` makes one")


@source.command()
@click.argument("name")
@json_option
@click.pass_obj
def show(context: Context, name: str, as_json: bool) -> None:
    """Show a source with its documents and its last runs."""
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
    click.echo(f"{found.name}: {found.location} for {found.collection}, {count} documents, {_synced(found.synced_at)}")
    for kind, patterns in (("include", found.include), ("exclude", found.exclude)):
        if patterns:
            click.echo(f"    {kind}: {', '.join(patterns)}")
    for run in runs:
        click.echo(f"    run {run.id}: {run.outcome or 'not finished'}{': ' + one_line(run.detail) if run.detail else ''}")


@source.command()
@click.argument("name")
@click.pass_obj
def remove(context: Context, name: str) -> None:
    """Forget a source. Its documents stay; `kb-ingest delete --prefix` removes them."""
    from pipeline.errors import SourceError

    with context.ledger() as (_, ledger):
        used = [one.name for one in ledger.schedules.all() if one.source == name]
        if used:
            raise SourceError(f"schedules use the source {name!r}: {', '.join(used)}; `kb-ingest schedule remove` them first")
        if not ledger.sources.remove(name):
            raise SourceError(f"there is no source {name!r}; `kb-ingest source list` names them")
    click.echo(f"{name} is forgotten; its documents stay")


@click.command()
@click.argument("name")
@click.option("--allow-delete", is_flag=True, help="Delete also when much of the source, or all of it, is gone.")
@click.option("--wait/--no-wait", default=True, help="Wait until everything is indexed, or return after staging.")
@click.option("--checksum", is_flag=True, help="Compare files by their bytes even where size and time are the same.")
@click.option("--require-gpu", is_flag=True, default=None, help="Fail instead of embedding on the CPU.")
@json_option
@click.pass_obj
def sync(
    context: Context, name: str, allow_delete: bool, wait: bool, checksum: bool, require_gpu: bool | None, as_json: bool
) -> int:
    """Make the collection equal to the source NAME: new and changed documents in, vanished ones out.

    Exit status 1 also means that deletions were refused; the message says why. What is new is loaded all the same.
    """
    from dataclasses import replace

    from workers.cli.load import run_job
    from workers.jobs.sources import source_job

    with context.ledger("warning", require_gpu=require_gpu) as (settings, ledger):
        found, job = source_job(ledger, settings, name)
    job = replace(job, allow_delete=allow_delete, wait=wait, checksum=checksum)
    return run_job(settings.model_copy(update={"collection": found.collection}), job, as_json=as_json)


@click.command()
@click.argument("name")
@json_option
@click.pass_obj
def plan(context: Context, name: str, as_json: bool) -> None:
    """Say what `sync NAME` would do and cost: documents, chunks, time, and the growth of Qdrant. Changes nothing."""
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


#: What a plan counts, in this order.
ACTIONS: tuple[Action, ...] = ("added", "changed", "moved", "vanished", "unchanged", "skipped")


def _print_plan(planned: Plan) -> None:
    for file in planned.files:
        if file.action != "unchanged":
            click.echo(visible(f"{file.action:9} {file.bytes:>12,} B  {file.uri}{'  (' + file.why + ')' if file.why else ''}"))
    click.echo(", ".join(f"{planned.count(action)} {action}" for action in ACTIONS))
    about, seconds = "about " if planned.estimated else "", planned.seconds
    span = "the time is not known before something was embedded here" if seconds is None else f"some {seconds:,.0f} s"
    click.echo(f"{about}{planned.chunks:,} chunks of {planned.tokens:,} tokens to embed, {span}")
    if planned.estimated:
        files = planned.count("added") + planned.count("changed")
        click.echo(
            f"estimated from {planned.parsed_files:,} of {files:,} files, chosen at random: probably "
            f"{planned.chunks_low:,} to {planned.chunks_high:,} chunks"
        )
    click.echo(
        f"Qdrant grows by some {planned.memory_bytes / 1e6:,.1f} MB of memory and {planned.disk_bytes / 1e6:,.1f} MB of disk"
    )
    if planned.refused:
        click.echo(f"deletions would be refused: {planned.refused}")


@click.command()
@click.argument("uris", nargs=-1, metavar="[URI...]")
@click.option("--prefix", metavar="PREFIX", help="All documents whose URI begins so, instead of named ones.")
@existing_collection_option("delete from")
@click.option("--dry-run", is_flag=True, help="Print what would be deleted; delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def delete(
    context: Context, uris: tuple[str, ...], prefix: str | None, collection: str | None, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Delete documents from a collection by URI or path, at once.

    Their files are not touched: the next load or sync that meets them loads them again.
    """
    if bool(uris) == bool(prefix):
        raise click.UsageError("name what to delete: URIs, or --prefix")
    with context.ledger(collection=collection, delete_grace=0.0) as (settings, ledger):
        settings = of_ledger(settings, ledger)
        live = ledger.collections.live_name(settings.collection)
        found = _wanted(ledger, live, uris, prefix)
        if dry_run or not found:
            return _report(found, 0, as_json)
        if prefix and not yes:
            click.confirm(f"Delete {len(found)} documents from {settings.collection}?", abort=True, err=True)
        from workers.jobs.crew import delete_now

        return _report(found, delete_now(settings, ledger, live, [document.id for document in found]), as_json)


def _wanted(ledger: Ledger, live: str, uris: tuple[str, ...], prefix: str | None) -> list[Kept]:
    """The documents of a generation that are named, or whose URI begins as asked."""
    if not prefix:
        return ledger.removal.named(live, sorted({spelling for uri in uris for spelling in _spellings(uri)}))
    return [one for spelling in _spellings(prefix) for window in ledger.removal.present(live, prefix=spelling) for one in window]


def _spellings(text: str) -> list[str]:
    """A URI, or a beginning of URIs, as given and as it stands in the ledger; a slash at its end stays: `a/` does not mean `ab`."""
    from pipeline.sources.uris import root_of, root_uri

    found = root_uri(root_of(text)) + ("/" if text.endswith("/") else "")
    return [found] if "://" not in text else list(dict.fromkeys([text, found]))


def _report(found: list[Kept], deleted: int, as_json: bool) -> int:
    if as_json:
        print_json({"found": [document.uri for document in found], "deleted": deleted})
        return 0
    for document in found[:20]:
        click.echo(visible(document.uri))
    if len(found) > 20:
        click.echo(f"and {len(found) - 20} more")
    click.echo(f"{len(found)} documents found, {deleted} deleted")
    return 0


def _synced(at: float | None) -> str:
    return "never synced" if at is None else f"synced {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))}"
