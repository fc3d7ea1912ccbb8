"""The server store under faults, and the stand-in server that injects them."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import CollectionMismatch, CollectionMissing, ConfigError, StoreUnavailable
from pipeline.settings import Settings
from pipeline.store import open_store
from pipeline.store.server import ServerStore
from tests.made_points import DIMENSION, made_document, made_points, made_vector
from tests.qdrant_rest import Fault, QdrantRest

GUIDE = made_document("guide.txt")
SCRIPT = Path(__file__).resolve().parents[1] / "qdrant_rest.py"


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[QdrantRest]:
    with QdrantRest(tmp_path / "rest") as server:
        yield server


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.errors.FIRST_PAUSE_S", 0.01)


@pytest.fixture
def store(rest: QdrantRest) -> Iterator[ServerStore]:
    opened = ServerStore(rest.url, retry_s=3, timeout_s=1, batch_points=10)
    opened.create("c", DIMENSION)
    opened.upsert("c", made_points(GUIDE, 5))
    rest.clear()
    yield opened
    rest.clear()
    opened.close()


def test_a_new_collection_is_told_how_to_spread_over_a_cluster(rest: QdrantRest, tmp_path: Path) -> None:
    spread = {"qdrant_shards": 6, "qdrant_replicas": 2, "qdrant_write_consistency": 1}
    opened = open_store(Settings(data_dir=tmp_path, qdrant_url=rest.url, **spread))  # type: ignore[arg-type]
    opened.create("spread", DIMENSION)
    opened.close()
    asked = rest.collections.created["spread"]
    assert (asked.shard_number, asked.replication_factor, asked.write_consistency_factor) == (6, 2, 1)
    plain = open_store(Settings(data_dir=tmp_path, qdrant_url=rest.url))
    plain.create("plain", DIMENSION)
    plain.close()
    asked = rest.collections.created["plain"]
    assert (asked.shard_number, asked.replication_factor, asked.write_consistency_factor) == (None, None, None)


def test_a_new_collection_is_told_what_to_search_its_vectors_by(rest: QdrantRest, tmp_path: Path) -> None:
    for name, settings in {
        "int8": {"qdrant_quantization": "int8", "qdrant_on_disk": True},
        "binary": {"qdrant_quantization": "binary"},
        "plain": {},
    }.items():
        opened = open_store(Settings(data_dir=tmp_path, qdrant_url=rest.url, **settings))  # type: ignore[arg-type]
        opened.create(name, DIMENSION)
        opened.close()
    asked = {name: rest.collections.created[name].model_dump()["vectors"]["dense"] for name in ("int8", "binary", "plain")}
    assert asked["int8"]["quantization_config"]["scalar"]["type"] == "int8"
    assert asked["binary"]["quantization_config"]["binary"]["always_ram"]
    assert asked["plain"]["quantization_config"] is None
    assert [one["on_disk"] for one in asked.values()] == [True, None, None]


@pytest.mark.parametrize("version", ["1.18.3", "1.9.0", "0.11.2"])
def test_an_old_server_is_named_before_it_refuses_a_filter(rest: QdrantRest, store: ServerStore, version: str) -> None:
    rest.version = version
    opened = ServerStore(rest.url, retry_s=0.3)
    assert len(opened.search("c", made_vector(1), 5, {})) == 5
    for call in (
        lambda: opened.search("c", made_vector(1), 5, {"folder": "/guides*"}),
        lambda: opened.create("d", DIMENSION),
    ):
        with pytest.raises(ConfigError, match=rf"version {version}, and kb-ingest needs 1\.19"):
            call()
    opened.close()


@pytest.mark.parametrize("version", ["1.19.0", "1.20.0-dev", "2.0.0", "unknown"])
def test_other_servers_are_asked_for_their_version_once(rest: QdrantRest, store: ServerStore, version: str) -> None:
    rest.version = version
    opened = ServerStore(rest.url, retry_s=0.3)
    for _ in range(3):
        assert len(opened.search("c", made_vector(1), 5, {"folder": "/guides*"})) == 5
    opened.close()


#: Every call of the protocol that goes to the server about a collection.
CALLS: dict[str, Callable[[ServerStore], object]] = {
    "create": lambda s: s.create("d", DIMENSION),
    "upsert": lambda s: s.upsert("c", made_points(GUIDE, 25)),
    "document_points": lambda s: s.document_points("c", [GUIDE.id]),
    "update_meta": lambda s: s.update_meta("c", s.document_points("c", [GUIDE.id])[GUIDE.id]),
    "update_document": lambda s: s.update_document("c", GUIDE),
    "delete_points": lambda s: s.delete_points("c", [made_points(GUIDE, 1)[0][1].chunk.id]),
    "delete_documents": lambda s: s.delete_documents("c", [GUIDE.id]),
    "count": lambda s: s.count("c"),
    "search": lambda s: s.search("c", made_vector(1), 3, {}),
    "scan": lambda s: list(s.scan("c")),
    "scan_points": lambda s: list(s.scan_points("c")),
    "set_alias": lambda s: s.set_alias("a", "c"),
    "aliases": lambda s: s.aliases(),
    "collections": lambda s: s.collections(),
    "drop": lambda s: s.drop("c"),
}
FAULTS = {
    "500": Fault("status", count=2, status=500),
    "503": Fault("status", count=2, status=503),
    "429": Fault("status", count=2, status=429),
    "dropped": Fault("drop", count=2),
    "lost-ack": Fault("lost_ack", count=1),
}


def copied(fault: Fault) -> Fault:
    return Fault(**{name: getattr(fault, name) for name in Fault.__dataclass_fields__})


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_every_call_outlives_a_short_fault(rest: QdrantRest, store: ServerStore, fault: Fault) -> None:
    for name, call in CALLS.items():
        rest.clear()
        rest.inject(replace(fault))
        call(store)
        assert rest.faults[0].count == 0, name


def test_every_call_gives_up_in_time(rest: QdrantRest) -> None:
    store = ServerStore(rest.url, retry_s=0.1)
    store.create("c", DIMENSION)
    rest.inject(Fault("status", count=-1, status=503))
    for name, call in CALLS.items():
        rest.seen.clear()
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="503"):
            call(store)
        assert time.monotonic() - started < 20, name
        assert len(rest.seen) > 1, name
    store.close()


def test_writes_after_faults_are_exact(rest: QdrantRest, store: ServerStore) -> None:
    points = made_points(GUIDE, 45)
    rest.inject(Fault("lost_ack", method="PUT", path="/points"), Fault("status", count=2), Fault("acknowledged", count=2))
    store.upsert("c", points)
    assert {point.id for point in store.scan("c")} == {e.chunk.id for _, e in points}
    rest.clear()
    rest.inject(Fault("lost_ack", path="/delete"), Fault("acknowledged", path="/delete"))
    store.delete_points("c", [e.chunk.id for _, e in points[:20]])
    assert store.count("c") == 25


def test_acknowledged_is_no_success(rest: QdrantRest) -> None:
    store = ServerStore(rest.url, retry_s=0.4)
    store.create("c", DIMENSION)
    rest.clear()
    rest.inject(Fault("acknowledged", count=-1, path="/points"))
    for call in (CALLS["upsert"], CALLS["delete_documents"], CALLS["update_document"]):
        with pytest.raises(StoreUnavailable, match="acknowledged"):
            call(store)
    assert len([path for _, path in rest.seen if path.endswith("/points")]) > 1
    store.close()


def test_retry_after_is_obeyed(rest: QdrantRest, store: ServerStore) -> None:
    rest.inject(Fault("status", status=429, retry_after_s=1))
    started = time.monotonic()
    assert store.count("c") == 5
    assert 1 <= time.monotonic() - started < 20
    rest.inject(Fault("status", count=-1, status=429, retry_after_s=30))
    with pytest.raises(StoreUnavailable, match="pause"):
        store.count("c")


def test_a_slow_answer_runs_into_the_timeout_and_is_asked_again(rest: QdrantRest, store: ServerStore) -> None:
    rest.inject(Fault("delay", delay_s=1.4))
    assert store.count("c") == 5
    assert len(rest.seen) == 2


def test_the_server_restarts_in_the_middle(tmp_path: Path) -> None:
    with QdrantRest(tmp_path / "rest") as first:
        port = first.server_address[1]
        store = ServerStore(first.url, retry_s=10)
        store.create("c", DIMENSION)
        store.upsert("c", made_points(GUIDE, 5))
    again: list[QdrantRest] = []

    def restart() -> None:
        time.sleep(0.5)
        again.append(QdrantRest(tmp_path / "rest", port=port).__enter__())

    starter = threading.Thread(target=restart)
    starter.start()
    store.upsert("c", made_points(GUIDE, 9))
    starter.join()
    assert store.count("c") == 9
    store.close()
    again[0].__exit__()


def test_nothing_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        store = ServerStore(f"http://127.0.0.1:{unused.getsockname()[1]}", retry_s=0.3)
        with pytest.raises(StoreUnavailable, match="is it running") as caught:
            store.count("c")
        assert "\n" not in str(caught.value)
        store.close()


@pytest.mark.parametrize("content", [b'{"hello": "world"}', b"<html></html>", b""])
def test_something_else_listens(content: bytes) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = ServerStore(f"http://127.0.0.1:{server.server_address[1]}", retry_s=3)
        with pytest.raises(ConfigError, match="not Qdrant"):
            store.collections()
        store.close()
        server.shutdown()


def test_a_wrong_key_is_said_at_once_and_never_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with QdrantRest(tmp_path / "rest", api_key="the-right-one") as rest:
        wrong = ServerStore(rest.url, "canary-4711", retry_s=30)
        started = time.monotonic()
        with pytest.raises(ConfigError, match="KB_API_KEY") as caught:
            wrong.collections()
        assert time.monotonic() - started < 15
        assert "canary" not in str(caught.value) + repr(wrong)
        wrong.close()
        right = ServerStore(rest.url, "the-right-one")
        assert right.collections() == []
        right.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "url", ["http://10.0.0.7:6333", "http://qdrant:6333", "http://host.docker.internal:6333", "https://x.cloud", "http://[fd00::1]"]
)
def test_off_this_host_a_key_is_needed(url: str) -> None:
    with pytest.raises(ConfigError, match="KB_API_KEY"):
        ServerStore(url)
    ServerStore(url, "key").close()
    ServerStore(url, allow_insecure=True).close()


@pytest.mark.parametrize("url", ["http://localhost", "http://127.0.0.2:1", "http://[::1]:6333", "https://kb.localhost"])
def test_loopback_needs_no_key(url: str) -> None:
    ServerStore(url).close()


@pytest.mark.parametrize("url", ["", "localhost:6333", "ftp://localhost", "http://", "http://u:secret@localhost", "http://[::1"])
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServerStore(url, allow_insecure=True)
    assert "secret" not in str(caught.value)


def test_a_proxy_of_the_environment_does_not_get_loopback(
    rest: QdrantRest, monkeypatch: pytest.MonkeyPatch, store: ServerStore
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    direct = ServerStore(rest.url, retry_s=0.2)
    assert direct.count("c") == 5
    direct.close()


def test_batches_keep_to_count_and_bytes(rest: QdrantRest) -> None:
    store = ServerStore(rest.url, batch_points=20, batch_bytes=64 << 10)
    store.create("c", DIMENSION)

    def upserts(count: int, text: str) -> int:
        rest.clear()
        store.upsert("c", made_points(GUIDE, count, text=text))
        return sum(method == "PUT" for method, _ in rest.seen)

    assert upserts(60, "few words") == 3
    assert upserts(20, "x" * 10_000) == 7
    assert upserts(3, "x" * 100_000) == 3
    rest.clear()
    store.delete_points("c", [e.chunk.id for _, e in made_points(GUIDE, 50)])
    assert len(rest.seen) == 3
    store.close()


def test_a_collection_that_others_change(rest: QdrantRest, store: ServerStore) -> None:
    other = ServerStore(rest.url)
    other.drop("c")
    with pytest.raises(CollectionMissing, match="'c'"):
        store.upsert("c", made_points(GUIDE, 1))
    other.create("c", DIMENSION * 2)
    store.upsert("c", made_points(GUIDE, 1, dimension=DIMENSION * 2))
    other.drop("c")
    other.create("c", DIMENSION)
    with pytest.raises(CollectionMismatch, match="another model"):
        store.upsert("c", made_points(GUIDE, 1, dimension=DIMENSION * 2))
    store.upsert("c", made_points(GUIDE, 1))
    other.close()


def test_a_collection_that_is_not_ours(rest: QdrantRest, store: ServerStore) -> None:
    from qdrant_client import QdrantClient, models

    client = QdrantClient(url=rest.url, check_compatibility=False)
    client.create_collection("theirs", {"image": models.VectorParams(size=4, distance=models.Distance.DOT)})
    with pytest.raises(CollectionMismatch, match="not made by kb-ingest"):
        store.create("theirs", 4)
    client.close()


def test_a_create_that_broke_off_is_completed(rest: QdrantRest, store: ServerStore) -> None:
    rest.inject(Fault("status", count=-1, path="/index"))
    short = ServerStore(rest.url, retry_s=0.2)
    with pytest.raises(StoreUnavailable):
        short.create("d", DIMENSION)
    short.close()
    rest.clear()
    store.create("d", DIMENSION)
    assert sum(path.endswith("/index") for _, path in rest.seen) == 4
    rest.clear()
    store.create("d", DIMENSION)
    assert not any(method == "PUT" for method, _ in rest.seen)


@pytest.mark.parametrize(("status", "error"), [(400, ConfigError), (403, ConfigError), (413, ConfigError), (501, StoreUnavailable)])
def test_other_refusals(rest: QdrantRest, status: int, error: type[Exception]) -> None:
    store = ServerStore(rest.url, retry_s=0.1)
    rest.inject(Fault("status", count=-1, status=status))
    with pytest.raises(error, match=str(status) if status != 413 else "KB_UPSERT_BATCH_BYTES"):
        store.count("c")
    store.close()


# The stand-in itself.


def test_stand_in_says_what_it_does_not_speak(rest: QdrantRest) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{rest.url}/telemetry")
    with caught.value as answer:
        assert answer.status == 501


def test_stand_in_forgets_on_request(rest: QdrantRest, store: ServerStore) -> None:
    rest.inject(Fault("forget", path="/points$"))
    store.upsert("c", made_points(GUIDE, 9))
    assert store.count("c") == 5


def test_stand_in_as_a_program_outlives_kill_and_takes_faults_by_http(tmp_path: Path) -> None:
    def start(port: int) -> subprocess.Popen[str]:
        command = [sys.executable, str(SCRIPT), "--port", str(port), "--data", str(tmp_path / "data")]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)

    with start(0) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            store = ServerStore(url, retry_s=15)
            store.create("c", DIMENSION)
            store.upsert("c", made_points(GUIDE, 300))
            store.set_alias("a", "c")
            faults = b'[{"kind": "status", "status": 503, "count": 2, "path": "count"}]'
            urllib.request.urlopen(f"{url}/_faults", data=faults).close()
            assert store.count("c") == 300
        finally:
            process.kill()
    with start(int(url.rpartition(":")[2])) as process:
        try:
            assert store.count("a") == 300
            store.close()
        finally:
            process.kill()
