"""A host's long-running service: workers under a supervisor, and a dispatcher."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext

from pipeline.errors import ConfigError, KbError
from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.telemetry import check_tracing
from pipeline.types import Stage
from workers import health
from workers.broker.app import SHUTDOWN_S, TICK_S
from workers.broker.dispatch import DispatchThread
from workers.jobs.crew import Remover, make_dispatcher
from workers.process.locks import ENDING_S, WorkersLock
from workers.process.spec import clocks, plan
from workers.process.supervisor import Supervisor, bury
from workers.schedules.due import Starter, TimerThread

log = logging.getLogger(__name__)

#: Seconds between two sweeps; commands that wait sweep more often.
SWEEP_EVERY_S = 2.0

#: Seconds between two looks for deleted documents whose grace is over.
REMOVE_EVERY_S = 10.0

#: Seconds between two looks at the worker processes.
TEND_EVERY_S = 1.0

#: The names of the dispatcher and of what starts schedules among the signs of life.
DISPATCHER, SCHEDULES = "dispatcher", "schedules"


def serve(settings: Settings, ledger: Ledger, stages: Sequence[str], *, schedules: bool = False, until_empty: bool = False) -> None:
    """Run workers of these stages, none included, and a dispatcher until interrupted, or until nothing is open.

    `schedules` are carried out too: by beat and ticks where there is Redis, else by a timer in this process.

    Raises ConfigError when another process serves this data folder or uses a GPU of this host already, or signs of life cannot
    be written.
    """
    check_tracing(settings)
    lock = WorkersLock(settings.data_dir / "workers.lock")
    owns_store = settings.embedded_store and Stage.EMBED in stages
    # Without workers there is nothing to be alone with: a scheduler's runs bring their own, or wait for those of others.
    alone = bool(stages) and (settings.embedded_broker or owns_store)
    if alone and not lock.acquire(ENDING_S):
        raise ConfigError(f"workers of {lock.taken_by()} serve {settings.data_dir} already; stop them first")
    ended = bury(ledger, settings.max_starts)
    specs = plan(settings, ledger, [Stage(stage) for stage in stages], ended)
    if schedules and not settings.embedded_broker:
        specs += clocks(settings, ledger, ended)
    log.info("workers: %s", ", ".join(spec.name for spec in specs) or "none, dispatcher only")
    try:
        health.prepare(settings.health_dir)
    except OSError as error:
        raise ConfigError(f"KB_HEALTH_DIR {settings.health_dir} cannot be written: {error.strerror}") from error
    health.expect(settings.health_dir, DISPATCHER)
    removing = Removing(settings, ledger) if Stage.EMBED in stages else None  # others need not reach the store

    def swept() -> None:
        health.touch(settings.health_dir, DISPATCHER)
        if removing is not None:
            removing.now_and_then()

    try:
        with (
            Supervisor(settings, specs, ended, lock=lock if alone else None) as supervisor,
            DispatchThread(make_dispatcher(settings, ledger), SWEEP_EVERY_S, swept),
            _timer(settings, ledger) if schedules and settings.embedded_broker else nullcontext(),
        ):
            supervisor.run(TEND_EVERY_S, lambda: until_empty and not ledger.report.progress().open)
    finally:
        lock.release()


def _timer(settings: Settings, ledger: Ledger) -> TimerThread:
    """What carries schedules out without Redis."""
    health.expect(settings.health_dir, SCHEDULES)
    starter = Starter(settings, ledger)
    return TimerThread(starter, TICK_S, SHUTDOWN_S, lambda: health.touch(settings.health_dir, SCHEDULES))


class Removing:
    """Removes what was deleted when its grace is over, or its last worker let go of it, and nobody waits for that."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._next = 0.0  #: monotonic

    def now_and_then(self) -> None:
        """Look at most every REMOVE_EVERY_S; trouble is logged, and the next look tries again."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + REMOVE_EVERY_S
        try:
            with Remover(self._settings, self._ledger) as remover:
                remover.left()
        except KbError as error:
            log.warning("deleted documents are still in the store: %s", error)
