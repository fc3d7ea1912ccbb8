"""One run of a schedule under its lease; the scheduler starts it as `python -m workers.schedules.run LEASE`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

from pipeline.errors import ConfigError, KbError, SourceBusy
from pipeline.ledger import Ledger
from pipeline.ledger.runs import Past
from pipeline.ledger.schedules import Schedule
from pipeline.settings import Settings, load_settings
from workers import logs
from workers.jobs.hold import Beating
from workers.monitoring.diagnosis import Verdict
from workers.monitoring.snapshot import Moment
from workers.process import lifeline
from workers.schedules.actions import ACTIONS, Errand
from workers.schedules.due import TOO_LATE

log = logging.getLogger(__name__)

#: Seconds until an unreachable ledger is tried again.
AGAIN_S = 5.0


def carry_out(
    settings: Settings, ledger: Ledger, schedule: Schedule, beating: Beating, show: Callable[[Moment], None], worker_stderr: int = 2
) -> Past:
    """Run a schedule's action and return the run with its outcome; errors are recorded there too.

    Raises SourceBusy before the run exists if a manual run or another schedule is loading the source.
    """
    before = _newest(ledger, schedule.name)
    try:
        errand = Errand(
            source=schedule.source, schedule=schedule.name, still_ours=beating.still_ours, show=show, worker_stderr=worker_stderr
        )
        ACTIONS[schedule.action](settings, ledger, errand)
    except SourceBusy:
        raise
    except KbError as error:
        _record(ledger, schedule, before, str(error))
    except Exception as error:
        log.exception("schedule %s failed", schedule.name)
        _record(ledger, schedule, before, f"{type(error).__name__}: {error} (a bug in kb-ingest)")
    return ledger.runs.history(1, schedule=schedule.name)[0]


def run_now(settings: Settings, ledger: Ledger, schedule: Schedule, show: Callable[[Moment], None], worker_stderr: int) -> Past:
    """Run a schedule now, in this process; raises ConfigError or SourceBusy if a run is in progress."""
    lease = ledger.schedules.claim_now(schedule.name, f"run-now/{os.getpid()}")
    if lease is None:
        raise ConfigError(
            f"a run of {schedule.name!r} is already in progress; `kb-ingest runs --schedule {schedule.name}` shows it"
        )
    try:
        with Beating(partial(ledger.schedules.beat, lease), settings.lease_s) as beating:
            return carry_out(settings, ledger, schedule, beating, show, worker_stderr)
    finally:
        ledger.schedules.release(lease)


def main(argv: list[str] | None = None) -> int:
    """Run the schedule that a scheduler has claimed; the exit status is 0 if the outcome is `done` or `partly`.

    TOO_LATE if the lease was gone.
    """
    parser = argparse.ArgumentParser(prog="kb-ingest-scheduled")
    parser.add_argument("lease")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    options = parser.parse_args(argv)
    # A new scheduler in the old one's place would not know this process.
    lifeline.resume_when_orphaned()
    lifeline.end_with_parent(options.lifeline, options.parent)
    settings = load_settings()
    with Ledger.open(settings.ledger_url) as ledger:
        schedule = ledger.schedules.of_lease(options.lease)
        logs.set_up(settings.log_level, log_format=settings.log_format, prefix=f"schedule {schedule.name if schedule else ''}")
        if schedule is None:
            log.warning("the lease is gone: the schedule was removed, or this process was too slow to start")
            return TOO_LATE
        log.info("%s of %s", schedule.action, schedule.source)
        beat = partial(ledger.schedules.beat, options.lease)
        try:
            with _ending(ledger, options.lease), Beating(beat, settings.lease_s) as beating:
                past = carry_out(settings, ledger, schedule, beating, Said())
        except SourceBusy as error:
            log.info("%s; the schedule stays due", error)
            return 1
    log.info("run %d: %s%s", past.run.id, past.outcome, f": {past.run.detail}" if past.run.detail else "")
    return 0 if past.outcome in ("done", "partly") else 1


class Said:
    """Logs each obstacle of a run once."""

    def __init__(self) -> None:
        self._told: tuple[Verdict, str] | None = None

    def __call__(self, moment: Moment) -> None:
        """Check the state of the run."""
        told = (moment.diagnosis.verdict, moment.trouble)
        if told != self._told and (moment.diagnosis.stuck or moment.trouble):
            log.warning("%s", moment.diagnosis if moment.diagnosis.stuck else moment.trouble)
        self._told = told


@contextmanager
def _ending(ledger: Ledger, lease: str) -> Iterator[None]:
    """Release the lease at the end in any case; if the run was stopped or could not begin, its slot is due again."""

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    missed = False
    try:
        yield
    except (SystemExit, SourceBusy):
        missed = True
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _release(ledger, lease, missed=missed)


def _release(ledger: Ledger, lease: str, *, missed: bool) -> None:
    try:
        ledger.schedules.release(lease, missed=missed)
    except KbError as error:  # it expires by itself, later
        log.warning("%s", error)


def _newest(ledger: Ledger, name: str) -> int:
    """The number of a schedule's last run; 0: no run yet."""
    return next((row.id for row in ledger.runs.latest(1, schedule=name)), 0)


def _record(ledger: Ledger, schedule: Schedule, before: int, detail: str) -> None:
    """Record why a run failed, even if it failed before the run existed; waits for an unreachable ledger."""
    while True:
        try:
            run = _newest(ledger, schedule.name)
            if run == before:
                source = ledger.sources.get(schedule.source)
                collection = source.collection if source else ""
                run = ledger.runs.start(collection, schedule.action, schedule.source, schedule.name)
            found = ledger.runs.get(run)
            if found is not None and found.outcome in ("", "interrupted"):
                ledger.runs.end(run, "failed", detail)
        except KbError as error:
            log.warning("%s", error)
            time.sleep(AGAIN_S)
        else:
            return


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
