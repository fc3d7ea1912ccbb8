"""The Celery application: queues, acknowledgements, serialisation and transport, each setting with its reason."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote, urlsplit

from celery import Celery
from kombu.entity import Queue

from pipeline.errors import ConfigError
from pipeline.files.errors import translating
from pipeline.settings import Settings, is_loopback
from pipeline.types import Stage
from workers.broker import folder

#: Seconds a worker may take to end its tasks after SIGTERM; containers must wait longer than this before SIGKILL.
SHUTDOWN_S = 30

#: Seconds between the looks of the folder transport into its folder; the default of 1 s would be felt at every step.
FOLDER_POLL_S = 0.02

#: Messages fetched ahead in embedded mode. The folder transport hands acknowledgements over only between drains of up to
#: 2 s, so that 1 would mean a task every 1 to 2 s. A message lost with a worker is sent again by the dispatcher.
FOLDER_PREFETCH = 16

#: The queue of ticks, each of which has its consumer look for schedules that are due, and their task.
TICK_QUEUE = "tick"
TICK_TASK = "kb.tick"

#: Seconds between two ticks: a schedule is carried out so late at most, and a look costs a few milliseconds.
TICK_S = 5

#: Seconds after which another beat takes over from one that has died; several times what a living one takes to renew it.
BEAT_LOCK_S = 30


def make_app(settings: Settings) -> Celery:
    """The Celery application for these settings; imports no task."""
    # Celery lets these two override its configuration; our settings have read them, and there is no result store.
    os.environ.pop("CELERY_BROKER_URL", None)
    os.environ.pop("CELERY_RESULT_BACKEND", None)
    app = Celery("kb-ingest", set_as_current=False)
    app.conf.update(
        broker_url=broker_url(settings),
        broker_transport_options=transport_options(settings),
        task_queues=[Queue(name) for name in (*(stage.value for stage in Stage), TICK_QUEUE)],  # type: ignore[no-untyped-call]
        task_default_queue=Stage.PARSE.value,
        # The ledger is the truth: no result is kept, and messages carry ids only.
        task_ignore_result=True,
        result_backend=None,
        task_serializer="json",
        accept_content=["json"],
        # Unacknowledged work is at most the concurrency, and comes back when a worker is lost. Alone this would run a
        # poisonous task for ever; the ledger's start counter, committed before the work, ends that.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=FOLDER_PREFETCH if settings.embedded_broker else 1,
        # A hard limit acknowledges the message; the lease then brings the documents back.
        task_time_limit=settings.task_time_limit_s,
        task_soft_time_limit=max(1, settings.task_time_limit_s - 30),
        # Without this a task that outlives its connection runs twice at the same time.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        # SIGTERM is a warm shutdown: running tasks end, fetched ones go back. Celery's soft shutdown would sleep for its
        # whole time even when nothing runs; our supervisor has a limit of its own.
        worker_soft_shutdown_timeout=0.0,
        # An embed worker's child loads its model before it says it is alive; the default of 4 s would kill it.
        worker_proc_alive_timeout=600.0,
        # The default gives up after 100 attempts; a broker may be away for longer.
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        # Logging is set up by the process itself, the same for all of them.
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=not settings.embedded_broker,
        task_send_sent_event=not settings.embedded_broker,
        enable_utc=True,
    )
    return app


def broker_url(settings: Settings) -> str:
    """The broker's URL for Celery, password included.

    Raises ConfigError for a Redis off this host without a password.
    """
    if settings.embedded_broker:
        return f"{folder.SCHEME}://"
    url = settings.redis_url.get_secret_value()
    for part in url.split(";"):  # several Sentinels
        try:
            parts = urlsplit(part)
            host, password = parts.hostname or "", parts.password
        except ValueError as error:
            raise ConfigError(f"KB_REDIS_URL is no URL: {error}") from None
        if parts.scheme in ("redis", "rediss", "sentinel") and not (is_loopback(host) or password or settings.allow_insecure):
            raise ConfigError(
                f"Redis at {host} is not on this host and has no password: whoever reaches it can queue work; "
                "give KB_REDIS_URL a password, or set KB_ALLOW_INSECURE=true"
            )
        if parts.scheme == "sentinel" and not settings.redis_sentinel_master:
            raise ConfigError("KB_REDIS_URL names Sentinels: set KB_REDIS_SENTINEL_MASTER to what they call the Redis to use")
    if url.startswith("rediss:") and "ssl_cert_reqs=" not in url:
        # Without a word about it kombu checks no certificate (5.7), and anybody could be that Redis.
        url += ("&" if "?" in url else "?") + "ssl_cert_reqs=required"
    return url


def transport_options(settings: Settings) -> dict[str, Any]:
    """Options of the folder transport or of Redis. Raises ConfigError, NoSpace where the folder cannot be made."""
    if settings.embedded_broker:
        place = settings.data_dir / "broker"
        with translating(place):
            for part in ("queue", "control"):
                (place / part).mkdir(parents=True, exist_ok=True)
        return {
            "data_folder_in": str(place / "queue"),
            "data_folder_out": str(place / "queue"),
            "control_folder": str(place / "control"),
            "polling_interval": FOLDER_POLL_S,
        }
    sentinel = {"master_name": settings.redis_sentinel_master} if settings.redis_sentinel_master else {}
    return {
        **sentinel,
        # A message is given to somebody else after this; it must outlast the longest task and its shutdown.
        "visibility_timeout": settings.task_time_limit_s + SHUTDOWN_S + 60,
        # Look for such messages every 5 s; the defaults take about 100 s.
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        # A publish on a dead link must fail, not hang.
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }


def redbeat_options(settings: Settings) -> dict[str, Any]:
    """Celery's configuration of a beat that keeps its times in Redis, its lock and the password included."""
    url = broker_url(settings)
    options: dict[str, Any] = {
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }
    if url.startswith("sentinel:"):
        parts = [urlsplit(part) for part in url.split(";")]
        # As kombu does: the password and the database are those of the Redis, and one of the URLs names them.
        options = {
            "sentinels": [(part.hostname or "localhost", part.port or 26379) for part in parts],
            "service_name": settings.redis_sentinel_master,
            "password": next((unquote(part.password) for part in parts if part.password), None),
            "username": next((unquote(part.username) for part in parts if part.username), None),
            "db": next((int(part.path.strip("/")) for part in parts if part.path.strip("/")), 0),
            "socket_timeout": 30,
        }
        url = "redis-sentinel://"
    return {
        "redbeat_redis_url": url,
        "redbeat_redis_options": options,
        # A lock of its own, and one that is set explicitly: of several beats one ticks.
        "redbeat_key_prefix": "kb-ingest:",
        "redbeat_lock_key": "kb-ingest:lock",
        "redbeat_lock_timeout": BEAT_LOCK_S,
        # Those that wait for the lock look for it as often.
        "beat_max_loop_interval": TICK_S,
        # Flower's page of tasks is for those that do something.
        "task_send_sent_event": False,
        "beat_schedule": {
            # Ticks that waited for a consumer are of no use: one of them looks at everything that is due.
            "tick": {"task": TICK_TASK, "schedule": float(TICK_S), "options": {"queue": TICK_QUEUE, "expires": 4 * TICK_S}},
        },
    }
