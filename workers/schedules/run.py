"""One run of a schedule under its lease; `python -m workers.schedules.run LEASE` is the process that a scheduler starts for it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType

from pipeline.errors import ConfigError, KbError, LeaseLost
from pipeline.ledger import Ledger
from pipeline.ledger.history import Past
from pipeline.ledger.schedules import Schedule
from pipeline.settings import Settings, load_settings
from workers import logs
from workers.monitoring.diagnosis import Verdict
from workers.monitoring.snapshot import Moment
from workers.schedules.actions import ACTIONS, Errand

log = logging.getLogger(__name__)

#: Longest pause between two beats of a run's lease.
BEAT_EVERY_S = 5.0


class Beating:
    """Counts a lease's beat up while this process lives; a context manager.

    From a thread, unlike the beats of documents: listing a large source takes as long as it takes, and a second run beside
    one that lives is worse than one that hangs and is seen to.
    """

    def __init__(self, ledger: Ledger, lease: str, lease_s: float, parent: int | None = None) -> None:
        self._ledger = ledger
        self._lease = lease
        self._every_s = min(BEAT_EVERY_S, lease_s / 4)
        self._parent = parent  #: process id of the scheduler, whose end is ours; None: we are nobody's child
        self._lost: LeaseLost | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)

    def __enter__(self) -> Beating:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def still_ours(self) -> None:
        """Raises LeaseLost when the lease was taken back."""
        if self._lost is not None:
            raise self._lost

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._parent is not None and os.getppid() != self._parent:
                # The scheduler was killed: whoever takes its place would not know of us.
                os.kill(os.getpid(), signal.SIGTERM)
                return
            try:
                self._ledger.schedules.beat(self._lease)
            except LeaseLost as error:
                self._lost = error
                return
            except KbError as error:
                log.warning("%s", error)
            self._stop.wait(self._every_s)


def carry_out(
    settings: Settings, ledger: Ledger, schedule: Schedule, beating: Beating, show: Callable[[Moment], None], worker_stderr: int = 2
) -> Past:
    """Do what a schedule says and return the run, which says what became of it; errors stand there too."""
    before = _newest(ledger, schedule.name)
    try:
        errand = Errand(schedule.source, schedule.name, beating.still_ours, show, worker_stderr)
        ACTIONS[schedule.action](settings, ledger, errand)
    except KbError as error:
        _record(ledger, schedule, before, str(error))
    except Exception as error:
        log.exception("the schedule %s failed", schedule.name)
        _record(ledger, schedule, before, f"{type(error).__name__}: {error} (a fault of kb-ingest)")
    return ledger.history.runs(1, schedule=schedule.name)[0]


def run_now(settings: Settings, ledger: Ledger, schedule: Schedule, show: Callable[[Moment], None], worker_stderr: int) -> Past:
    """Carry a schedule out here and at once, whatever the time is; raises ConfigError where a run goes on."""
    lease = ledger.schedules.claim_now(schedule.name, f"run-now/{os.getpid()}")
    if lease is None:
        raise ConfigError(f"a run of {schedule.name!r} goes on already; `kb-ingest runs --schedule {schedule.name}` shows it")
    try:
        with Beating(ledger, lease, settings.lease_s) as beating:
            return carry_out(settings, ledger, schedule, beating, show, worker_stderr)
    finally:
        ledger.schedules.release(lease)


def main(argv: list[str] | None = None) -> int:
    """Carry out what a scheduler has claimed; the exit status is 0 when the run says `done` or `partly`."""
    parser = argparse.ArgumentParser(prog="kb-ingest-scheduled")
    parser.add_argument("lease")
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(argv)
    settings = load_settings()
    ledger = Ledger.open(settings.ledger_url)
    schedule = ledger.schedules.of_lease(options.lease)
    name = f"schedule {schedule.name if schedule else ''}"
    logs.set_up(settings.log_level, log_format=settings.log_format, prefix=name)
    if schedule is None:
        log.warning("the lease is gone: the schedule was removed, or we were too slow to start")
        return 1
    log.info("%s of %s", schedule.action, schedule.source)
    with _ending(ledger, options.lease), Beating(ledger, options.lease, settings.lease_s, options.parent) as beating:
        past = carry_out(settings, ledger, schedule, beating, Said())
    log.info("run %d: %s%s", past.run.id, past.outcome, f": {past.run.detail}" if past.run.detail else "")
    return 0 if past.outcome in ("done", "partly") else 1


class Said:
    """Logs what keeps a run from going on, once."""

    def __init__(self) -> None:
        self._told: tuple[Verdict, str] | None = None

    def __call__(self, moment: Moment) -> None:
        """Look at where the run stands."""
        told = (moment.diagnosis.verdict, moment.trouble)
        if told != self._told and (moment.diagnosis.stuck or moment.trouble):
            log.warning("%s", moment.diagnosis if moment.diagnosis.stuck else moment.trouble)
        self._told = told


@contextmanager
def _ending(ledger: Ledger, lease: str) -> Iterator[None]:
    """Release the lease at the end, however it comes; told to stop before that, the slot is due again."""

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    missed = False
    try:
        yield
    except SystemExit:
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
    """The number of a schedule's last run; 0: there was none."""
    return next((row.id for row in ledger.report.runs(1, schedule=name)), 0)


def _record(ledger: Ledger, schedule: Schedule, before: int, detail: str) -> None:
    """Have the ledger say why a run failed, also where it failed before it was a run; waits for a ledger that is away."""
    while True:
        try:
            run = _newest(ledger, schedule.name)
            if run == before:
                source = ledger.sources.get(schedule.source)
                collection = source.collection if source else ""
                run = ledger.intake.start_run(collection, schedule.action, schedule.source, schedule.name)
            found = ledger.report.run(run)
            if found is not None and found.outcome in ("", "interrupted"):
                ledger.intake.end_run(run, "failed", detail)
        except KbError as error:
            log.warning("%s", error)
            time.sleep(BEAT_EVERY_S)
        else:
            return


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
