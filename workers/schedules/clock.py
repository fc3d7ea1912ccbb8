"""The clock of schedules with Redis: celery beat with redbeat, and the consumer of its ticks.

A tick carries no data: the ledger knows what is due. However many beats run, redbeat's lock lets only one of them tick; and
however many ticks arrive, the ledger lets only one of them start a run.
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
from workers.process.locks import announce
from workers.process.spec import Clock
from workers.process.tasks import Request
from workers.process.worker import SEEN_EVERY_S, Presence, open_ledger
from workers.schedules.due import Starter

log = logging.getLogger(__name__)

#: Seconds that scheduled runs get to end; less than half of a worker's grace, after which its leases are taken back.
RUN_GRACE_S = 10.0

#: Seconds until a beat whose Redis does not answer tries again.
REDIS_AGAIN_S = 5.0


class Scheduler(RedBeatScheduler):  # type: ignore[misc]
    """redbeat's scheduler with heartbeats."""

    settings: Settings
    name_of_worker: str
    ticked = threading.Event()

    def tick(self, *arguments: Any, **named: Any) -> Any:
        """Send due ticks; returns the seconds until the next check. Ends the process if its lock was lost."""
        type(self).ticked.set()
        type(self).seen()
        return super().tick(*arguments, **named)

    @classmethod
    def seen(cls) -> None:
        """Send a heartbeat."""
        health.touch(cls.settings.health_dir, health.file_of(cls.name_of_worker))

    @classmethod
    def wait(cls) -> None:
        """Send heartbeats until the first tick: a beat that waits for the lock is healthy."""
        while not cls.ticked.wait(SEEN_EVERY_S):
            cls.seen()


def main(argv: list[str] | None = None) -> int:
    """Run the beat, or the consumer of ticks, until told to stop; returns the exit status."""
    parser = argparse.ArgumentParser(prog="kb-ingest-clock")
    parser.add_argument("clock", choices=[clock.value for clock in Clock])
    parser.add_argument("--name", required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--lock", type=int, help="descriptor of the lock on its place")
    options = parser.parse_args(argv)
    lifeline.resume_when_orphaned()
    lifeline.end_with_parent(options.lifeline, os.getppid(), whole_group=True)
    if options.lock is not None:
        announce(options.lock, options.name)
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
    except KbError as error:  # the supervisor restarts us after a pause
        log.error("%s", error)
        return 1


def _beat(app: Celery, settings: Settings, name: str) -> int:
    # Only here: a worker reports its configuration to anyone who asks over Redis, and Celery does not mask passwords in these.
    app.conf.update(redbeat_options(settings))
    Scheduler.settings, Scheduler.name_of_worker = settings, name
    threading.Thread(target=Scheduler.wait, name="alive", daemon=True).start()
    _wait_for_redis(app)
    app.Beat(quiet=True, loglevel=settings.log_level, scheduler=Scheduler).run()
    return 0


def _wait_for_redis(app: Celery) -> None:
    """Wait until Redis answers; otherwise redbeat would end with an error again and again."""
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
    starter = Starter(settings=settings, ledger=ledger, name=name, stderr=stderr, lifeline=line)
    ledger.registry.register(name, Clock.TICK.value, socket.gethostname(), os.getpid())
    Presence.settings, Presence.name_of_worker = settings, name
    app.steps["consumer"].add(Presence)

    # A lost tick is followed by another within seconds, so a late acknowledgement gains nothing. Neither do task events:
    # seventeen thousand a day would hide the tasks that do work.
    @app.task(name=TICK_TASK, Request=Request, acks_late=False, send_events=False)  # type: ignore[untyped-decorator]
    def tick() -> None:
        """Start due schedules."""
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
    # In this process: a tick takes milliseconds, and every run is a separate process.
    app.worker_main(
        [
            "--quiet", "worker", "--queues", TICK_QUEUE, "--hostname", name, "--concurrency", "1", "--pool", "solo",
            "--without-gossip", "--without-mingle", "--loglevel", settings.log_level,
        ]
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
