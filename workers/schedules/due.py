"""What is due: each run a process of its own, so that a long one delays no other."""

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

#: Most runs of one scheduler at a time; each takes about 100 MB. The others stay due.
RUNS_MAX = 4


def next_slot(schedule: Schedule, now: float) -> int | None:
    """When a schedule is due next, in seconds since the epoch: not after `now` where it is due already; None while paused."""
    if schedule.paused:
        return None
    cron = Cron.parse(schedule.cron, schedule.timezone)
    missed = cron.last(now)
    return missed if missed > schedule.last_slot else cron.after(max(now, schedule.last_slot))


class Starter:
    """Starts runs that are due, and takes note of their ends; for one thread."""

    def __init__(self, settings: Settings, ledger: Ledger, name: str = "", stderr: int = 2, lifeline: int | None = None) -> None:
        self._settings = settings
        self._ledger = ledger
        self._owner = name or f"schedules-{os.getpid()}@{socket.gethostname()}"
        self._stderr = stderr  #: file descriptor for what the runs say
        # That of our supervisor where we have one: runs end at the same time as we do, and not after us.
        self._lifeline = Lifeline().reading if lifeline is None else lifeline
        self._running: dict[str, subprocess.Popen[bytes]] = {}  #: by lease
        self._wrong: set[str] = set()  #: names of schedules that make no sense, so that it is said once

    def start_due(self, now: float) -> int:
        """Start what is due at `now` and nobody else has taken; return how many. Cheap when nothing is.

        Several slots that were missed are one run. A schedule whose run goes on stays due, and so does one whose source is
        loaded by another run, such as one by hand. Raises LedgerUnavailable.
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
        """Free the leases of runs whose process has ended; those that came to their end have done so themselves.

        What was told to stop, which may come before it listens, is due again; what was killed is not, as it may be its fault.
        """
        for lease, process in list(self._running.items()):
            status = process.poll()
            if status is None:
                continue
            if status < 0:
                log.warning("the process of a scheduled run ended with %d", status)
            self._ledger.schedules.release(lease, missed=stopped or status == -signal.SIGTERM)
            del self._running[lease]

    def stop(self, grace_s: float) -> None:
        """Tell all runs to stop, and kill those that do not within the grace; what they leave is due again."""
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
        """Whether another run loads what this one would load."""
        # Imported here: where nothing is due, nothing of a load is needed.
        from workers.jobs.hold import holder
        from workers.jobs.sources import source_job

        if schedule.action != "sync":
            return False
        try:
            source, job = source_job(self._ledger, self._settings, schedule.source)
        except SourceError:  # the run will say so
            return False
        return holder(self._ledger, source.collection, job.scope.uris()) is not None

    def _due(self, schedule: Schedule, now: float) -> int | None:
        try:
            slot = next_slot(schedule, now)
        except ConfigError as error:  # time zones change their names
            if schedule.name not in self._wrong:
                log.error("the schedule %s is not carried out: %s", schedule.name, error)
                self._wrong.add(schedule.name)
            return None
        return slot if slot is not None and slot <= now else None

    def _start(self, schedule: Schedule, lease: str) -> None:
        command = [sys.executable, "-m", "workers.schedules.run", lease, "--parent", str(os.getpid())]
        command += ["--lifeline", str(self._lifeline)]
        environment = {**os.environ, **environment_of(self._settings)}
        try:
            # In our process group, so that whoever kills us kills it too.
            self._running[lease] = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                pass_fds=(self._lifeline,),
            )
        except OSError as error:
            log.error("cannot start a run of the schedule %s: %s", schedule.name, error)
            self._ledger.schedules.release(lease, missed=True)


class TimerThread:
    """Starts what is due every few seconds, in the background of a process that has something else to do."""

    def __init__(self, starter: Starter, every_s: float, grace_s: float, on_look: Callable[[], None] = lambda: None) -> None:
        self._starter = starter
        self._every_s = every_s
        self._grace_s = grace_s  #: seconds that runs get to end
        self._on_look = on_look  #: called after each look, whether or not anything was due
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
