"""Redis and a server as the store, separate worker processes: the same points as in embedded mode."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.errors import BrokerUnavailable
from pipeline.ledger.flow import Batch
from pipeline.settings import Settings
from pipeline.store import open_store
from pipeline.types import Stage
from tests.documents import WRITERS, write
from tests.services import Cli, Server, wait_until
from workers.broker.app import make_app
from workers.broker.queues import Broker

pytestmark = pytest.mark.integration


def points(settings: Settings) -> dict[str, tuple[str, list[float]]]:
    """All points of the collection: id -> (document, vector)."""
    store = open_store(settings, role="reader")
    try:
        physical = store.aliases()["documents"]
        return {point.id: (point.document_id, list(point.vector or ())) for point in store.scan(physical, with_vectors=True)}
    finally:
        store.close()


def json_of(cli: Cli, *arguments: str, status: int = 0) -> Any:
    return json.loads(cli.run(*arguments, "--json", status=status).stdout)


@pytest.mark.slow
def test_workers_of_their_own_give_the_same_points(redis: Server, qdrant: Server, documents: Path, tmp_path: Path) -> None:
    embedded = Cli(tmp_path / "embedded", KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu")
    served = Cli(
        tmp_path / "served", KB_REDIS_URL=f"redis://127.0.0.1:{redis.port}/0", KB_QDRANT_URL=f"http://127.0.0.1:{qdrant.port}",
        KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu",
    )  # fmt: skip
    for kind in WRITERS:
        write(documents, kind)
    count = 4 + len(WRITERS) + 2  # two mails with an attachment each
    assert json_of(embedded, "load", str(documents))["indexed"] == count
    parse, embed = served.start("worker", "--stage", "parse"), served.start("worker", "--stage", "embed")
    try:
        result = json_of(served, "load", str(documents))
        assert (result["indexed"], result["quarantined"], result["device"]) == (count, 0, "cpu")
        verified = json_of(served, "verify")
        assert (verified["missing"], verified["orphans"], verified["zero_vectors"]) == (0, 0, 0)
        status = json_of(served, "status")
        assert {name: queue["workers"] for name, queue in status["queues"].items()} == {"parse": 1, "embed": 1}
        assert json_of(served, "search", "watering")[0]["uri"].endswith("tomatoes.md")
    finally:
        for process in (parse, embed):
            process.send_signal(signal.SIGTERM)
        for process in (parse, embed):
            process.communicate(timeout=90)
    ours = points(Settings(data_dir=embedded.data_dir))
    theirs = points(Settings(data_dir=served.data_dir, qdrant_url=f"http://127.0.0.1:{qdrant.port}"))
    assert ours.keys() == theirs.keys()
    for key, (document, vector) in ours.items():
        assert theirs[key][0] == document
        # Which texts share a call differs from run to run, and with it the rounding of half precision.
        assert sum(a * b for a, b in zip(theirs[key][1], vector, strict=True)) > 0.9995


@pytest.mark.slow
def test_load_says_that_no_worker_serves_a_queue_and_goes_on_when_one_does(
    redis: Server, qdrant: Server, documents: Path, tmp_path: Path
) -> None:
    cli = Cli(
        tmp_path / "data", KB_REDIS_URL=f"redis://127.0.0.1:{redis.port}/0", KB_QDRANT_URL=f"http://127.0.0.1:{qdrant.port}",
        KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu",
    )  # fmt: skip
    process = cli.start("load", str(documents), "--json")
    assert process.stderr is not None
    line = ""
    while "no worker serves" not in line:
        line = process.stderr.readline()
        assert line, "ended without a word"
    worker = cli.start("up", "--until-empty")
    out, _ = process.communicate(timeout=180)
    assert process.returncode == 0
    assert json.loads(out)["indexed"] == 4
    worker.communicate(timeout=90)
    assert worker.returncode == 0


@pytest.mark.slow
def test_an_embedded_collection_is_promoted_to_a_server(qdrant: Server, documents: Path, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{qdrant.port}"
    embedded = Cli(tmp_path / "data", KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu")
    json_of(embedded, "load", str(documents))
    report = json_of(embedded, "promote", "--to", url)
    assert report["copied"] == report["source_count"] == report["target_count"]
    served = Cli(tmp_path / "data", KB_QDRANT_URL=url, KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu")
    assert json_of(served, "verify")["missing"] == 0
    assert json_of(served, "search", "watering")[0]["uri"].endswith("tomatoes.md")
    again = json_of(served, "load", str(documents))
    assert (again["unchanged"], again["chunks"]) == (4, 0)


def test_who_only_looks_deletes_nothing_and_who_sends_does(redis: Server, tmp_path: Path) -> None:
    from redis import Redis

    client = Redis(port=redis.port)
    client.set("parse", "no list")
    app = make_app(Settings(data_dir=tmp_path, redis_url=SecretStr(f"redis://127.0.0.1:{redis.port}/0")))
    broker, batch = Broker(app), Batch("1", Stage.PARSE, ("a",))
    assert broker.depth(Stage.PARSE) == broker.length("parse") == 0
    assert client.get("parse") == b"no list"
    with pytest.raises(BrokerUnavailable, match="WRONGTYPE"):
        broker.send(batch)
    broker.send(batch)
    assert broker.depth(Stage.PARSE) == 1
    app.close()
    client.close()


@pytest.mark.slow
def test_questions_share_a_connection_that_outlives_a_restart_of_redis(redis: Server, tmp_path: Path) -> None:
    from redis import Redis

    app = make_app(Settings(data_dir=tmp_path, redis_url=SecretStr(f"redis://127.0.0.1:{redis.port}/0")))
    broker = Broker(app)
    broker.send(Batch("first", Stage.PARSE, ("a",), ()))
    assert broker.depth(Stage.PARSE) == 1
    with Redis(port=redis.port) as client:
        before = client.info("stats")["total_connections_received"]
        assert [broker.depth(stage) for stage in (Stage.PARSE, Stage.EMBED) * 20] == [1, 0] * 20
        assert client.info("stats")["total_connections_received"] == before
    redis.stop()
    with pytest.raises(BrokerUnavailable):
        broker.depth(Stage.PARSE)
    redis.start()
    assert broker.depth(Stage.PARSE) == 1
    broker.send(Batch("second", Stage.PARSE, ("b",), ()))
    assert broker.depth(Stage.PARSE) == 2
    app.close()


def test_redis_that_forgets_everything_loses_nothing(redis: Server, qdrant: Server, documents: Path, tmp_path: Path) -> None:
    cli = Cli(
        tmp_path / "data", KB_REDIS_URL=f"redis://127.0.0.1:{redis.port}/0", KB_QDRANT_URL=f"http://127.0.0.1:{qdrant.port}",
        KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu", KB_REQUEUE_S="2",
    )  # fmt: skip
    cli.run("load", str(documents), "--no-wait")
    assert json_of(cli, "status")["queues"]["parse"]["depth"] >= 1
    redis.stop(signal.SIGKILL)
    for path in redis.folder.rglob("*.aof"):
        path.unlink()
    for path in redis.folder.rglob("*.manifest"):
        path.unlink()
    redis.start()
    assert json_of(cli, "status")["queues"]["parse"]["depth"] == 0
    worker = cli.start("up", "--until-empty")
    wait_until(lambda: worker.poll() is not None, "everything indexed", 180, 0.5)
    assert worker.returncode == 0
    worker.communicate()
    assert json_of(cli, "status")["documents"] == {"indexed": 4}
