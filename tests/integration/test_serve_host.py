"""`kb-ingest serve` on one host without tokens: who may ask it, commands that ask it, uploads, and jobs that are cut off."""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipeline.ledger import Ledger
from tests.embed_server import Endpoint
from tests.services import Cli, wait_until
from tests.serving import Service, one_document, problem, token
from workers.process.locks import WorkersLock

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: What a service may need of memory beyond what it had before a large upload.
SPARE_BYTES = 64 << 20


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with one_document(tmp_path_factory.mktemp("host")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def service(cli: Cli) -> Iterator[Service]:
    with Service(cli) as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with service.client() as opened:
        yield opened


@pytest.fixture
def ledger(cli: Cli) -> Iterator[Ledger]:
    with Ledger.open(f"sqlite:///{cli.data_dir / 'kb.db'}") as opened:
        yield opened


def test_a_service_without_tokens_answers_this_host_and_no_page_of_another(client: httpx.Client, service: Service) -> None:
    asked = {"query": "nectar"}
    assert client.post("/v1/search", json=asked).json()["hits"]
    own = {"origin": service.url, "sec-fetch-site": "same-origin"}
    assert client.post("/v1/search", json=asked, headers=own).status_code == 200
    for headers, code in (
        ({"host": "rebound.example"}, "foreign_host"),
        ({"origin": "http://evil.example"}, "foreign_origin"),
        ({"origin": "null"}, "foreign_origin"),
        ({"sec-fetch-site": "cross-site"}, "foreign_origin"),
        ({"sec-fetch-site": "same-site"}, "foreign_origin"),
    ):
        problem(client.post("/v1/search", json=asked, headers=headers), 403, code)


def test_the_first_token_closes_the_service(client: httpx.Client, service: Service) -> None:
    secret = token(service.cli, "first")
    try:
        problem(client.get("/v1/collections"), 401, "unauthorized")
        with service.client(secret) as bearer:
            assert bearer.get("/v1/collections", headers={"host": "any.example"}).status_code == 200
    finally:
        service.cli.run("token", "revoke", "first")
    assert client.get("/v1/collections").status_code == 200


def test_another_address_than_loopback_needs_a_token(cli: Cli) -> None:
    for host in ("0.0.0.0", "::"):
        refused = cli.run("serve", "--host", host, "--port", "1", status=1)
        assert "kb-ingest token add" in refused.stderr
        assert "not loopback" in refused.stderr


def test_a_port_that_is_taken(service: Service) -> None:
    assert "KB_PORT" in service.cli.run("serve", "--port", str(service.port), status=1).stderr
    assert json.loads((service.cli.data_dir / "serve.json").read_text())["url"] == service.url, "still the other one's"


def asked_so_far(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    wanted = 'kb_ingest_http_requests_total{route="/v1/search",status="200"}'
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(wanted))


def test_the_command_asks_the_service_of_its_data_folder(client: httpx.Client, service: Service) -> None:
    cli, announced = service.cli, service.cli.data_dir / "serve.json"
    before = asked_so_far(client)
    asked = cli.answer("search", "nectar")
    assert asked_so_far(client) == before + 1
    hidden = announced.rename(cli.data_dir / "hidden.json")
    try:
        alone = cli.answer("search", "nectar")
    finally:
        hidden.rename(announced)
    assert asked_so_far(client) == before + 1
    assert [one | {"score": pytest.approx(one["score"])} for one in alone] == asked
    assert "there is no collection 'letters'" in cli.run("search", "x", "-c", "letters", status=1).stderr


def test_the_command_asks_another_service_with_a_token(service: Service, tmp_path: Path) -> None:
    secret = token(service.cli, "remote")
    try:
        away = Cli(tmp_path / "data", KB_TOKEN=secret)
        assert [hit["uri"].rpartition("/")[2] for hit in away.answer("search", "nectar", "--url", service.url)] == ["bees.txt"]
        wrong = Cli(tmp_path / "data", KB_TOKEN="kbi_wrong")
        assert "revoked" in wrong.run("search", "nectar", "--url", service.url, status=1).stderr
    finally:
        service.cli.run("token", "revoke", "remote")
    assert "does not answer" in away.run("search", "nectar", "--url", "http://127.0.0.1:1", status=1).stderr


def test_a_large_upload_is_never_whole_in_memory(client: httpx.Client, service: Service) -> None:
    def most_bytes() -> int:
        (line,) = (one for one in Path(f"/proc/{service.pid}/status").read_text().splitlines() if one.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    before = most_bytes()
    size = 4 * SPARE_BYTES - (1 << 20)
    job = client.post("/v1/documents", files={"file": ("large.bin", b"\x01" * size)}, data={"collection": "large"}).json()
    assert most_bytes() - before < SPARE_BYTES
    ended = client.get(f"/v1/jobs/{job['id']}", params={"wait": 60}).json()
    assert ended["documents"] == 1
    assert ended["status"] in ("done", "partly")


def test_a_cancelled_job_leaves_nothing_behind(client: httpx.Client, service: Service, ledger: Ledger) -> None:
    wait_until(lambda: not [one for one in client.get("/v1/jobs").json() if one["status"] == "running"], "no job runs", 60)
    lock = WorkersLock(service.cli.data_dir / "workers.lock")
    wait_until(lambda: lock.acquire(), "no worker runs", 60)  # from now on nobody works
    try:
        sent = client.post("/v1/documents", files={"file": ("cut.txt", b"Never to be found.")}, data={"collection": "cut"}).json()
        assert (sent["status"], sent["states"]) == ("running", {"pending": 1})
        with client.stream("GET", f"/v1/jobs/{sent['id']}/events") as stream:
            lines = stream.iter_lines()
            assert json.loads(next(line for line in lines if line.startswith("data: "))[6:])["status"] == "running"
            cancelled = client.post(f"/v1/jobs/{sent['id']}/cancel").json()
            assert (cancelled["status"], cancelled["documents"]) == ("cancelled", 0)
            assert json.loads(next(line for line in lines if line.startswith("data: "))[6:])["status"] == "cancelled"
            assert not [line for line in lines if line]
        assert client.get("/v1/documents", params={"collection": "cut"}).json()["documents"] == []
        assert client.post(f"/v1/jobs/{sent['id']}/cancel").json() == client.get(f"/v1/jobs/{sent['id']}").json()
    finally:
        lock.release()
    assert ledger.runs.unfinished() == []


def test_the_data_folder_is_closed_to_others(service: Service) -> None:
    made_by_tests = {"calibration.json"}
    folder = service.cli.data_dir
    found = [path for path in folder.rglob("*") if path.name not in made_by_tests and not path.is_symlink()]
    assert {"kb.db", "staging", "qdrant"} <= {path.name for path in found}
    assert not [path for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077]


def test_a_killed_service_leaves_searches_to_the_command_and_its_loads_to_the_next(cli: Cli, ledger: Ledger) -> None:
    with Service(cli) as killed:
        killed.stop(signal.SIGKILL)
    assert (cli.data_dir / "serve.json").exists()
    assert cli.answer("search", "nectar")
    run = ledger.runs.start("documents", token="anonymous")  # of a folder that it was listing
    with Service(cli) as following, following.client() as client:
        ended = client.get(f"/v1/jobs/{run}", params={"wait": 60}).json()
    assert (ended["status"], "load this again" in ended["detail"]) == ("failed", True)
    assert not (cli.data_dir / "serve.json").exists()
    assert os.listdir(cli.data_dir / "staging" / "tmp") == []


def test_a_service_that_starts_while_a_load_runs(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "tide.txt").write_text("The tide comes twice a day.\n")
    away = Endpoint(ollama=False)
    away.failures = [503] * 1_000_000
    threading.Thread(target=away.serve_forever, daemon=True).start()
    loading = Cli(cli.data_dir, **{**cli.environment, "KB_EMBED_URL": away.url}).start("load", str(tmp_path))
    try:
        wait_until(lambda: bool(away.keys), "the load's worker asks its model", 120)
        with Service(cli) as running, running.client() as client:
            assert client.post("/v1/search", json={"query": "nectar"}).json()["hits"]
            assert loading.poll() is None
            away.failures = []
            _, errors = loading.communicate(timeout=240)
            assert loading.returncode == 0, errors
            hits = client.post("/v1/search", json={"query": "tide", "mode": "sparse"}).json()["hits"]
            assert [hit["uri"].rpartition("/")[2] for hit in hits] == ["tide.txt"]
    finally:
        loading.kill()
        loading.wait()
        away.shutdown()
        away.server_close()
