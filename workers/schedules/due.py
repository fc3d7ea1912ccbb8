"""Starts due schedules: each run is a separate process, so that a long run does not delay others."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from pipeline.errors import ConfigError, KbError, SourceError
from pipeline.ledger import Ledger
from pipeline.ledger.schedules import Schedule
from pipeline.settings import Settings
from workers.process.lifeline import Lifeline
from workers.process.supervisor import environment_of
from workers.schedules.cron import Cron

log = logging.getLogger(__name__)

#: Max concurrent runs of one scheduler; each takes about 100 MB. The others stay due.
RUNS_MAX = 4

#: Exit status of a run whose lease was gone before it began.
TOO_LATE = 75


def next_slot(schedule: Schedule, now: float) -> int | None:
    """When a schedule is next due, in seconds since the epoch: at or before `now` if it is already due; None while paused."""
    if schedule.paused:
        return None
    cron = Cron.parse(schedule.cron, schedule.timezone)
    missed = cron.last(now)
    return missed if missed > schedule.last_slot else cron.after(max(now, schedule.last_slot))


class Starter:
    """Starts due runs, and records when they end; for use in one thread."""

    def __init__(self, settings: Settings, ledger: Ledger, name: str = "", stderr: int = 2, lifeline: int | None = None) -> None:
        self._settings = settings
        self._ledger = ledger
        self._owner = name or f"schedules-{os.getpid()}@{socket.gethostname()}"
        self._stderr = stderr  #: file descriptor for the output of runs
        # Our supervisor's lifeline if we have one, so that runs end when we do, and not after us.
        self._lifeline = Lifeline().reading if lifeline is None else lifeline
        self._running: dict[str, subprocess.Popen[bytes]] = {}  #: by lease
        self._wrong: set[str] = set()  #: names of invalid schedules, so that each is reported once

    def start_due(self, now: float) -> int:
        """Start runs that are due at `now` and not taken by another process; return how many. Cheap if nothing is due.

        Several missed slots become one run. A schedule stays due while its run is in progress, or while another run, such as a
        manual one, loads its source. Raises LedgerUnavailable.
        """
        self.reap()
        started = 0
        for schedule in self._ledger.schedules.all():
            slot = None if schedule.lease else self._due(schedule, now)
            if slot is None or len(self._running) >= RUNS_MAX or self._is_busy(schedule):
                continue
            lease = self._ledger.schedules.claim_slot(schedule, slot, f"{self._owner}/{os.getpid()}")
            if lease is not None:
                self._start(schedule, lease)
                started += 1
        return started

    def reap(self, *, stopped: bool = False) -> None:
        """Release the leases of runs whose process has ended; a run that finishes releases its own.

        A run that was told to stop, possibly before it handles signals, is due again, as is one whose process started so
        slowly, on a busy machine, that its lease had been taken back. A killed run is not, because it may have been its own
        fault.
        """
        for lease, process in list(self._running.items()):
            status = process.poll()
            if status is None:
                continue
            if status < 0:
                log.warning("a scheduled run was killed by signal %d", -status)
            self._ledger.schedules.release(lease, missed=stopped or status in (-signal.SIGTERM, TOO_LATE))
            del self._running[lease]

    def stop(self, grace_s: float) -> None:
        """Tell all runs to stop, and kill those that do not stop within the grace; unfinished runs are due again."""
        for process in self._running.values():
            process.terminate()
        deadline = time.monotonic() + grace_s
        while any(process.poll() is None for process in self._running.values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in self._running.values():
            process.kill()
            process.wait()
        try:
            self.reap(stopped=True)
        except KbError as error:  # the leases expire by themselves, later
            log.warning("%s", error)

    def _is_busy(self, schedule: Schedule) -> bool:
        """Whether another run loads the source of this schedule."""
        # Imported here, because most checks find nothing due and need no load code.
        from workers.jobs.hold import holder
        from workers.jobs.sources import source_job

        if schedule.action != "sync":
            return False
        try:
            source, job = source_job(self._ledger, self._settings, schedule.source)
        except SourceError:  # the run will report it
            return False
        return holder(self._ledger, source.collection, job.scope.uris()) is not None

    def _due(self, schedule: Schedule, now: float) -> int | None:
        try:
            slot = next_slot(schedule, now)
        except ConfigError as error:  # time zones are renamed sometimes
            if schedule.name not in self._wrong:
                log.error("schedule %s does not run: %s", schedule.name, error)
                self._wrong.add(schedule.name)
            return None
        return slot if slot is not None and slot <= now else None

    def _start(self, schedule: Schedule, lease: str) -> None:
        command = [sys.executable, "-m", "workers.schedules.run", lease, "--parent", str(os.getpid())]
        command += ["--lifeline", str(self._lifeline)]
        environment = {**os.environ, **environment_of(self._settings)}
        try:
            # In our process group, so that killing our group kills it too.
            self._running[lease] = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                pass_fds=(self._lifeline,),
            )
        except OSError as error:
            log.error("cannot start a run of schedule %s: %s", schedule.name, error)
            self._ledger.schedules.release(lease, missed=True)


class TimerThread:
    """Starts due runs every few seconds, in the background of a process that does something else."""

    def __init__(self, starter: Starter, every_s: float, grace_s: float, on_look: Callable[[], None] = lambda: None) -> None:
        self._starter = starter
        self._every_s = every_s
        self._grace_s = grace_s  #: seconds that runs get to end
        self._on_look = on_look  #: called after each check, whether or not anything was due
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="schedules", daemon=True)

    def __enter__(self) -> TimerThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)
        self._starter.stop(self._grace_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._starter.start_due(time.time())
            except KbError as error:
                log.warning("%s", error)
            self._on_look()
            self._stop.wait(self._every_s)
