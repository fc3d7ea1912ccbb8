"""One worker: a Celery consumer and its pool, for one stage; the supervisor starts it as a separate process."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from celery import Celery, bootsteps, signals

from pipeline.errors import BrokerUnavailable, KbError
from pipeline.ledger import Ledger
from pipeline.ledger.registry import FATAL, STARTING
from pipeline.settings import Settings, load_settings
from pipeline.types import Stage
from workers import health, logs
from workers.broker.app import make_app
from workers.broker.queues import Broker
from workers.process import lifeline, tasks
from workers.process.locks import announce
from workers.process.runtime import EmbedRuntime, ParseRuntime
from workers.process.spec import role_of

log = logging.getLogger(__name__)

#: Seconds between two heartbeats in the ledger.
SEEN_EVERY_S = 5.0

#: Seconds until a pool process that could not open the ledger or find its tokenizer tries again.
BEGIN_AGAIN_S = 5.0


#: Held while the ledger is open in the consumer's process, and while that process forks. SQLite keeps its locks in memory that
#: a pool child would inherit, including an open transaction: the child would find the database locked forever.
_ledger_or_fork = threading.Lock()
os.register_at_fork(before=_ledger_or_fork.acquire, after_in_parent=_ledger_or_fork.release, after_in_child=_ledger_or_fork.release)


@contextmanager
def open_ledger(settings: Settings) -> Iterator[Ledger]:
    """Open the ledger briefly, in the consumer's process."""
    with _ledger_or_fork:
        ledger = Ledger.open(settings.ledger_url)
        try:
            yield ledger
        finally:
            ledger.close()


class Presence(bootsteps.StartStopStep):  # type: ignore[misc]
    """Heartbeats from the consumer's own timer: a hung consumer goes stale, one with a long task in its pool does not."""

    requires = {"celery.worker.consumer.connection:Connection"}  # noqa: RUF012 - Celery's interface
    settings: Settings
    name_of_worker: str
    _entry: Any = None  #: of the timer

    def start(self, consumer: Any) -> None:
        """Start with the consumer, each time it connects: Celery empties the timer when a connection is lost."""
        self._entry = consumer.timer.call_repeatedly(SEEN_EVERY_S, self._seen)

    def stop(self, consumer: Any) -> None:
        """Stop with the connection."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    def _seen(self) -> None:
        health.touch(type(self).settings.health_dir, health.file_of(type(self).name_of_worker))
        try:
            with open_ledger(type(self).settings) as ledger:
                if not ledger.registry.see(type(self).name_of_worker):
                    # The ledger has dropped us, because it has not seen us for long; the next start records the device again.
                    role, host = role_of(type(self).name_of_worker), socket.gethostname()
                    ledger.registry.register(type(self).name_of_worker, role, host, os.getpid())
        except KbError as error:
            log.warning("%s", error)


def main(argv: list[str] | None = None) -> int:
    """Run one worker until it is told to stop; returns the exit status."""
    parser = argparse.ArgumentParser(prog="kb-ingest-worker")
    parser.add_argument("stage", choices=[stage.value for stage in Stage])
    parser.add_argument("--name", required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--lock", type=int, help="descriptor of the lock on its place")
    parser.add_argument("--model", type=int, help="descriptor of the socket of the model's process")
    options = parser.parse_args(argv)
    lifeline.resume_when_orphaned()
    lifeline.end_with_parent(options.lifeline, os.getppid(), whole_group=True)
    if options.lock is not None:
        announce(options.lock, options.name)
    settings = load_settings()
    logs.set_up(settings.log_level, log_format=settings.log_format, prefix=options.name.partition("@")[0])
    if settings.log_level != "debug" or logs.structured():
        logs.divert(settings.data_dir / "logs" / f"{health.file_of(options.name)}.log")
    app = make_app(settings)
    tasks.register(app)
    try:
        _prepare(app, settings, options)
    except KbError as error:  # the supervisor restarts us after a pause
        log.error("%s", error)
        return 1
    # Not `worker_main`: it imports all of Celery's commands and looks for plug-ins in every installed package.
    consumer = app.Worker(
        hostname=options.name,
        queues=options.stage,
        concurrency=options.concurrency,
        pool="prefork",
        loglevel=settings.log_level.upper(),
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    consumer.start()
    return int(consumer.exitcode or 0)


def _prepare(app: Celery, settings: Settings, options: argparse.Namespace) -> None:
    """Tie the runtime to the pool's children, and the row in the ledger to the consumer."""
    stage, name = Stage(options.stage), options.name
    Presence.settings, Presence.name_of_worker = settings, name
    consumer, locks = os.getpid(), () if options.lock is None else (options.lock,)
    app.steps["consumer"].add(Presence)
    note = STARTING if stage is Stage.EMBED else ""
    with open_ledger(settings) as ledger:
        ledger.registry.register(name, stage.value, socket.gethostname(), os.getpid(), note=note, processes=options.concurrency)

    if not settings.embedded_broker:
        try:
            Broker(app).mend(stage)
        except BrokerUnavailable as error:  # Celery waits until it answers
            log.warning("%s", error)

    def begin(**_: object) -> None:
        lifeline.end_with_parent(options.lifeline, consumer, whole_group=True)  # threads do not survive a fork
        complained = False
        while tasks.runtime is None:
            try:
                made = _made(stage, settings, name, options.model, locks)
            except Exception as error:  # Celery would ignore it and give this process work that it cannot do
                known = isinstance(error, KbError)
                log.error("%s; next try in %.0f s", error, BEGIN_AGAIN_S, exc_info=not known)
                complained = True
                note = str(error) if known else f"{FATAL}{type(error).__name__}: {error}"
                with suppress(KbError), open_ledger(settings) as ledger:
                    ledger.registry.see(name, note=note)
                time.sleep(BEGIN_AGAIN_S)
            else:
                if complained and stage is Stage.PARSE:  # an embed worker updates its own note
                    made.ledger.registry.see(name, note="")
                tasks.runtime = made

    def end(**_: object) -> None:
        if tasks.runtime is not None:
            tasks.runtime.close()

    def gone(**_: object) -> None:
        try:
            with open_ledger(settings) as ledger:
                ledger.registry.drop(name)
        except KbError as error:
            log.warning("%s", error)

    signals.worker_process_init.connect(begin, weak=False)
    signals.worker_process_shutdown.connect(end, weak=False)
    signals.worker_shutdown.connect(gone, weak=False)


def _made(stage: Stage, settings: Settings, name: str, model: int | None, locks: Sequence[int]) -> ParseRuntime | EmbedRuntime:
    """The runtime of a pool's child, once documents of dead ones are released; nothing of it is left if that fails."""
    made = ParseRuntime(settings, name) if stage is Stage.PARSE else EmbedRuntime(settings, name, model, locks)
    try:
        made.bury_siblings()
    except BaseException:
        made.close()
        raise
    return made


if __name__ == "__main__":
    sys.exit(main())
