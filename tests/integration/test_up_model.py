"""The model of an embed worker that `up` keeps, in a process beside it; with each of the two killed, and with orderly ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.services import Cli, Server, wait_until
from workers.health import stale

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere an embed worker has the model in its own process"),
]

MODEL, WORKER = "workers.process.modelserver", "workers.process.worker"

DOCUMENTS = 8

#: Of each document, which makes some twenty chunks of them: a second or two of the model's time.
PARAGRAPHS = 60

#: Starts `kb-ingest up`.
Up = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def cli(tmp_path: Path, redis: Server, qdrant: Server) -> Cli:
    """Redis, a server as the store, the default model on the CPU; a lease outlasts the test."""
    return Cli(
        tmp_path / "data", KB_REDIS_URL=f"redis://127.0.0.1:{redis.port}/0", KB_QDRANT_URL=f"http://127.0.0.1:{qdrant.port}",
        KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu", KB_BATCH_DOCUMENTS="1", KB_REQUEUE_S="2", KB_LEASE_S="600", KB_PARSE_WORKERS="1",
        KB_HEALTH_DIR=str(tmp_path / "health"), KB_EMBED_URL="",
    )  # fmt: skip


@pytest.fixture
def up(cli: Cli, tmp_path: Path) -> Iterator[Up]:
    """Starts services, in a process group of their own; what is left of them is killed at the end of the test."""
    started: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "up.log"

    def begin() -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            command = [*cli.PROGRAM, "up"]
            started.append(
                subprocess.Popen(
                    command, env=cli.environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
                )
            )
        return started[-1]

    yield begin
    for service in started:
        service.kill()
        service.wait()
    print(log.read_text())


@pytest.fixture
def staged(cli: Cli, tmp_path: Path) -> None:
    """Documents that wait to be parsed and embedded."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(DOCUMENTS):
        lines = (
            f"Paragraph {n} of document {number} tells what subject {n * number} has to do with bees. " * 5
            for n in range(PARAGRAPHS)
        )
        (folder / f"{number}.txt").write_text("\n\n".join(lines))
    cli.run("load", str(folder), "--no-wait")


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def family(service: subprocess.Popen[bytes], word: str = "") -> list[psutil.Process]:
    """The living processes below a service that have a word in their command line."""
    found = []
    for process in psutil.Process(service.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if (not word or word in process.cmdline()) and alive(process):
                found.append(process)
    return found


def has_torch(process: psutil.Process) -> bool:
    return "libtorch_cpu" in Path(f"/proc/{process.pid}/maps").read_text()


def pair(service: subprocess.Popen[bytes]) -> tuple[psutil.Process, psutil.Process]:
    """The process that embeds, and the one with its model."""
    (model,) = family(service, MODEL)
    worker = model.parent()
    assert worker is not None
    assert {WORKER, "embed"} <= set(worker.cmdline())
    return worker, model


def asked(cli: Cli, question: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(cli.data_dir / "kb.db")) as connection:
        return connection.execute(question).fetchall()


def wait_for_work(cli: Cli) -> None:
    """Return when a document is indexed and another one is being embedded."""
    states = "SELECT count(DISTINCT state) FROM documents WHERE state IN ('indexed', 'embedding')"
    wait_until(lambda: asked(cli, states) == [(2,)], "documents are being embedded", every_s=0.05)


def lost(cli: Cli) -> int:
    """How often documents were given back because their worker had died."""
    ((count,),) = asked(cli, "SELECT count(*) FROM events WHERE reason = 'worker_lost'")
    assert isinstance(count, int)
    return count


def wait_for_end(cli: Cli) -> None:
    """Return when everything is indexed and the store is whole."""
    wait_until(lambda: asked(cli, "SELECT DISTINCT state FROM documents") == [("indexed",)], "everything is indexed")
    assert cli.whole() > DOCUMENTS


@pytest.mark.usefixtures("staged")
def test_a_killed_model_takes_its_worker_along_and_both_come_back(cli: Cli, up: Up, tmp_path: Path) -> None:
    service = up()
    wait_for_work(cli)
    worker, model = pair(service)
    assert [process.pid for process in family(service) if has_torch(process)] == [model.pid]
    assert os.getpgid(model.pid) == os.getpgid(worker.pid)

    model.kill()
    wait_until(lambda: not alive(worker), "the worker has ended", 20, 0.05)
    wait_until(lambda: len(family(service, MODEL)) == 1, "another model", 60, 0.05)
    assert pair(service)[0].pid != worker.pid
    wait_for_end(cli)
    assert lost(cli) >= 1, "a model that dies may have died of its documents"
    assert "the model's process has died" in (tmp_path / "up.log").read_text()
    assert stale(tmp_path / "health") == []
    ((memory,),) = asked(cli, "SELECT memory_bytes FROM workers WHERE role = 'embed'")
    assert memory == pytest.approx(pair(service)[1].memory_info().rss, rel=0.5), "the metric is of the process with the model"


@pytest.mark.usefixtures("staged")
def test_a_killed_worker_takes_its_model_along_and_both_come_back(cli: Cli, up: Up) -> None:
    service = up()
    wait_for_work(cli)
    worker, model = pair(service)
    worker.kill()
    wait_until(lambda: not alive(model), "the model has ended", 20, 0.05)
    wait_for_end(cli)
    assert lost(cli) >= 1
    assert pair(service)[1].pid != model.pid


@pytest.mark.usefixtures("staged")
def test_sigterm_for_every_process_of_a_service_gives_all_documents_back(cli: Cli, up: Up, tmp_path: Path) -> None:
    """As service managers do it that know the processes by their group."""
    service = up()
    wait_for_work(cli)
    _, model = pair(service)
    everything = family(service)
    model.terminate()
    for process in (process for process in everything if "embed" in process.cmdline() and process.pid != model.pid):
        process.terminate()
    service.terminate()
    assert service.wait(60) == 128 + signal.SIGTERM
    wait_until(lambda: not any(map(alive, everything)), "every process has ended", 20)
    assert asked(cli, "SELECT count(*) FROM leases") == [(0,)]
    assert lost(cli) == 0
    assert "died" not in (tmp_path / "up.log").read_text()


@pytest.mark.usefixtures("staged")
@pytest.mark.parametrize("paused", ["", MODEL, "embed"])
def test_nothing_is_left_of_a_killed_service(cli: Cli, up: Up, paused: str) -> None:
    service = up()
    wait_for_work(cli)
    everything = family(service)
    for process in family(service, paused) if paused else ():
        process.send_signal(signal.SIGSTOP)
    service.kill()
    service.wait()
    wait_until(lambda: not any(map(alive, everything)), "every process has ended", 20)
    up()
    wait_for_end(cli)
