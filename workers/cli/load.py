"""`kb-ingest load`: load folders into a collection."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import rich_click as click

from pipeline.telemetry.context import about
from pipeline.text import one_line, plural, visible
from workers.cli.context import Context, print_json, say
from workers.cli.options import collection_option, json_option, strict_options
from workers.cli.records import records_options, say_without_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.metadata import Raw
    from pipeline.settings import Settings
    from pipeline.steps.load import Planned
    from pipeline.types import RecordFields
    from workers.jobs.load import Loading, Result
    from workers.jobs.sources import Job
    from workers.process.ahead import Ahead

#: Exit status of a load or sync that has finished, and whose documents are not all as they should be.
EXIT_PARTLY = 3
#: The most files that are named at the end, of those left out and of those that failed.
NAMED = 10


@click.command()
@click.argument("paths", nargs=-1, required=True)
@collection_option("Collection to load into (KB_COLLECTION).")
@click.option("--include", multiple=True, metavar="GLOB", help="Load only files whose name or path below PATH matches; repeatable.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Skip files whose name or path below PATH matches; repeatable.")
@click.option("--hidden", is_flag=True, default=None, help="Include hidden files and folders.")
@click.option("--wait/--no-wait", default=True, help="Wait until everything is indexed, or return after staging.")
@click.option("--sync", is_flag=True, help="Also delete documents that were loaded from PATH and no longer exist there.")
@click.option("--allow-delete", is_flag=True, help="With --sync: delete even if many or all documents of PATH are gone.")
@click.option("--dry-run", is_flag=True, help="List files that would be added, changed, unchanged or skipped; change nothing.")
@click.option(
    "--checksum", is_flag=True, help="Compare the contents of files even if their size and modification time are unchanged."
)
@click.option(
    "--meta", multiple=True, metavar="NAME=VALUE", help="Metadata of all documents of this load; repeatable. NAME= removes a field."
)
@click.option("--require-gpu", is_flag=True, default=None, help="Fail instead of embedding on the CPU.")
@records_options
@strict_options
@json_option
@click.pass_obj
def load(
    context: Context, paths: tuple[str, ...], collection: str | None, include: tuple[str, ...], exclude: tuple[str, ...],
    hidden: bool | None, wait: bool, sync: bool, allow_delete: bool, dry_run: bool, checksum: bool, meta: tuple[str, ...],
    records: RecordFields | None, require_gpu: bool | None, strict: bool, fail_on_loss: bool, as_json: bool,
) -> int:  # fmt: skip
    """Load files, folders, and URLs such as s3://bucket/folder, git+https://host/repo.git@main#docs and https://host/sitemap.xml.

    Files that have not changed since the last load are not processed again. Ctrl-C loses nothing: the next load continues.
    Files that hold nothing readable, such as photos, are skipped with a reason. Exit status 3 means that some documents are
    quarantined; `kb-ingest status` lists them.
    """
    from dataclasses import replace

    from workers.process.ahead import Ahead

    given = _given(meta)
    say_without_records(paths, records)
    settings = context.settings("warning", collection=collection, hidden=hidden, require_gpu=require_gpu)
    with Ahead() as ahead:
        if wait and not dry_run:
            ahead.load_model(settings)
        from pipeline.sources.discover import Patterns
        from pipeline.sources.uris import root_of
        from pipeline.steps.scope import Scope
        from workers.jobs.load import Loading
        from workers.jobs.sources import Job

        patterns = Patterns(include, exclude, settings.ignore, settings.hidden)
        scope = Scope([root_of(path) for path in paths], patterns)
        job = Job(scope, "sync" if sync else "load", sync=sync, allow_delete=allow_delete, wait=wait, checksum=checksum, meta=given)
        job = replace(job, records=records)
        if dry_run:
            with Loading(settings, settings.collection) as loading:
                return _print_plan(loading.plan(job), as_json)
        return run_job(settings, job, ahead, as_json=as_json, strict=strict, fail_on_loss=fail_on_loss)


def _given(meta: Sequence[str]) -> dict[str, Raw]:
    """The metadata of `--meta`; a name that is repeated has a list of values."""
    from pipeline.filters import Bare, field_name
    from pipeline.metadata import why_not

    found: dict[str, list[Raw]] = {}
    for text in meta:
        key, equals, value = text.partition("=")
        name = field_name(key)
        why = why_not(name) if equals else "use NAME=VALUE"
        if why:
            raise click.UsageError(f"--meta {text}: {why}")
        found.setdefault(name, []).append(Bare(value.strip()))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def run_job(settings: Settings, job: Job, ahead: Ahead, *, as_json: bool, strict: bool = False, fail_on_loss: bool = False) -> int:
    """Run a job with a display, print its result, and return the exit status.

    `ahead` gets what the job's workers share. `strict`: skipped documents count as failures; `fail_on_loss`: so do documents
    with losses. As JSON, the result is printed however the job ends.
    """
    from workers.jobs.load import Loading

    if job.wait:
        ahead.load_model(settings)
        ahead.fork_workers(settings)
    from workers.cli.display import progress_display
    from workers.jobs.webhooks import Sending

    with Loading(settings, settings.collection, ahead) as loading, Sending(settings):
        try:
            loading.prepare()
            with progress_display() as display:
                result = loading.run(job, display, display.stderr)
        except BaseException as error:
            if as_json:
                print_json(_unfinished(settings, loading, error))
            raise
    states = result.progress.states
    partly = bool(states.get("quarantined") or (strict and states.get("skipped")) or (fail_on_loss and result.losses))
    if as_json:
        print_json(_record(settings, result, "refused" if result.refused else ("partly" if partly else "done")))
    else:
        _print_result(settings, result, job.wait)
    if result.refused:
        say(f"error: {result.refused}", logging.ERROR)
        return 1
    return EXIT_PARTLY if partly else 0


def _unfinished(settings: Settings, loading: Loading, error: BaseException) -> dict[str, object]:
    """What is known of a job that ended with an error, with the fields of a finished one as far as they are known."""
    from pipeline.errors import KbError

    states: dict[str, int] = {}
    with suppress(KbError):  # it may be the ledger that failed
        states = loading.ledger.report.progress(loading.run_id).states if loading.run_id is not None else {}
    return {
        "run": loading.run_id,
        "outcome": "failed" if isinstance(error, Exception) else "interrupted",
        "error": one_line(str(error)) or type(error).__name__,
        "collection": settings.collection,
        **{name: states.get(name, 0) for name in ("indexed", "quarantined", "skipped")},
    }


def _record(settings: Settings, result: Result, outcome: str) -> dict[str, object]:
    states, worker = result.progress.states, result.worker
    return {
        "run": result.run,
        "outcome": outcome,
        "error": result.refused,
        "collection": settings.collection,
        "discovered": result.counts.discovered,
        "unchanged": result.counts.unchanged,
        "indexed": states.get("indexed", 0),
        "quarantined": states.get("quarantined", 0),
        "skipped": states.get("skipped", 0),
        "skipped_reasons": result.skipped,
        "lossy_documents": result.losses.documents,
        "losses": result.losses.kinds,
        "deleted": result.deleted,
        "deletions_refused": result.refused,
        "chunks": result.progress.embedded,
        "bytes": result.counts.bytes,
        "seconds": round(result.seconds, 3),
        "chunks_per_s": round(result.progress.embedded / result.seconds, 1) if result.seconds else 0.0,
        "device": worker.device if worker else None,
        "dtype": worker.dtype if worker else None,
        "model": result.model,
    }


def _print_result(settings: Settings, result: Result, waited: bool) -> None:
    record = _record(settings, result, "")
    for omitted in result.counts.omitted[:NAMED]:
        say(visible(f"left out: {omitted.name} {omitted.why}"))
    if result.counts.omitted_count > NAMED:
        say(f"left out: {result.counts.omitted_count - NAMED} more")
    for reason, count in result.skipped.items():
        say(f"skipped: {plural(count, 'document')}: {reason}")
    for failure in result.failures[:NAMED]:
        with about(run=result.run, uri=failure.uri):
            say(f"quarantined: {visible(failure.uri)}: {failure.reason}: {one_line(failure.detail)}", logging.WARNING)
    if len(result.failures) > NAMED:
        say(f"quarantined: {len(result.failures) - NAMED} more, see `kb-ingest status {result.run}`", logging.WARNING)
    if not waited:
        click.echo(f"run {result.run}: {plural(result.progress.open, 'document')} staged; run `kb-ingest up` to index them")
        return
    gone = f", {record['deleted']} deleted" if result.deleted else ""
    where = f" on {record['device']} in {record['dtype']}" if record["device"] else ""
    click.echo(
        f"run {result.run}: {plural(result.counts.discovered, 'file')}, {record['unchanged']} unchanged, "
        f"{record['indexed']} indexed, {record['quarantined']} quarantined, {record['skipped']} skipped{gone}; "
        f"{plural(result.progress.embedded, 'chunk')} embedded in {result.seconds:.1f} s ({record['chunks_per_s']} chunks/s{where})"
    )
    if result.losses:
        click.echo(f"{result.losses}; `kb-ingest status {result.run}` names them")


def _print_plan(planned: Iterable[Planned], as_json: bool) -> int:
    totals: dict[str, list[int]] = {action: [0, 0] for action in ("added", "changed", "unchanged", "unknown", "skipped")}
    files = []
    for item in planned:
        totals[item.action][0] += 1
        totals[item.action][1] += item.bytes
        if as_json:
            files.append(item)
        elif item.action != "unchanged":
            click.echo(visible(f"{item.action:9} {item.bytes:>12,} B  {item.uri}{'  (' + item.why + ')' if item.why else ''}"))
    if as_json:
        print_json({**{action: {"files": count, "bytes": size} for action, (count, size) in totals.items()}, "files": files})
    else:
        click.echo("; ".join(f"{count} {action} ({size:,} bytes)" for action, (count, size) in totals.items()))
    return 0
