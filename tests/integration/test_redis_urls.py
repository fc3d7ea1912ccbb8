"""Redis behind TLS, and behind Sentinels that change which Redis it is."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from kombu import pools
from pydantic import SecretStr
from sqlalchemy import update

from pipeline.ledger import Ledger
from pipeline.ledger.schema import schedules, writing
from pipeline.settings import Settings
from pipeline.types import Stage
from tests.embed_server import MODEL
from tests.services import Cli, Server, embed_server, free_port, redis_server, wait_until
from workers.broker.app import make_app
from workers.broker.queues import Broker
from workers.monitoring.flower import FlowerBroker

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def served(tmp_path: Path, qdrant: Server) -> Iterator[dict[str, str]]:
    """Settings of a store and of a model that starts fast."""
    server = embed_server(tmp_path / "embed")
    server.start()
    yield {
        "KB_QDRANT_URL": f"http://127.0.0.1:{qdrant.port}", "KB_EMBED_URL": f"http://127.0.0.1:{server.port}",
        "KB_EMBED_MODEL": MODEL, "KB_LEASE_S": "6", "KB_REQUEUE_S": "3",
    }  # fmt: skip
    server.stop()


def checks(cli: Cli, documents: Path, name: str) -> None:
    """What runs carries a schedule out: its beat found Redis, and the tick came through."""
    if "papers" not in cli.run("source", "list").stdout:
        cli.run("source", "add", "papers", str(documents))
    cli.run("schedule", "add", name, "--cron", "0 0 1 1 *", "--source", "papers", "--action", "verify")
    ledger = Ledger.open(f"sqlite:///{cli.data_dir / 'kb.db'}")
    with writing(ledger.engine) as connection:
        connection.execute(update(schedules).where(schedules.c.name == name).values(last_slot=0))
    wait_until(lambda: [past.outcome for past in ledger.runs.history(schedule=name)] == ["done"], "it was carried out")
    ledger.close()


def lengths(cli: Cli) -> dict[object, object]:
    """Messages that wait, as Flower is told."""
    settings = Settings(
        data_dir=cli.data_dir, redis_url=SecretStr(cli.environment["KB_REDIS_URL"]),
        redis_sentinel_master=cli.environment.get("KB_REDIS_SENTINEL_MASTER", ""),
    )  # fmt: skip
    try:
        rows = asyncio.run(FlowerBroker(Broker(make_app(settings)), ()).queues([stage.value for stage in Stage]))
    finally:
        # Kombu shares a pool between applications of a process with one address, whatever certificates they know.
        pools.reset()  # type: ignore[no-untyped-call]
    return {row["name"]: row["messages"] for row in rows}


def loads(cli: Cli, documents: Path, expected: int) -> None:
    """Start workers, load, have a schedule carried out, and stop them."""
    worker = cli.start("up")
    try:
        result = json.loads(cli.run("load", str(documents), "--json").stdout)
        assert (result["indexed"], result["quarantined"]) == (expected, 0)
        checks(cli, documents, "over-tls")
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)


def test_redis_behind_tls(tmp_path: Path, documents: Path, served: dict[str, str], unavailable: Callable[[str], NoReturn]) -> None:
    if shutil.which("openssl") is None:
        unavailable("no openssl on this machine")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    redis = redis_server(
        tmp_path / "redis", "--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
        "--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no", "--requirepass", "of-tls",
    )  # fmt: skip
    if redis is None:
        unavailable("no redis-server on this machine")
    redis.start()
    try:
        url = f"rediss://:of-tls@localhost:{port}/0?ssl_ca_certs={certificate}"
        cli = Cli(tmp_path / "data", KB_REDIS_URL=url, **served)
        cli.run("load", str(documents), "--no-wait")
        waiting = json.loads(cli.run("status", "--json").stdout)["queues"]["parse"]["depth"]
        assert lengths(cli) == {"parse": waiting, "embed": 0}
        assert waiting > 0
        loads(cli, documents, 4)
        assert "of-tls" not in cli.run("config").stdout
        stranger = Cli(tmp_path / "data", KB_REDIS_URL=f"rediss://:of-tls@localhost:{port}/0", **served)
        findings = {one["part"]: one for one in json.loads(stranger.run("doctor", "--json", status=1).stdout)}
        assert "CERTIFICATE_VERIFY_FAILED" in findings["broker"]["text"]
        assert lengths(stranger) == {}
    finally:
        redis.stop()


def test_a_redis_cluster_is_refused(
    tmp_path: Path, documents: Path, served: dict[str, str], unavailable: Callable[[str], NoReturn]
) -> None:
    # Its second port would be 10,000 above the first one, which may be more than there are.
    redis = redis_server(tmp_path / "redis", "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    if redis is None:
        unavailable("no redis-server on this machine")
    redis.start()
    try:
        cli = Cli(tmp_path / "data", KB_REDIS_URL=f"redis://127.0.0.1:{redis.port}/0", **served)
        reason = "KB_REDIS_URL is a Redis cluster"
        # Before it has its share of the keys, and with all of them.
        assert reason in cli.run("worker", "--stage", "parse", status=1).stderr
        subprocess.run(
            ["redis-cli", "-p", str(redis.port), "cluster", "addslotsrange", "0", "16383"], check=True, capture_output=True
        )

        def up() -> bool:
            told = subprocess.run(
                ["redis-cli", "-p", str(redis.port), "cluster", "info"], capture_output=True, text=True, check=True
            )
            return "cluster_state:ok" in told.stdout

        wait_until(up, "the cluster has formed")
        assert reason in cli.run("up", status=1).stderr
        assert reason in cli.run("load", str(documents), "--no-wait", status=1).stderr
        findings = {one["part"]: one for one in json.loads(cli.run("doctor", "--json", status=1).stdout)}
        assert findings["broker"]["text"].startswith(reason)
    finally:
        redis.stop()
    # What was staged is in the ledger, and a Redis that can be used takes it from there.
    alone = redis_server(tmp_path / "alone")
    assert alone is not None
    alone.start()
    try:
        cli = Cli(tmp_path / "data", KB_REDIS_URL=f"redis://127.0.0.1:{alone.port}/0", **served)
        cli.run("up", "--until-empty")
        assert cli.answer("status")["documents"] == {"indexed": 4}
    finally:
        alone.stop()


def test_sentinels_name_the_redis_and_another_one_takes_over(
    tmp_path: Path, documents: Path, served: dict[str, str], unavailable: Callable[[str], NoReturn]
) -> None:
    password = ("--requirepass", "of-redis", "--masterauth", "of-redis")
    first = redis_server(tmp_path / "first", *password)
    if first is None:
        unavailable("no redis-server on this machine")
    second = redis_server(tmp_path / "second", *password, "--replicaof", "127.0.0.1", str(first.port))
    assert second is not None
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"sentinel monitor kb 127.0.0.1 {first.port} 1\nsentinel auth-pass kb of-redis\n"
        # Long enough that a machine under load is not taken for a dead Redis before one is killed.
        "sentinel down-after-milliseconds kb 6000\nsentinel failover-timeout kb 10000\n"
    )
    program = shutil.which("redis-server") or ""
    sentinel = Server(
        lambda port: [program, str(configuration), "--sentinel", "--port", str(port), "--bind", "127.0.0.1"],
        tmp_path / "sentinel",
        "sentinel",
    )
    servers = [first, second, sentinel]
    for server in servers:
        server.start()
    try:
        # The password of the Redis; Sentinels without one of their own ignore it.
        cli = Cli(
            tmp_path / "data",
            KB_REDIS_URL=f"sentinel://:of-redis@127.0.0.1:{sentinel.port}/2",
            KB_REDIS_SENTINEL_MASTER="kb",
            **served,
        )

        def asked(*words: str) -> str:
            command = ["redis-cli", "-p", str(sentinel.port), "sentinel", *words, "kb"]
            return subprocess.run(command, capture_output=True, text=True, check=False).stdout

        wait_until(lambda: str(second.port) in asked("replicas"), "the Sentinel knows both")
        cli.run("load", str(documents), "--no-wait")
        waiting = json.loads(cli.run("status", "--json").stdout)["queues"]["parse"]["depth"]
        assert lengths(cli) == {"parse": waiting, "embed": 0}
        assert waiting > 0
        worker = cli.start("up")
        try:
            assert json.loads(cli.run("load", str(documents), "--json").stdout)["indexed"] == 4
            checks(cli, documents, "before")
            first.stop(signal.SIGKILL)
            (documents / "new.md").write_text("# New\n\nWritten while one Redis was gone.\n")

            wait_until(lambda: str(second.port) in asked("get-master-addr-by-name"), "the other Redis is the master")
            assert json.loads(cli.run("load", str(documents), "--json").stdout)["indexed"] == 1
            checks(cli, documents, "after")
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=60)
    finally:
        for server in reversed(servers):
            server.stop()
