"""The supervisor: starts this host's worker processes, restarts those that die, and stops them together."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from pipeline.errors import KbError
from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.text import plural
from pipeline.types import Stage
from workers import health
from workers.broker.app import SHUTDOWN_S
from workers.process.ahead import Ahead
from workers.process.forkserver import WORKER, Forked
from workers.process.lifeline import Lifeline
from workers.process.locks import WorkersLock
from workers.process.spec import WorkerSpec

log = logging.getLogger(__name__)

#: A worker that lived for SETTLED_S is restarted at once; before others the pause grows each time.
SETTLED_S = 60.0

#: Max seconds before a worker that keeps dying is restarted.
RESTART_MAX_S = 10.0


@dataclass(slots=True)
class _Running:
    spec: WorkerSpec
    process: subprocess.Popen[bytes] | Forked | None = None
    started: float = 0.0
    failures: int = 0
    start_at: float = field(default_factory=time.monotonic)


class Supervisor:
    """Keeps worker processes running; a context manager that stops them at its end.

    If this process is killed, they end by themselves.
    """

    def __init__(
        self,
        settings: Settings,
        specs: Sequence[WorkerSpec],
        on_end: Callable[[str, bool], None],
        *,
        lock: WorkersLock | None = None,
        grace_s: float = SHUTDOWN_S,
        stderr: int = 2,
        ahead: Ahead | None = None,
    ) -> None:
        self._settings = settings
        self._on_end = on_end  #: called with the name of each worker that has ended, and whether it was killed
        self._lock = lock  #: on the data folder; the workers keep it after our end
        self._lifeline = Lifeline()
        self._grace_s = grace_s
        self._stderr = stderr  #: file descriptor for the output of workers
        self._ahead = ahead or Ahead()  #: without a fork server, workers are new interpreters
        self._running = [_Running(spec) for spec in specs]

    def __enter__(self) -> Supervisor:
        self.tend()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        for worker in self._running:
            if worker.spec.lock is not None:
                worker.spec.lock.release()
        self._lifeline.close()

    def tend(self) -> None:
        """Start workers that are not running and whose pause is over; call it about every second."""
        now = time.monotonic()
        for worker in self._running:
            if worker.process is not None and (status := worker.process.poll()) is not None:
                lived = now - worker.started
                worker.failures = 0 if lived >= SETTLED_S else worker.failures + 1
                pause = min(RESTART_MAX_S, 0.25 * 2 ** min(worker.failures, 10)) if worker.failures > 1 else 0.0
                log.warning("%s ended with status %s; restarting it", worker.spec.name, status)
                self._kill_group(worker.process, signal.SIGKILL)
                # If a signal killed it, its documents may be the reason. With an exit status it ended by itself, as Celery does
                # on some faults of Redis: no document is to blame, because this process never touches one.
                self._on_end(worker.spec.name, status < 0)
                worker.process, worker.start_at = None, now + pause
            if worker.process is None and now >= worker.start_at:
                worker.process, worker.started = self._start(worker.spec), now

    def run(self, every_s: float, until: Callable[[], bool]) -> None:
        """Tend the workers until `until` returns true."""
        while not until():
            self.tend()
            time.sleep(every_s)

    def stop(self, *, idle: bool = False) -> None:
        """Ask all workers to finish, take back their leases after half of the grace period, then kill their process groups.

        A step whose lease was taken back stops where it is. `idle` means that nothing is left to do: all results are durable,
        so there is nothing to wait for.
        """
        alive = [(worker, worker.process) for worker in self._running if worker.process is not None]
        for _, process in alive:
            if process.poll() is None and not idle:
                process.send_signal(signal.SIGTERM)
        for share in () if idle else (0.5, 1.0):
            deadline = time.monotonic() + self._grace_s / 2
            while time.monotonic() < deadline and any(process.poll() is None for _, process in alive):
                time.sleep(0.05)
            for worker, process in alive:
                if process.poll() is None:
                    action = "its documents are taken back" if share < 1 else "it is killed"
                    log.warning("%s takes long to end: %s", worker.spec.name, action)
                    self._on_end(worker.spec.name, False)
        for worker, process in alive:
            self._kill_group(process, signal.SIGKILL)
            process.wait()
            worker.process = None
            self._on_end(worker.spec.name, False)

    def _start(self, spec: WorkerSpec) -> subprocess.Popen[bytes] | Forked:
        """Start a worker, forked where there is a server for it.

        It has a group of its own: Ctrl-C in the terminal reaches only us, and we stop the workers gracefully. Its stdin is
        empty, and its stdout is our stderr, as ours is for our own output.
        """
        environment = {**os.environ, **environment_of(self._settings)}
        if spec.visible_gpu:
            # Set before torch touches a device; the process sees the GPU as number 0.
            environment["CUDA_VISIBLE_DEVICES"] = spec.visible_gpu
        arguments = [spec.stage.value, "--name", spec.name, "--concurrency", str(spec.concurrency)]
        arguments += ["--lifeline", str(self._lifeline.reading)]
        files = [self._lifeline.reading, *(lock.fileno() for lock in (self._lock, spec.lock) if lock is not None)]
        if spec.lock is not None:
            arguments += ["--lock", str(spec.lock.fileno())]
        if spec.stage is Stage.EMBED and self._ahead.model is not None:
            arguments += ["--model", str(self._ahead.model.socket.fileno())]
            files.append(self._ahead.model.socket.fileno())
        health.expect(self._settings.health_dir, health.file_of(spec.name))
        if isinstance(spec.stage, Stage) and self._ahead.forks is not None:
            forked = self._ahead.forks.start(arguments, environment, self._stderr, files)
            if forked is not None:
                return forked
        return subprocess.Popen(
            [sys.executable, "-m", WORKER if isinstance(spec.stage, Stage) else "workers.schedules.clock", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._stderr,
            stderr=self._stderr,
            start_new_session=True,
            pass_fds=files,
        )

    @staticmethod
    def _kill_group(process: subprocess.Popen[bytes] | Forked, number: signal.Signals) -> None:
        if process.pid is None:
            process.send_signal(number)
            return
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            return


def bury(ledger: Ledger, max_starts: int) -> Callable[[str, bool], None]:
    """Make the callback for a worker that has ended: remove it from the ledger and release its documents at once."""

    def ended(name: str, killed: bool) -> None:
        try:
            freed = ledger.flow.free_owner(name, max_starts if killed else None)
            ledger.registry.drop(name)
        except KbError as error:  # the leases expire by themselves, later
            log.warning("%s", error)
        else:
            if freed:
                log.warning("released %s held by %s", plural(freed, "document"), name)

    return ended


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as environment variables, so that a child process has the same ones, whatever their source."""
    from pydantic import SecretStr

    environment = {"DO_NOT_TRACK": "1", "UNSTRUCTURED_DISABLE_NOTICE": "1", "TOKENIZERS_PARALLELISM": "false"}
    for name, value in settings:
        if name == "otlp_endpoint" and settings.otlp_is_foreign:
            continue  # it is in the environment under its own name, and would look like ours
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if value in (None, "", ()):
            continue
        environment[f"KB_{name.upper()}"] = ",".join(value) if isinstance(value, tuple) else str(value)
    return environment
