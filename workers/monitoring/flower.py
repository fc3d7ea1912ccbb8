"""Flower: the web pages of workers, tasks and queues, behind a password."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any, cast

from pipeline.errors import BrokerUnavailable, ConfigError
from pipeline.files.errors import translating
from pipeline.settings import Settings
from pipeline.types import Stage
from workers.broker.app import TICK_QUEUE, make_app
from workers.broker.queues import Broker
from workers.process.spec import role_of

#: Columns of the task page; the default omits the most useful ones.
COLUMNS = "name,args,state,received,runtime,worker,uuid"

#: Seconds after which an offline worker is no longer listed.
GONE_S = 24 * 3600

#: Max tasks kept. Each takes 5 to 6 KB; Flower's default of 100,000 needs more memory than its container has, and saving them
#: every minute blocks all pages for seconds.
MAX_TASKS = 20_000

#: Milliseconds between two saves of the history; it is also saved at a graceful shutdown.
SAVE_EVERY_MS = 60_000


def serve_flower(settings: Settings, address: str, port: int) -> None:
    """Run the Flower dashboard until interrupted.

    Raises ConfigError without Redis, which Flower watches, or without a password: anyone who reaches it could stop workers.
    """
    if settings.embedded_broker:
        raise ConfigError("Flower watches Redis, and none is configured; set KB_REDIS_URL")
    auth = settings.flower_auth.get_secret_value()
    user, _, password = auth.partition(":")
    if not (user and password):
        raise ConfigError("the dashboard does not start without a login; set KB_FLOWER_AUTH=user:password")
    if "," in auth:  # Flower reads it as several logins, and a part would be enough to log in
        raise ConfigError("KB_FLOWER_AUTH must not contain a comma")
    if not auth.isascii():  # Flower can only compare ASCII, and browsers encode other characters differently
        raise ConfigError("KB_FLOWER_AUTH must be ASCII")
    folder = settings.data_dir / "flower"
    with translating(folder):
        folder.mkdir(parents=True, exist_ok=True)
    # Through the environment, because arguments are visible in process lists.
    os.environ["FLOWER_BASIC_AUTH"] = auth
    options = [
        f"--address={address}",
        f"--port={port}",
        "--persistent=true",
        f"--db={folder / 'flower.db'}",
        f"--state_save_interval={SAVE_EVERY_MS}",
        f"--tasks_columns={COLUMNS}",
        f"--purge_offline_workers={GONE_S}",
        f"--max_tasks={MAX_TASKS}",
        # Otherwise it runs a `flowerconfig.py` in the working directory, which may define other users.
        f"--conf={os.devnull}",
    ]
    app = make_app(settings)
    _adapt(Broker(app))
    app.start(argv=["flower", *options])


def stop_in_turn(_number: int, _frame: FrameType | None) -> None:
    """Handle SIGTERM: have the event loop of this thread end, with SystemExit, between two of its steps.

    Flower's own handler (2.2) raises SystemExit wherever the program is. In a finalizer that is lost, and Flower never ends.
    """
    from tornado.ioloop import IOLoop
    from tornado.platform.asyncio import BaseAsyncIOLoop

    cast(BaseAsyncIOLoop, IOLoop.current()).asyncio_loop.call_soon_threadsafe(sys.exit)


class FlowerBroker:
    """Queue lengths for Flower, through the same connection as the workers.

    Flower's own class (2.2) reads no TLS options from a URL, knows only the first of several Sentinels, and then reads
    database 0.
    """

    def __init__(self, broker: Broker, consumers: Iterable[str]) -> None:
        self._broker = broker
        self._consumers = list(consumers)  #: the queue of each online worker

    async def queues(self, names: Iterable[str]) -> list[dict[str, object]]:
        """One row of the page per queue; a queue whose length is unknown has no row."""
        # Concurrently: if Redis is unreachable, each request takes long to fail.
        rows = await asyncio.gather(*(asyncio.to_thread(self._row, name) for name in names))
        return [row for row in rows if row]

    def _row(self, name: str) -> dict[str, object]:
        try:
            length = self._broker.length(name)
        except BrokerUnavailable:
            return {}
        # Fetched messages are in one Redis hash for all queues, so they cannot be counted per queue.
        return {"name": name, "messages": length, "messages_ready": length, "consumers": self._consumers.count(name)}


def _adapt(broker: Broker) -> None:
    """Patch behaviour that Flower has no option for."""
    from flower import command
    from flower.views import BaseHandler
    from flower.views.monitor import Metrics
    from tornado.web import HTTPError, authenticated

    def consumers(flower: Any) -> Iterable[str]:
        # By the names of the workers: Flower asks workers for their queues only once, when it starts.
        return [role_of(name) for name, worker in list(flower.events.state.workers.items()) if worker.alive]

    user_of = BaseHandler.get_current_user

    def user(handler: Any) -> Any:
        try:
            return user_of(handler)
        except TypeError:  # Flower (2.2) cannot compare non-ASCII text, and would answer with status 500
            raise HTTPError(401) from None

    command.sigterm_handler = stop_in_turn
    BaseHandler.get_current_user = user
    BaseHandler.get_broker = lambda handler: FlowerBroker(broker, consumers(handler.application))
    # Flower would omit a queue that no worker serves, which is when messages wait.
    BaseHandler.get_active_queue_names = lambda handler: [*(stage.value for stage in Stage), TICK_QUEUE]
    # Metrics name workers and tasks, so they need the login as well.
    Metrics.get = authenticated(Metrics.get)
