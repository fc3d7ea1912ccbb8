"""A container at a time, without compose: the Redis that the deployment uses, and workers of this machine."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.docker.stack import engine_answers, image_of
from tests.embed_server import MODEL
from tests.services import Cli, Server, embed_server, qdrant_stand_in

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture
def redis_url(unavailable: Callable[[str], NoReturn], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The broker's URL, of the image that compose.yaml names."""
    if not engine_answers():
        unavailable("no container engine with compose v2 answers")
    monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")  # its image may not be had; the context below ends ours
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    container = (
        DockerContainer(image_of("redis")).with_command("redis-server --requirepass of-a-container").with_exposed_ports(6379)
    )
    with container.waiting_for(LogMessageWaitStrategy("Ready to accept connections")) as running:
        yield f"redis://:of-a-container@{running.get_container_host_ip()}:{running.get_exposed_port(6379)}/0"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    started = qdrant_stand_in(tmp_path / "qdrant"), embed_server(tmp_path / "embed")
    for server in started:
        server.start()
    yield started
    for server in started:
        server.stop()


def test_workers_of_this_machine_on_the_redis_of_the_deployment(
    redis_url: str, servers: tuple[Server, Server], tmp_path: Path
) -> None:
    qdrant, model = servers
    (tmp_path / "documents").mkdir()
    for number in range(20):
        (tmp_path / "documents" / f"{number}.md").write_text(f"# Number {number}\n\nA page about the number {number}.\n")
    cli = Cli(
        tmp_path / "data", KB_REDIS_URL=redis_url, KB_QDRANT_URL=f"http://127.0.0.1:{qdrant.port}",
        KB_EMBED_URL=f"http://127.0.0.1:{model.port}", KB_EMBED_MODEL=MODEL,
    )  # fmt: skip
    up = cli.start("up")
    try:
        report = json.loads(cli.run("load", str(tmp_path / "documents"), "--json").stdout)
        assert (report["indexed"], report["quarantined"]) == (20, 0)
        cli.run("verify")
    finally:
        up.send_signal(signal.SIGTERM)
        up.communicate(timeout=60)
