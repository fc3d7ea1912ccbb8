"""The dispatcher's view of the broker: send a batch, count waiting messages."""

from __future__ import annotations

import contextlib
import json
import logging

from celery import Celery
from kombu.exceptions import ChannelError, LimitExceeded, OperationalError

from pipeline.errors import BrokerUnavailable, ConfigError, KbError
from pipeline.ledger.flow import Batch
from pipeline.types import Stage

log = logging.getLogger(__name__)

#: Max entries at the reading end of a queue that are checked before a worker starts; our queues are far shorter.
LOOKED_AT = 10_000

#: A failed publish is retried at once, a few times; the dispatcher handles longer outages.
PUBLISH_RETRY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}

#: Longest wait for a connection: for one of the pool that is free, and for the broker to answer it.
CONNECT_S = 5.0


class Broker:
    """Sends batches through a Celery application."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send(self, batch: Batch) -> None:
        """Queue a batch; raises BrokerUnavailable, after which the batch may or may not be queued, or ConfigError."""
        try:
            self._app.send_task(
                task_name(batch.stage), args=[batch.id, list(batch.document_ids)], queue=batch.stage.value,
                argsrepr=str(batch), retry=True, retry_policy=PUBLISH_RETRY,
            )  # fmt: skip
        except _broker_errors() as error:
            if "WRONGTYPE" in str(error):
                self.mend(batch.stage.value)
            raise _told("the broker does not accept messages", error) from error

    def depth(self, stage: Stage) -> int:
        """Number of messages in a stage's queue that no worker has fetched; raises BrokerUnavailable or ConfigError."""
        return self.length(stage.value)

    def length(self, queue: str) -> int:
        """Number of messages in a queue, as `depth`; 0 if its key in Redis is not a queue, which `send` fixes."""
        try:
            # Of the pool that `send` uses too: to connect takes several times the time of the question.
            with self._app.pool.acquire(block=True, timeout=CONNECT_S) as connection:
                try:
                    connection.ensure_connection(max_retries=1, timeout=CONNECT_S)
                    return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
                except ChannelError:  # an empty queue does not exist
                    return 0
                except _broker_errors():
                    self._app.pool.replace(connection)  # whoever gets it next connects again
                    raise
        except LimitExceeded as error:
            raise BrokerUnavailable(f"all {error} connections to the broker are in use") from error
        except _broker_errors() as error:
            if "WRONGTYPE" in str(error):
                return 0
            raise _told("the broker does not answer", error) from error

    def check(self) -> None:
        """Raise ConfigError if the broker can never carry our messages; one that does not answer may do so later."""
        with contextlib.suppress(BrokerUnavailable):
            self.depth(Stage.PARSE)

    def mend(self, queue: str) -> None:
        """Delete entries of a queue in Redis that are not messages, or the key itself if it is not a queue.

        Such an entry would end the worker that reads it. Nothing is lost, because the ledger can always resend messages.
        Raises BrokerUnavailable or ConfigError.
        """
        key = str(queue)
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=CONNECT_S)
                client = connection.default_channel.client
                if client.type(key) not in (b"list", b"none"):
                    log.error("deleting the key %r in Redis: it is not a queue", key)
                    client.delete(key)
                    return
                garbage = {entry for entry in client.lrange(key, -LOOKED_AT, -1) if not _is_message(entry)}
                for entry in garbage:
                    client.lrem(key, 0, entry)
                if garbage:
                    log.error("deleted %d invalid messages from the %s queue", len(garbage), key)
        except _broker_errors() as error:
            raise _told("the broker does not answer", error) from error


def _told(what: str, error: Exception) -> KbError:
    """An error of the broker as one of ours."""
    from redis.exceptions import ClusterCrossSlotError, ClusterDownError, MovedError

    # kombu wraps what it cannot recover from.
    causes = (error, error.__cause__, error.__context__)
    if any(isinstance(one, ClusterCrossSlotError | ClusterDownError | MovedError) for one in causes):
        return ConfigError(
            "KB_REDIS_URL is a Redis cluster, which spreads the keys of a queue over its nodes; give a Redis that is no cluster, "
            "alone or behind Sentinels"
        )
    return BrokerUnavailable(f"{what}: {error}")


def _broker_errors() -> tuple[type[Exception], ...]:
    """The errors of brokers. Importing the client of Redis takes 0.3 s, which the folder broker does not need."""
    from redis.exceptions import RedisError

    return OperationalError, ChannelError, RedisError, OSError


def _is_message(entry: bytes) -> bool:
    """Whether kombu can decode an entry of a queue; other entries would end the worker."""
    try:
        message = json.loads(entry)
        return isinstance(message["body"], str) and bool(message["properties"]["delivery_tag"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def task_name(stage: Stage) -> str:
    """The name of a stage's task."""
    return f"kb.{stage.value}"
