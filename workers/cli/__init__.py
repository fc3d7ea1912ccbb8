"""The command line: `kb-ingest COMMAND`. Each command decodes its options, calls the library and reports the result."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import rich_click as click
from click.exceptions import Exit

from pipeline.errors import KbError
from pipeline.files.private import keeping_umask
from workers import logs
from workers.cli import (
    embedding_map,
    evaluate,
    facets,
    host,
    info,
    life,
    load,
    mcp,
    moveup,
    output,
    quarantine,
    reindex,
    report,
    runs,
    schedule,
    search,
    serve,
    service,
    source,
    status,
    store,
    token,
    upkeep,
    watch,
    webhook,
)  # fmt: skip
from workers.cli.context import Context, say

#: Exit statuses, the same for every command; `load` has one more for quarantined documents.
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

#: Number of new objects after which Python looks for garbage.
GC_THRESHOLD = 50_000


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Data folder (KB_DATA_DIR).")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Minimum log level (on stderr).")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Write log lines as text or as one JSON object each.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=info.print_version,
    help="Print the version, the inputs of fingerprints, and the ledger's schema version.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error, and log at level debug.")
@click.pass_context
def cli(context: click.Context, data_dir: Path | None, log_level: str | None, log_format: str | None, debug: bool) -> None:
    """Turn folders of documents into a searchable vector collection."""
    context.obj = Context(data_dir, "debug" if debug else log_level, log_format)
    if log_format == "json":  # also for errors in the settings
        logs.set_up(log_level or "info", log_format="json")


for command in (
    load.load, search.search, embedding_map.embedding_map, evaluate.evaluate, facets.facets, status.status, quarantine.retry,
    quarantine.quarantine, store.verify, store.collections, store.promote, moveup.ledger, moveup.move_up,
    upkeep.gc, upkeep.backup, upkeep.restore, service.worker,
    service.up, service.scheduler, service.flower, service.metrics, host.init, host.assess, host.doctor,
    source.source, source.sync, watch.watch, source.plan, source.delete, schedule.schedule, runs.runs, report.report, life.logs,
    reindex.reindex, reindex.rollback,
    serve.serve, mcp.mcp, token.token, webhook.webhook,
    host.docker_memory, host.compose, info.config, info.version,
):  # fmt: skip
    cli.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit status. An error prints one line on stderr, and a traceback only with --debug."""
    debug = "--debug" in arguments
    try:
        with keeping_umask():
            result = cli.main(list(arguments), prog_name="kb-ingest", standalone_mode=False)
        if sys.stdout is not None:  # None if the descriptor is closed
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except Exit as ended:
        return int(ended.exit_code)
    except click.ClickException as error:
        if logs.structured():
            say(error.format_message(), logging.ERROR)
        else:
            error.show()
        return EXIT_USAGE if isinstance(error, click.UsageError) else EXIT_FAILED
    except (KeyboardInterrupt, click.Abort):
        say("interrupted: the next load or `kb-ingest up` continues with the staged documents", logging.WARNING)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_FAILED  # the reader has closed the pipe, as in `kb-ingest ... | head`
    except KbError as error:
        _tell(f"error: {error}", error if debug else None)
        return EXIT_FAILED
    except Exception as error:
        fault = f"error: {type(error).__name__}: {error} (a bug in kb-ingest; run `kb-ingest --debug ...` for the traceback)"
        _tell(fault, error if debug else None)
        return EXIT_FAILED


def _tell(text: str, error: Exception | None) -> None:
    """Report a failure, with the traceback of `error` if there is one."""
    if error is not None and not logs.structured():
        traceback.print_exception(error)
    say(text, logging.ERROR, error)


def main() -> None:
    """Entry point of the console script."""
    # Imports make a million objects that stay; with the default of 700 new ones, looking for garbage among them takes a fifth
    # of the time of imports. Workers that are forked inherit this.
    gc.set_threshold(GC_THRESHOLD)
    signal.signal(signal.SIGTERM, _terminate)
    output.guard()
    try:
        status = run(sys.argv[1:])
    finally:
        output.abandon()
    sys.exit(status)


def _terminate(number: int, _frame: FrameType | None) -> None:
    # An exception stops workers and closes files on the way out.
    raise SystemExit(128 + number)
