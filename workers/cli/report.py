"""`kb-ingest report`: a full report on one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from workers.cli.context import Context, print_json
from workers.cli.options import json_option

if TYPE_CHECKING:
    from pipeline.ledger.runs import Past
    from pipeline.reports.run import RunReport

#: Max documents of each kind listed in the text.
NAMED = 5


@click.command()
@click.argument("run", type=int, required=False)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the report to this file, as one self-contained page.",
)
@json_option
@click.pass_obj
def report(context: Context, run: int | None, html: Path | None, as_json: bool) -> None:
    """Report on RUN (default: the last run): figures, throughput, time by stage, slowest documents, failures, chunk lengths.

    The page needs no network and contains no scripts, so it can be sent to others as it is.
    """
    from pipeline.errors import ConfigError
    from pipeline.reports.run import gather
    from pipeline.reports.run.page import report_page
    from pipeline.reports.write import write_page

    with context.ledger() as (_, ledger):
        past = ledger.runs.past(run) if run is not None else next(iter(ledger.runs.history(1)), None)
        if past is None:
            raise ConfigError(
                "no runs yet; `kb-ingest load PATH` starts one"
                if run is None
                else f"run {run} does not exist; `kb-ingest runs` lists all runs"
            )
        found = gather(ledger, past)
    if html is not None:
        write_page(report_page(found), html)
    if as_json:
        print_json(found)
    elif html is not None:
        click.echo(f"run {found.run.id}: report written to {html}")
    else:
        _print(found, past)


def _print(found: RunReport, past: Past) -> None:
    from pipeline.ledger.losses import told
    from pipeline.reports.run.words import missing
    from pipeline.text import duration, number, one_line, plural, size, visible
    from workers.cli.runs import line

    totals, lengths = found.totals, found.lengths
    click.echo(line(past))
    if found.run.action not in ("verify", "delete"):
        click.echo(
            f"{number(totals.tokens)} tokens, {size(totals.bytes)} staged; {number(totals.chunks_per_s)} chunks/s, "
            f"{number(totals.documents_per_s)} documents/s, {size(totals.bytes_per_s)}/s{' so far' if found.so_far else ''}"
        )
    if lengths.chunks:
        limit = f"the model accepts up to {lengths.limit} tokens" if lengths.limit else "the model server does not report its limit"
        click.echo(f"{plural(lengths.over, 'chunk')} cut of {number(lengths.chunks)}: {limit}")
    if found.events != "whole":
        click.echo(missing(found))
    for stage in found.stages:
        if stage.documents:
            click.echo(
                f"{stage.stage}: {duration(stage.work_s)} of work, {duration(stage.waited_s)} of waiting, summed over all documents"
            )
    for one in found.slowest[:NAMED]:
        spent = f"{duration(one.parse_s + one.embed_s)} (parse {duration(one.parse_s)}, embed {duration(one.embed_s)})"
        click.echo(f"slow: {spent}, {plural(one.chunks, 'chunk')}: {visible(one.uri or one.id)}")
    for group in found.failures:
        click.echo(f"{group.reason}: {plural(group.documents, 'document')}")
        for failure in group.named[:NAMED]:
            since = f" ({failure.since})" if failure.since else ""
            click.echo(f"    {visible(failure.uri or failure.id)}: {one_line(failure.detail)}{since}")
        if group.documents > NAMED:
            click.echo(f"    and {number(group.documents - NAMED)} more; --json and --html list up to 200")
    for group in found.skipped:
        click.echo(f"skipped: {plural(group.documents, 'document')}: {group.reason}")
    if found.losses:
        click.echo(f"{plural(found.lossy_documents, 'document')} indexed with losses: {told(found.losses)}")
    for document in found.lossy[:NAMED]:
        click.echo(f"    {visible(document.uri)}: {told(document.kinds)}")
