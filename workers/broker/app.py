"""The Celery application: queues, acknowledgements, serialisation and transport, each setting with its reason."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote, urlsplit

from celery import Celery
from kombu.entity import Queue

from pipeline.errors import ConfigError
from pipeline.files.errors import translating
from pipeline.settings import Settings
from pipeline.types import Stage
from pipeline.urls import is_loopback
from workers.broker import folder

#: Max seconds for a worker to finish its tasks after SIGTERM; containers must wait longer than this before SIGKILL.
SHUTDOWN_S = 30

#: Seconds between two polls of the folder transport; the default of 1 s would noticeably delay every step.
FOLDER_POLL_S = 0.02

#: The same for a worker that has got no message for a while: polls of idle workers take time from those that work.
FOLDER_IDLE_POLL_S = 0.1

#: Messages fetched ahead in embedded mode. The folder transport handles acknowledgements only between drains of up to
#: 2 s, so that 1 would mean a task every 1 to 2 s. The dispatcher resends a message that is lost with a worker.
FOLDER_PREFETCH = 16

#: What a broker must be, and how its URL may begin.
SCHEMES = ("redis", "rediss", "sentinel")

#: The queue and the task of ticks; at each tick, the consumer checks for due schedules.
TICK_QUEUE = "tick"
TICK_TASK = "kb.tick"

#: Seconds between two ticks, and the max delay of a schedule; a check costs a few milliseconds.
TICK_S = 5

#: Seconds after which another beat takes over from a dead one; several times the interval at which a live beat renews its lock.
BEAT_LOCK_S = 30


def make_app(settings: Settings) -> Celery:
    """The Celery application for these settings; imports no task."""
    # These two would override Celery's configuration; our settings have already read them, and there is no result store.
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
        # Unacknowledged tasks are limited to the concurrency, and return when a worker is lost. By itself this would run a
        # poisonous task forever; the ledger's attempt counter, committed before the work, prevents that.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=FOLDER_PREFETCH if settings.embedded_broker else 1,
        # A hard limit acknowledges the message; the lease then brings the documents back.
        task_time_limit=settings.task_time_limit_s,
        task_soft_time_limit=max(1, settings.task_time_limit_s - 30),
        # Without this, a task that outlives its connection would run twice at the same time.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        # SIGTERM is a warm shutdown: running tasks finish, fetched ones are returned. Celery's soft shutdown would always sleep
        # for its full time, even without running tasks; our supervisor has its own limit.
        worker_soft_shutdown_timeout=0.0,
        # An embed worker's child loads its model before it reports that it is up; the default of 4 s would kill it.
        worker_proc_alive_timeout=600.0,
        # The default gives up after 100 attempts; a broker may be unreachable for longer.
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        # Every process sets up its own logging in the same way.
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=not settings.embedded_broker,
        task_send_sent_event=not settings.embedded_broker,
        enable_utc=True,
    )
    return app


def broker_url(settings: Settings) -> str:
    """The broker's URL for Celery, password included.

    Raises ConfigError for a Redis off this host without a password, and for every other broker.
    """
    if settings.embedded_broker:
        return f"{folder.SCHEME}://"
    url = settings.redis_url.get_secret_value()
    for part in url.split(";"):  # several Sentinels
        try:
            parts = urlsplit(part)
            host, password = parts.hostname or "", parts.password
        except ValueError as error:
            raise ConfigError(f"KB_REDIS_URL is not a valid URL: {error}") from None
        if parts.scheme not in SCHEMES:
            raise ConfigError(
                f"KB_REDIS_URL: no broker for {parts.scheme or 'a URL without a scheme'}, because schedules and the repair of "
                f"queues need Redis; give a URL that begins with {', '.join(f'{name}://' for name in SCHEMES[:-1])} or "
                f"{SCHEMES[-1]}://. A small Redis is enough: the ledger keeps the work"
            )
        if not (is_loopback(host) or password or settings.allow_insecure):
            raise ConfigError(
                f"Redis at {host} is on another host and has no password: anyone who can reach it can queue work; "
                "add a password to KB_REDIS_URL, or set KB_ALLOW_INSECURE=true"
            )
        if parts.scheme == "sentinel" and not settings.redis_sentinel_master:
            raise ConfigError("KB_REDIS_URL lists Sentinels: set KB_REDIS_SENTINEL_MASTER to the name they use for the Redis")
    if url.startswith("rediss:") and "ssl_cert_reqs=" not in url:
        # By default kombu (5.7) verifies no certificate, so that anyone could impersonate Redis.
        url += ("&" if "?" in url else "?") + "ssl_cert_reqs=required"
    return url


def transport_options(settings: Settings) -> dict[str, Any]:
    """Options of the folder transport or of Redis. Raises ConfigError or NoSpace if the folder cannot be created."""
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
            "idle_polling_interval": FOLDER_IDLE_POLL_S,
        }
    sentinel = {"master_name": settings.redis_sentinel_master} if settings.redis_sentinel_master else {}
    return {
        **sentinel,
        # Seconds until a message is redelivered; must be longer than the longest task and its shutdown.
        "visibility_timeout": settings.task_time_limit_s + SHUTDOWN_S + 60,
        # Check for such messages every 5 s; the defaults take about 100 s.
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        # A publish on a dead link must fail, not hang.
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }


def redbeat_options(settings: Settings) -> dict[str, Any]:
    """Celery's configuration of a beat that keeps its schedule in Redis, including its lock and the password."""
    url = broker_url(settings)
    options: dict[str, Any] = {
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }
    if url.startswith("sentinel:"):
        parts = [urlsplit(part) for part in url.split(";")]
        # Like kombu: password and database belong to Redis itself, and one of the URLs contains them.
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
        # An explicit lock of our own, so that only one of several beats ticks.
        "redbeat_key_prefix": "kb-ingest:",
        "redbeat_lock_key": "kb-ingest:lock",
        "redbeat_lock_timeout": BEAT_LOCK_S,
        # Beats that wait for the lock check it as often.
        "beat_max_loop_interval": TICK_S,
        # Flower's task page is for tasks that do work.
        "task_send_sent_event": False,
        "beat_schedule": {
            # Ticks that have waited for a consumer are useless: a single tick checks everything that is due.
            "tick": {"task": TICK_TASK, "schedule": float(TICK_S), "options": {"queue": TICK_QUEUE, "expires": 4 * TICK_S}},
        },
    }
