"""Workers, dispatcher and store of a command that queues work and waits for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from pipeline.errors import BrokerUnavailable, ConfigError
from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.steps.remove import remove_due
from pipeline.store import open_store, tidy
from pipeline.store.base import VectorStore
from pipeline.telemetry.tracing import endpoint_of
from pipeline.text import plural
from pipeline.types import Stage
from workers.broker.app import make_app
from workers.broker.dispatch import Dispatcher, DispatchThread
from workers.broker.queues import Broker
from workers.process.ahead import Ahead
from workers.process.locks import WorkersLock
from workers.process.spec import parse_processes, plan
from workers.process.supervisor import Supervisor, bury

#: Seconds that finished workers get to send their last spans; they send every half second.
LAST_SPANS_S = 2.0

#: Seconds between two sweeps of a waiting command's dispatcher.
SWEEP_EVERY_S = 0.5


class Working:
    """Workers and dispatcher of a command that waits for work to be done; a context manager.

    In embedded mode the command runs workers itself, unless another command serves the data folder. When that command ends
    first, this one takes over.
    """

    def __init__(self, settings: Settings, ledger: Ledger, worker_stderr: int = 2, ahead: Ahead | None = None) -> None:
        self._settings = settings
        self._ahead = ahead or Ahead()  #: started by the command for our workers
        self._worker_stderr = worker_stderr  #: file descriptor for the output of our workers
        self._ledger = ledger
        self._stack = ExitStack()
        self._lock = WorkersLock(settings.data_dir / "workers.lock") if settings.embedded_broker else None
        self._supervisor: Supervisor | None = None
        self._dispatch = DispatchThread(make_dispatcher(settings, ledger), SWEEP_EVERY_S)

    def __enter__(self) -> Working:
        if self._lock is not None:
            self._stack.callback(self._lock.release)
        self._serve()
        self._stack.enter_context(self._dispatch)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def owns_workers(self) -> bool:
        """Whether the workers are this process's own."""
        return self._supervisor is not None

    def tend(self) -> str:
        """Keep the workers running; return a human-readable error of our dispatcher, or nothing.

        Raises ConfigError if every worker of a stage reports that it cannot work and that waiting will not help.
        """
        self._serve()
        rows = self._ledger.registry.workers()
        for stage in Stage:
            serving = [row for row in rows if row.role == stage]
            if serving and all(row.fatal for row in serving):
                raise ConfigError(serving[0].complaint)
        return "" if self._dispatch.error is None else str(self._dispatch.error)

    def done(self) -> None:
        """Stop our own workers once nothing is left to do, without waiting for more than their last spans."""
        if self._supervisor is not None and not any(lease.of_documents for lease in self._ledger.flow.leases()):
            if endpoint_of(self._settings):
                # A warm shutdown would send them too, but Celery takes about five seconds for that.
                time.sleep(LAST_SPANS_S)
            self._supervisor.stop(idle=True)
            tidy(self._settings)

    def _serve(self) -> None:
        if self._supervisor is not None:
            self._supervisor.tend()
        elif self._lock is not None and self._lock.acquire():
            ended = bury(self._ledger, self._settings.max_starts)
            specs = plan(self._settings, self._ledger, list(Stage), ended)
            supervisor = Supervisor(self._settings, specs, ended, lock=self._lock, stderr=self._worker_stderr, ahead=self._ahead)
            self._supervisor = self._stack.enter_context(supervisor)
        else:  # another process serves the data folder; if it ends first, there is time to start workers
            self._ahead.close()


def make_dispatcher(settings: Settings, ledger: Ledger) -> Dispatcher:
    """A dispatcher for this configuration's broker."""
    return Dispatcher(ledger, Broker(make_app(settings)), settings, spread=4 * parse_processes(settings))


def queue_now(settings: Settings, ledger: Ledger) -> None:
    """Queue as much as fits before the command ends; the next dispatcher continues."""
    try:
        make_dispatcher(settings, ledger).sweep()
    except BrokerUnavailable:
        return  # nothing is lost: it is staged and in the ledger, and a later dispatcher queues it


def delete_now(
    settings: Settings, ledger: Ledger, collection: str, ids: Sequence[str], store: VectorStore | None = None, token: str = ""
) -> int:
    """Delete documents of a generation by id, without a grace, as a run of its own; return how many."""
    run = ledger.runs.start(settings.collection, "delete", token=token)
    deleted = ledger.removal.mark(collection, ids)
    ledger.runs.update(run, deleted=deleted)
    with Remover(settings, ledger, collection, store) as remover:
        waiting = remover.left()
    ledger.runs.end(run, "done", f"workers still hold {plural(waiting, 'document')}" if waiting else "")
    return deleted


class Remover:
    """Removes marked documents of a collection; opens the store only if there are any; a context manager."""

    def __init__(self, settings: Settings, ledger: Ledger, collection: str | None = None, store: VectorStore | None = None) -> None:
        """`store` is one that is open already, and stays open."""
        self._settings = settings
        self._ledger = ledger
        self._collection = collection
        self._given = store
        self._store: VectorStore | None = None

    def __enter__(self) -> Remover:
        return self

    def __exit__(self, *_: object) -> None:
        if self._store is not None:
            self._store.close()

    def left(self) -> int:
        """Remove documents that are due; return how many of them are still held by a worker."""
        remove_due(self._ledger, self._open, self._settings.delete_grace, self._collection)
        return len(self._ledger.removal.due(self._settings.delete_grace, self._collection))

    def _open(self) -> VectorStore:
        if self._given is not None:
            return self._given
        if self._store is None:
            self._store = open_store(self._settings, role="reader")
        return self._store
