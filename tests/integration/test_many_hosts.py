"""Two hosts, as network namespaces, that share nothing but Redis, Qdrant, PostgreSQL and an object store."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.services import (
    Cli,
    Server,
    make_bucket,
    postgres_server,
    qdrant_stand_in,
    redis_server,
    s3_environment,
    s3_server,
    wait_until,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: The network of the hosts; the servers listen on its first address, in the namespace of the tests.
NETWORK = "10.213.77"


@dataclass
class Hosts:
    """The network and what it offers."""

    bridge: str
    names: tuple[str, str]
    environment: dict[str, str]
    redis: Server

    def cli(self, number: int, folder: Path) -> Cli:
        """The command on one of the hosts, with a data folder that the other one never sees."""
        cli = Cli(folder / f"data-{number}", **self.environment)
        cli.prefix = ("ip", "netns", "exec", self.names[number])
        return cli

    def kill(self, number: int) -> None:
        """All processes of a host, at once, as a power cut would."""
        found = subprocess.run(
            ["ip", "netns", "pids", self.names[number]], capture_output=True, text=True, check=True
        ).stdout.split()
        for process in found:
            os.kill(int(process), signal.SIGKILL)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[Hosts]:
    """The network, its two hosts, and the four servers that they share."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        unavailable("network namespaces need iproute2 and root")
    tag = uuid.uuid4().hex[:6]
    bridge, names = f"kbb{tag}", (f"kb-a-{tag}", f"kb-b-{tag}")
    here = f"{NETWORK}.1"
    stops: list[Callable[[], object]] = []
    # Outside pytest's folders: those are closed to the user that runs PostgreSQL.
    cluster = Path(tempfile.mkdtemp(prefix="kb-postgres-"))
    cluster.chmod(0o755)
    stops.append(lambda: shutil.rmtree(cluster))
    try:
        ip("link", "add", bridge, "type", "bridge")
        stops.append(lambda: ip("link", "del", bridge))
        ip("addr", "add", f"{here}/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for number, name in enumerate(names):
            inside, outside = f"kbi{number}{tag}", f"kbo{number}{tag}"
            ip("netns", "add", name)
            stops.append(lambda name=name: ip("netns", "del", name))  # type: ignore[misc]
            ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
            ip("link", "set", outside, "master", bridge, "up")
            ip("-n", name, "addr", "add", f"{NETWORK}.{11 + number}/24", "dev", inside)
            ip("-n", name, "link", "set", inside, "up")
            ip("-n", name, "link", "set", "lo", "up")
        redis = redis_server(tmp_path / "redis", "--requirepass", "of-the-hosts", host=here)
        postgres = postgres_server(cluster / "cluster", here)
        if redis is None or postgres is None:
            unavailable("no redis-server or PostgreSQL on this machine")
        qdrant = qdrant_stand_in(tmp_path / "qdrant", host=here, api_key="key-of-the-hosts")
        s3 = s3_server(tmp_path / "s3", here)
        for server in (redis, postgres, qdrant, s3):
            server.start()
            stops.append(server.stop)
        environment = s3_environment(s3) | {
            "KB_REDIS_URL": f"redis://:of-the-hosts@{here}:{redis.port}/0",
            "KB_QDRANT_URL": f"http://{here}:{qdrant.port}",
            "KB_API_KEY": "key-of-the-hosts",
            "KB_DATABASE_URL": postgres.database(),
            "KB_STAGING_URL": "s3://kb-staging/kb",
            "KB_INGEST_DEVICE": "cpu",
            "KB_DEVICE": "cpu",
            "KB_LEASE_S": "10",
            "KB_REQUEUE_S": "5",
        }
        make_bucket(environment, "kb-staging")
        yield Hosts(bridge, names, environment, redis)
    finally:
        for stop in reversed(stops):
            stop()


def json_of(cli: Cli, *arguments: str) -> Any:
    return json.loads(cli.run(*arguments, "--json").stdout)


@pytest.mark.timeout(300)
def test_one_host_parses_what_the_other_embeds_and_either_can_die(hosts: Hosts, documents: Path, tmp_path: Path) -> None:
    first, second = hosts.cli(0, tmp_path), hosts.cli(1, tmp_path)
    workers = [first.start("worker", "--stage", "parse"), second.start("worker", "--stage", "embed")]
    try:
        result = json_of(first, "load", str(documents))
        assert (result["indexed"], result["quarantined"]) == (4, 0)
        found = json_of(second, "status")["workers"]
        assert {worker["role"] for worker in found} == {"parse", "embed"}
        assert json_of(second, "search", "watering", "--limit", "1")[0]["uri"].endswith("tomatoes.md")
        # Nothing of it is on either disk: the ledger, the copies and the chunk files are where both reach them.
        for cli in (first, second):
            assert not list(cli.data_dir.rglob("*.jsonl.gz"))
            assert not (cli.data_dir / "kb.db").exists()

        # The host that embeds is gone in the middle of a load, and the other one takes over.
        for number in range(60):
            text = f"# Page {number}\n\n" + f"Page {number} tells of hosts that go away without a word. " * 40
            (documents / f"page-{number}.md").write_text(text)
        first.run("load", str(documents), "--no-wait")
        wait_until(lambda: json_of(first, "status")["documents"].get("indexed", 0) > 4, "the first of them is indexed", 60, 0.3)
        hosts.kill(1)
        workers.append(first.start("worker", "--stage", "embed"))
        wait_until(lambda: json_of(first, "status")["documents"] == {"indexed": 64}, "all are indexed", 120, 1)
        verified = json_of(first, "verify")
        assert (verified["missing"], verified["orphans"], verified["zero_vectors"]) == (0, 0, 0)
    finally:
        for process in workers:
            process.send_signal(signal.SIGTERM)
        for process in workers:
            process.communicate(timeout=90)
