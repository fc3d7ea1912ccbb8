"""Flower: the web pages of workers, tasks and queues, behind a password."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

from pipeline.errors import BrokerUnavailable, ConfigError
from pipeline.files.errors import translating
from pipeline.settings import Settings
from pipeline.types import Stage
from workers.broker.app import TICK_QUEUE, make_app
from workers.broker.queues import Broker
from workers.process.spec import role_of

#: What the page of tasks shows of each; by default it leaves out what says most.
COLUMNS = "name,args,state,received,runtime,worker,uuid"

#: Seconds after which a worker that has gone is no longer listed.
GONE_S = 24 * 3600

#: Tasks that are remembered. Each takes 5 to 6 KB; with Flower's own 100,000 its container has too little memory, and every minute
#: no page is answered for seconds, as they are written down.
MAX_TASKS = 20_000

#: Milliseconds between two times that the history is written down; it is at an orderly end, too.
SAVE_EVERY_MS = 60_000


def serve_flower(settings: Settings, address: str, port: int) -> None:
    """Run the Flower dashboard until interrupted.

    Raises ConfigError without Redis, which it watches, or without a password: whoever reaches it could stop workers.
    """
    if settings.embedded_broker:
        raise ConfigError("Flower watches Redis, and none is configured; set KB_REDIS_URL")
    auth = settings.flower_auth.get_secret_value()
    user, _, password = auth.partition(":")
    if not (user and password):
        raise ConfigError("set KB_FLOWER_AUTH=user:password; the dashboard does not start without")
    if "," in auth:  # Flower takes it for several of them, and would let in whoever knows a part
        raise ConfigError("KB_FLOWER_AUTH must not have a comma")
    if not auth.isascii():  # Flower compares nothing else, and browsers do not agree on how to send it
        raise ConfigError("KB_FLOWER_AUTH must be ASCII")
    folder = settings.data_dir / "flower"
    with translating(folder):
        folder.mkdir(parents=True, exist_ok=True)
    # Through the environment, as whoever lists processes sees arguments.
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
        # Else it runs a `flowerconfig.py` of the folder where it is started, which may name other users.
        f"--conf={os.devnull}",
    ]
    app = make_app(settings)
    _adapt(Broker(app))
    app.start(argv=["flower", *options])


class Queues:
    """What Flower asks for the lengths of queues, by the connection that workers use.

    Flower's own (2.2) reads no TLS options from a URL, knows the first of several Sentinels only, and then looks into
    database 0.
    """

    def __init__(self, broker: Broker, consumers: Iterable[str]) -> None:
        self._broker = broker
        self._consumers = list(consumers)  #: the queue of each worker that is online

    async def queues(self, names: Iterable[str]) -> list[dict[str, object]]:
        """A row of the page for each of the queues; no row is better than a wrong number."""
        # At once: where Redis is away each of them takes its time to find out.
        rows = await asyncio.gather(*(asyncio.to_thread(self._row, name) for name in names))
        return [row for row in rows if row]

    def _row(self, name: str) -> dict[str, object]:
        try:
            length = self._broker.length(name)
        except BrokerUnavailable:
            return {}
        # What a worker has fetched is in Redis' hash of all such messages, whichever queue they came from.
        return {"name": name, "messages": length, "messages_ready": length, "consumers": self._consumers.count(name)}


def _adapt(broker: Broker) -> None:
    """Change what Flower has no option for."""
    from flower.views import BaseHandler
    from flower.views.monitor import Metrics
    from tornado.web import HTTPError, authenticated

    def consumers(flower: Any) -> Iterable[str]:
        # By what they say of themselves; whom Flower asks for its queues is asked once, when Flower starts.
        return [role_of(name) for name, worker in list(flower.events.state.workers.items()) if worker.alive]

    user_of = BaseHandler.get_current_user

    def user(handler: Any) -> Any:
        try:
            return user_of(handler)
        except TypeError:  # it cannot compare what is not ASCII (2.2), and would answer with an error of the server
            raise HTTPError(401) from None

    BaseHandler.get_current_user = user
    BaseHandler.get_broker = lambda handler: Queues(broker, consumers(handler.application))
    # It would leave out a queue that no worker serves, which is when messages wait.
    BaseHandler.get_active_queue_names = lambda handler: [*(stage.value for stage in Stage), TICK_QUEUE]
    # Names of workers and tasks are for those who may see the pages.
    Metrics.get = authenticated(Metrics.get)
