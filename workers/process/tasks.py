"""The Celery tasks: decode, call the library, queue for the next stage."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from celery import Celery
from celery.worker import request

from pipeline.errors import BrokerUnavailable
from pipeline.ledger.flow import Batch
from pipeline.types import Stage
from workers.broker.dispatch import EMBED_MESSAGES
from workers.broker.queues import Broker, task_name
from workers.process.runtime import EmbedRuntime, ParseRuntime

log = logging.getLogger(__name__)

#: The runtime of this process; made in the pool's child, after the fork, as devices and database connections do not survive it.
runtime: ParseRuntime | EmbedRuntime | None = None


class Request(request.Request):  # type: ignore[misc]
    """A task request whose acknowledgement must not fail unnoticed.

    Celery logs the connection error and continues, but the message still counts as fetched. With one message fetched at a
    time, the worker would never get another one. Raising the error makes the consumer reconnect.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._connection_errors = ()


def register(app: Celery) -> None:
    """Add the tasks to an application."""
    broker = Broker(app)

    @app.task(name=task_name(Stage.PARSE), Request=Request)  # type: ignore[untyped-decorator]
    def parse(batch: str, ids: list[str]) -> None:
        """Parse documents and queue them for the embed stage."""
        assert isinstance(runtime, ParseRuntime)
        following = runtime.run(ids, str(uuid.uuid4()))
        if following.document_ids and not _sent(broker, following):
            runtime.ledger.flow.unqueue([following.id])

    @app.task(name=task_name(Stage.EMBED), Request=Request)  # type: ignore[untyped-decorator]
    def embed(batch: str, ids: list[str]) -> None:
        """Embed documents and make them searchable."""
        assert isinstance(runtime, EmbedRuntime)
        runtime.run(ids, batch)


def _sent(broker: Broker, batch: Batch) -> bool:
    """Queue parsed documents, unless enough messages wait already; return whether this was done."""
    try:
        if broker.depth(batch.stage) >= EMBED_MESSAGES:
            return False
        broker.send(batch)
    except BrokerUnavailable as error:
        log.warning("%s; the dispatcher will queue the documents", error)
        return False
    return True
