"""`kb-ingest watch`: keep a collection equal to a folder while it runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import rich_click as click

from pipeline.text import duration, one_line, plural, visible
from workers.cli.context import Context, say

if TYPE_CHECKING:
    from workers.jobs.load import Result

#: Most failures of a sync that are named.
NAMED = 10


@click.command()
@click.argument("name")
@click.option(
    "--allow-delete", is_flag=True, help="Delete documents even if many of the source are gone, but not if all files are."
)
@click.option("--poll/--no-poll", default=None, help="Look at all files now and then, as on network file systems (default: there).")
@click.option(
    "--poll-every", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Seconds between two looks with --poll."
)
@click.option("--full-every", type=click.FloatRange(1.0), default=3600.0, show_default=True, help="Max seconds between two syncs.")
@click.option("--require-gpu", is_flag=True, default=None, help="Fail instead of embedding on the CPU.")
@click.pass_obj
def watch(
    context: Context,
    name: str,
    allow_delete: bool,
    poll: bool | None,
    poll_every: float,
    full_every: float,
    require_gpu: bool | None,
) -> None:
    """Keep the collection equal to the source NAME, a folder, until interrupted: sync at once and after every change.

    Deletions that look like an accident are refused, as by `sync`. Errors that may pass are tried again.
    """
    from workers.jobs.watch import Options, Watcher, Watching
    from workers.jobs.webhooks import Sending
    from workers.schedules.run import Said

    options = Options(allow_delete, poll, poll_every, full_every)
    with context.ledger("warning", require_gpu=require_gpu) as (settings, ledger):
        told = _Told()
        watcher = Watcher(on_begin=say, on_result=told.result, on_moment=Said(), on_trouble=told.trouble)
        try:
            with Sending(settings):
                Watching(settings, ledger, name, options, watcher).run()
        except (KeyboardInterrupt, SystemExit):
            say("stopped watching; what is staged is continued the next time")


class _Told:
    """Says what syncs have done: nothing where nothing was to be done, and an obstacle that stays only once."""

    def __init__(self) -> None:
        self._refused = ""
        self._syncs = 0

    def result(self, result: Result) -> None:
        """Say what a sync has done."""
        self._syncs += 1
        states, counts = result.progress.states, result.counts
        parts = [f"{count} {state}" for state in ("indexed", "quarantined", "skipped") if (count := states.get(state, 0))]
        parts += [f"{result.deleted} deleted"] if result.deleted else []
        worked = counts.added or counts.changed or result.deleted or states.get("indexed", 0)
        if worked or self._syncs == 1:
            done = ", ".join(parts) or "nothing to do"
            say(f"run {result.run}: {done}, of {plural(counts.discovered, 'file')}, in {duration(result.seconds)}")
        for failure in result.failures[:NAMED] if counts.added or counts.changed else []:
            say(f"quarantined: {visible(failure.uri)}: {failure.reason}: {one_line(failure.detail)}", logging.WARNING)
        if result.refused and result.refused != self._refused:
            say(f"deletions refused: {result.refused}", logging.WARNING)
        self._refused = result.refused

    def trouble(self, text: str) -> None:
        """Report an error that is tried again."""
        say(f"warning: {text}", logging.WARNING)
