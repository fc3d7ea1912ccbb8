"""A host's long-running service: supervised workers, a dispatcher and schedules."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext

from pipeline.errors import ConfigError, KbError
from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.telemetry.tracing import check_tracing
from pipeline.types import Stage
from workers import health
from workers.broker.app import SHUTDOWN_S, TICK_S, make_app
from workers.broker.dispatch import DispatchThread
from workers.broker.queues import Broker
from workers.jobs.crew import Remover, make_dispatcher
from workers.jobs.webhooks import Sending
from workers.process.locks import ENDING_S, WorkersLock
from workers.process.spec import clocks, plan
from workers.process.supervisor import Supervisor, bury
from workers.schedules.due import Starter, TimerThread

log = logging.getLogger(__name__)

#: Seconds between two sweeps; commands that wait sweep more often.
SWEEP_EVERY_S = 2.0

#: Seconds between two checks for deleted documents whose grace is over.
REMOVE_EVERY_S = 10.0

#: Seconds between two checks of the worker processes.
TEND_EVERY_S = 1.0

#: Names of the heartbeat files of the dispatcher and of the schedule timer.
DISPATCHER, SCHEDULES = "dispatcher", "schedules"


def serve(settings: Settings, ledger: Ledger, stages: Sequence[str], *, schedules: bool = False, until_empty: bool = False) -> None:
    """Run workers of these stages (possibly none) and a dispatcher until interrupted, or until nothing is left to do.

    With `schedules`, also run schedules: by beat and ticks with Redis, otherwise by a timer in this process.

    Raises ConfigError if another process already serves this data folder or uses a GPU of this host, if heartbeat files cannot be
    written, or if the broker is of a kind that cannot be used.
    """
    check_tracing(settings)
    Broker(make_app(settings)).check()
    lock = WorkersLock(settings.data_dir / "workers.lock")
    owns_store = settings.embedded_store and Stage.EMBED in stages
    # Without workers no lock is needed: a scheduler's runs start their own workers, or wait for those of others.
    alone = bool(stages) and (settings.embedded_broker or owns_store)
    if alone and not lock.acquire(ENDING_S):
        raise ConfigError(f"workers of {lock.taken_by()} already serve {settings.data_dir}; stop them first")
    ended = bury(ledger, settings.max_starts)
    specs = plan(settings, ledger, [Stage(stage) for stage in stages], ended)
    if schedules and not settings.embedded_broker:
        specs += clocks(settings, ledger, ended)
    log.info("workers: %s", ", ".join(spec.name for spec in specs) or "none, dispatcher only")
    try:
        health.prepare(settings.health_dir)
    except OSError as error:
        raise ConfigError(f"cannot write to KB_HEALTH_DIR {settings.health_dir}: {error.strerror}") from error
    health.expect(settings.health_dir, DISPATCHER)
    removing = Removing(settings, ledger) if Stage.EMBED in stages else None  # other processes may not reach the store

    def swept() -> None:
        health.touch(settings.health_dir, DISPATCHER)
        if removing is not None:
            removing.now_and_then()

    try:
        with (
            Supervisor(settings, specs, ended, lock=lock if alone else None) as supervisor,
            DispatchThread(make_dispatcher(settings, ledger), SWEEP_EVERY_S, swept),
            Sending(settings) if schedules else nullcontext(),
            _timer(settings, ledger) if schedules and settings.embedded_broker else nullcontext(),
        ):
            supervisor.run(TEND_EVERY_S, lambda: until_empty and not ledger.report.progress().open)
    finally:
        lock.release()


def _timer(settings: Settings, ledger: Ledger) -> TimerThread:
    """The timer that runs schedules without Redis."""
    health.expect(settings.health_dir, SCHEDULES)
    starter = Starter(settings, ledger)
    return TimerThread(starter, TICK_S, SHUTDOWN_S, lambda: health.touch(settings.health_dir, SCHEDULES))


class Removing:
    """Removes deleted documents once their grace is over or their last worker has released them, if no command waits for it."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._next = 0.0  #: monotonic

    def now_and_then(self) -> None:
        """Remove at most every REMOVE_EVERY_S; errors are logged, and the next call tries again."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + REMOVE_EVERY_S
        try:
            with Remover(self._settings, self._ledger) as remover:
                remover.left()
        except KbError as error:
            log.warning("cannot remove deleted documents from the store yet: %s", error)
