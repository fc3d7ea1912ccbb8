"""The Celery application: what it refuses, what it never carries."""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.errors import BrokerUnavailable, ConfigError
from pipeline.ledger.flow import Batch
from pipeline.settings import Settings
from pipeline.types import Stage
from pipeline.urls import is_loopback, mask_url
from workers.broker import queues
from workers.broker.app import BEAT_LOCK_S, SHUTDOWN_S, TICK_QUEUE, make_app, redbeat_options
from workers.broker.queues import Broker


def settings(tmp_path: Path, **values: object) -> Settings:
    return Settings(data_dir=tmp_path, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("redis://127.0.0.1:6379/0", False),
        ("redis://localhost/0", False),
        ("redis://[::1]:6379/0", False),
        ("redis://redis:6379/0", True),
        ("rediss://10.0.0.5:6379/0", True),
        ("sentinel://redis:26379/0", True),
        ("sentinel://:secret@one:26379;sentinel://two:26379/0", True),
        ("redis://host.docker.internal/0", True),
        ("redis://:secret@redis:6379/0", False),
        ("redis://[::1", True),
    ],
)
def test_redis_off_this_host_wants_a_password(tmp_path: Path, url: str, refused: bool) -> None:
    if refused:
        with pytest.raises(ConfigError, match="KB_REDIS_URL"):
            make_app(settings(tmp_path, redis_url=url))
    else:
        assert make_app(settings(tmp_path, redis_url=url)).conf.broker_url == url


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("rediss://:x@redis/0", "rediss://:x@redis/0?ssl_cert_reqs=required"),
        ("rediss://:x@redis/0?ssl_ca_certs=/ca.pem", "rediss://:x@redis/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required"),
        ("rediss://:x@redis/0?ssl_cert_reqs=none", "rediss://:x@redis/0?ssl_cert_reqs=none"),
    ],
)
def test_certificates_are_checked_unless_told_otherwise(tmp_path: Path, url: str, checked: str) -> None:
    assert make_app(settings(tmp_path, redis_url=url)).conf.broker_url == checked


@pytest.mark.parametrize(
    "url",
    ["amqp://guest:x@127.0.0.1//", "sqs://key:secret@", "redis+socket:///tmp/redis", "rediscluster://127.0.0.1", "memory://", "x"],
)
def test_another_broker_than_redis_is_refused_with_the_reason(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"KB_REDIS_URL: no broker for .*; give a URL that begins with redis://") as refused:
        make_app(settings(tmp_path, redis_url=url))
    assert "secret" not in str(refused.value)


def test_sentinels_want_a_name_to_look_for(tmp_path: Path) -> None:
    url = "sentinel://:secret@one:26379;sentinel://:secret@two:26379"
    with pytest.raises(ConfigError, match="KB_REDIS_SENTINEL_MASTER"):
        make_app(settings(tmp_path, redis_url=url))
    app = make_app(settings(tmp_path, redis_url=url, redis_sentinel_master="kb"))
    assert app.conf.broker_transport_options["master_name"] == "kb"
    assert mask_url(url) == "sentinel://:****@one:26379;sentinel://:****@two:26379"


def test_it_can_be_told_otherwise(tmp_path: Path) -> None:
    assert make_app(settings(tmp_path, redis_url="redis://redis/0", allow_insecure=True)).conf.broker_url == "redis://redis/0"


def test_a_message_is_json_and_carries_ids_only(tmp_path: Path) -> None:
    app = make_app(settings(tmp_path))
    Broker(app).send(Batch("batch-id", Stage.PARSE, ("one", "two"), (12,)))
    assert Broker(app).depth(Stage.PARSE) == 1
    assert Broker(app).depth(Stage.EMBED) == 0
    (file,) = (tmp_path / "broker" / "queue").iterdir()
    message = json.loads(file.read_text())
    assert message["content-type"] == "application/json"
    args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    assert (args, kwargs) == (["batch-id", ["one", "two"]], {})
    assert message["headers"]["argsrepr"] == "parse 2 documents of run 12"
    assert list(app.conf.accept_content) == ["json"]
    app.close()


def test_a_question_does_not_wait_for_ever_for_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "CONNECT_S", 0.1)
    app = make_app(settings(tmp_path))
    with ExitStack() as taken:
        for _ in range(app.pool.limit):
            taken.enter_context(app.pool.acquire())
        with pytest.raises(BrokerUnavailable, match="connections to the broker are in use"):
            Broker(app).depth(Stage.PARSE)
    assert Broker(app).depth(Stage.PARSE) == 0
    app.close()


def test_celery_variables_of_the_environment_do_not_override_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere/0")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://elsewhere/1")
    app = make_app(settings(tmp_path, redis_url="redis://127.0.0.1/5"))
    assert app.conf.broker_url == "redis://127.0.0.1/5"
    assert app.conf.result_backend is None


def test_a_message_outlives_the_longest_task(tmp_path: Path) -> None:
    conf = make_app(settings(tmp_path, redis_url="redis://127.0.0.1/0", task_time_limit_s=500)).conf
    assert conf.broker_transport_options["visibility_timeout"] > conf.task_time_limit + SHUTDOWN_S
    assert conf.worker_prefetch_multiplier == 1
    assert conf.task_acks_late


def test_masks_and_loopback() -> None:
    assert mask_url("redis://user:secret@host:1/0") == "redis://user:****@host:1/0"
    assert mask_url("http://[::1") == "****"
    assert mask_url("http://plain/x") == "http://plain/x"
    assert [is_loopback(host) for host in ("127.0.0.9", "::1", "a.localhost", "10.0.0.1", "qdrant", "")] == [True] * 3 + [False] * 3


def test_redbeat_finds_redis_as_celery_does(tmp_path: Path) -> None:
    plain = redbeat_options(settings(tmp_path, redis_url="rediss://:x@redis/0"))
    assert plain["redbeat_redis_url"] == "rediss://:x@redis/0?ssl_cert_reqs=required"
    assert (plain["redbeat_lock_key"], plain["redbeat_lock_timeout"]) == ("kb-ingest:lock", BEAT_LOCK_S)
    assert 2 * plain["beat_max_loop_interval"] < BEAT_LOCK_S
    (tick,) = plain["beat_schedule"].values()
    assert (tick["options"]["queue"], "args" in tick) == (TICK_QUEUE, False)
    url = "sentinel://:se%40cret@one:26379/2;sentinel://:se%40cret@two"
    found = redbeat_options(settings(tmp_path, redis_url=url, redis_sentinel_master="kb"))
    assert found["redbeat_redis_url"] == "redis-sentinel://"
    options = found["redbeat_redis_options"]
    assert options["sentinels"] == [("one", 26379), ("two", 26379)]
    assert (options["service_name"], options["password"], options["db"]) == ("kb", "se@cret", 2)


def test_a_worker_that_is_asked_for_its_configuration_has_no_password_to_tell(tmp_path: Path) -> None:
    app = make_app(settings(tmp_path, redis_url="redis://:hush@redis/0"))
    assert not any(name.startswith("redbeat") for name in app.conf.keys())  # noqa: SIM118 - no plain mapping
