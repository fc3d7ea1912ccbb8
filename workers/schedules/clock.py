"""The clock of schedules where there is Redis: celery beat with redbeat, and the consumer of its ticks.

A tick carries nothing: what is due stands in the ledger. However many beats there are, redbeat's lock lets one of them tick,
and however many ticks there are, the ledger lets one of them start a run.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import threading
import time
from typing import Any

from celery import Celery, signals
from redbeat import RedBeatScheduler

from pipeline.errors import BrokerUnavailable, KbError
from pipeline.ledger import Ledger
from pipeline.settings import Settings, load_settings
from workers import health, logs
from workers.broker.app import TICK_QUEUE, TICK_TASK, make_app, redbeat_options
from workers.broker.queues import Broker
from workers.process import lifeline
from workers.process.spec import Clock
from workers.process.tasks import Request
from workers.process.worker import SEEN_EVERY_S, Presence, open_ledger
from workers.schedules.due import Starter

log = logging.getLogger(__name__)

#: Seconds that scheduled runs get to end; less than the half of a worker's grace, after which its leases are taken back.
RUN_GRACE_S = 10.0

#: Seconds until a beat whose Redis does not answer looks again.
REDIS_AGAIN_S = 5.0


class Scheduler(RedBeatScheduler):  # type: ignore[misc]
    """redbeat's scheduler with signs of life."""

    settings: Settings
    name_of_worker: str
    ticked = threading.Event()

    def tick(self, *arguments: Any, **named: Any) -> Any:
        """Send what is due; returns the seconds until the next look. Ends the process when its lock was lost."""
        type(self).ticked.set()
        type(self).seen()
        return super().tick(*arguments, **named)

    @classmethod
    def seen(cls) -> None:
        """Give a sign of life."""
        health.touch(cls.settings.health_dir, health.file_of(cls.name_of_worker))

    @classmethod
    def wait(cls) -> None:
        """Signs of life until the first tick: a beat that is not the one that ticks waits for the lock, and is well."""
        while not cls.ticked.wait(SEEN_EVERY_S):
            cls.seen()


def main(argv: list[str] | None = None) -> int:
    """Run the beat, or the consumer of ticks, until told to stop; returns the exit status."""
    parser = argparse.ArgumentParser(prog="kb-ingest-clock")
    parser.add_argument("clock", choices=[clock.value for clock in Clock])
    parser.add_argument("--name", required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--lifeline", type=int, required=True)
    options = parser.parse_args(argv)
    lifeline.resume_when_orphaned()
    lifeline.end_with_parent(options.lifeline, os.getppid(), whole_group=True)
    settings = load_settings()
    logs.set_up(settings.log_level, log_format=settings.log_format, prefix=options.name.partition("@")[0])
    stderr = os.dup(2)
    if settings.log_level != "debug" or logs.structured():
        logs.divert(settings.data_dir / "logs" / f"{health.file_of(options.name)}.log")
    app = make_app(settings)
    try:
        if options.clock == Clock.BEAT:
            return _beat(app, settings, options.name)
        return _consume(app, settings, options.name, stderr, options.lifeline)
    except KbError as error:  # the supervisor tries again, after a while
        log.error("%s", error)
        return 1


def _beat(app: Celery, settings: Settings, name: str) -> int:
    # Here alone: a worker tells its configuration to whoever asks over Redis, and Celery hides no password in these.
    app.conf.update(redbeat_options(settings))
    Scheduler.settings, Scheduler.name_of_worker = settings, name
    threading.Thread(target=Scheduler.wait, name="alive", daemon=True).start()
    _wait_for_redis(app)
    app.Beat(quiet=True, loglevel=settings.log_level, scheduler=Scheduler).run()
    return 0


def _wait_for_redis(app: Celery) -> None:
    """Wait quietly: where Redis does not answer, redbeat would end with an error again and again."""
    broker, said = Broker(app), False
    while True:
        try:
            broker.mend(TICK_QUEUE)
        except BrokerUnavailable as error:
            if not said:
                log.warning("%s", error)
            said = True
            time.sleep(REDIS_AGAIN_S)
        else:
            return


def _consume(app: Celery, settings: Settings, name: str, stderr: int, line: int) -> int:
    ledger = Ledger.open(settings.ledger_url)
    starter = Starter(settings, ledger, name, stderr, line)
    ledger.registry.register(name, Clock.TICK.value, socket.gethostname(), os.getpid())
    Presence.settings, Presence.name_of_worker = settings, name
    app.steps["consumer"].add(Presence)

    # A tick that is lost comes again in a few seconds: nothing is gained by keeping it until it is done. Nor by telling of it:
    # seventeen thousand a day would hide the tasks that do something.
    @app.task(name=TICK_TASK, Request=Request, acks_late=False, send_events=False)  # type: ignore[untyped-decorator]
    def tick() -> None:
        """Start what is due."""
        try:
            starter.start_due(time.time())
        except KbError as error:
            log.warning("%s", error)

    def gone(**_: object) -> None:
        starter.stop(RUN_GRACE_S)
        try:
            with open_ledger(settings) as again:
                again.registry.drop(name)
        except KbError as error:
            log.warning("%s", error)

    signals.worker_shutdown.connect(gone, weak=False)
    try:
        Broker(app).mend(TICK_QUEUE)
    except BrokerUnavailable as error:  # Celery waits until it answers
        log.warning("%s", error)
    # In the process itself: a tick takes milliseconds, and what it starts are processes of their own.
    app.worker_main(
        [
            "--quiet", "worker", "--queues", TICK_QUEUE, "--hostname", name, "--concurrency", "1", "--pool", "solo",
            "--without-gossip", "--without-mingle", "--loglevel", settings.log_level,
        ]
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
