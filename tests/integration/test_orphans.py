"""kill -9 of a supervisor: its worker processes end by themselves, hand their documents back, and make room for the next."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import update

from pipeline.ledger import Ledger
from pipeline.ledger.schema import schedules, writing
from tests.embed_server import MODEL
from tests.services import Cli, Server, embed_server, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: Seconds after the supervisor's death until none of its processes is left.
GONE_S = 10.0

DOCUMENTS = 10

#: Of each document.
SENTENCES = 150

LOG = "log.txt"

#: Starts a command.
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Embedded mode with a model server that leaves time to interrupt; a lease outlasts the test."""
    server = embed_server(tmp_path / "embed", delay_s=0.5)
    server.start()
    yield Cli(
        tmp_path / "data", KB_EMBED_URL=f"http://127.0.0.1:{server.port}", KB_EMBED_MODEL=MODEL, KB_BATCH_DOCUMENTS="1",
        KB_REQUEUE_S="2", KB_LEASE_S="600", KB_PARSE_WORKERS="1",
    )  # fmt: skip
    server.stop()


@pytest.fixture
def served(cli: Cli, redis: Server, qdrant: Server) -> Cli:
    """The same with Redis and a server as the store."""
    cli.environment["KB_REDIS_URL"] = f"redis://127.0.0.1:{redis.port}/0"
    cli.environment["KB_QDRANT_URL"] = f"http://127.0.0.1:{qdrant.port}"
    return cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "many"
    made.mkdir()
    for number in range(DOCUMENTS):
        # Long enough for several windows of chunks, one after the other.
        sentences = (f"Sentence {n} of document {number} is about subject {n}.\n" for n in range(SENTENCES))
        (made / f"{number}.txt").write_text("".join(sentences))
    return made


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts commands, whose output goes to a file; they are killed at the end of the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(cli: Cli, *arguments: str) -> subprocess.Popen[bytes]:
        with (tmp_path / LOG).open("a") as log:
            started.append(
                subprocess.Popen([*cli.PROGRAM, *arguments], env=cli.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )
        return started[-1]

    yield begin
    for command in started:
        command.kill()
        command.wait()
    print((tmp_path / LOG).read_text())


@contextlib.contextmanager
def ledger_of(cli: Cli) -> Iterator[Ledger]:
    ledger = Ledger.open(f"sqlite:///{cli.data_dir / 'kb.db'}")
    yield ledger
    ledger.close()


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_for_work(cli: Cli) -> None:
    """Return when a document is indexed and others are being embedded."""
    ledger = cli.data_dir / "kb.db"
    asked = "SELECT count(DISTINCT state) FROM documents WHERE state IN ('indexed', 'embedding')"

    def under_way() -> bool:
        if not ledger.exists():
            return False
        with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(ledger)) as connection:
            return bool(connection.execute(asked).fetchone()[0] == 2)
        return False

    wait_until(under_way, "documents are being embedded", every_s=0.05)


def kill(command: subprocess.Popen[bytes], *, paused: str = "", names: tuple[str, ...] = ()) -> list[psutil.Process]:
    """Kill a command, after stopping those of its processes that have the word `paused` in their command line.

    Returns all of its processes; the words `names` are among their command lines.
    """
    family = list(filter(alive, psutil.Process(command.pid).children(recursive=True)))
    words = {process: process.cmdline() for process in family}
    assert set(names) <= {word for line in words.values() for word in line}
    for process in family:
        if paused and paused in words[process]:
            process.suspend()
    command.kill()
    command.wait()
    return family


def wait_for_end(family: list[psutil.Process], timeout_s: float = GONE_S) -> None:
    try:
        wait_until(lambda: not any(map(alive, family)), "all processes have ended", timeout_s)
    finally:
        for process in filter(alive, family):
            print(process, process.cmdline())
            process.kill()


def nothing_charged(cli: Cli) -> None:
    """See that everything is indexed, whole, and that no document was charged for the supervisor's end."""
    with ledger_of(cli) as ledger:
        assert ledger.report.progress().states == {"indexed": DOCUMENTS}
        assert ledger.flow.leases() == []
        with ledger.engine.connect() as connection:
            lost = connection.exec_driver_sql("SELECT count(*) FROM events WHERE reason = 'worker_lost'").scalar_one()
    assert lost == 0
    assert cli.whole() > DOCUMENTS


def test_workers_end_with_their_supervisor_and_make_room_for_the_next(served: Cli, folder: Path, start: Start) -> None:
    served.run("load", str(folder), "--no-wait")
    first = start(served, "worker")
    wait_for_work(served)
    family = kill(first)
    second = start(served, "worker", "--until-empty")
    names: set[str] = set()
    while any(map(alive, family)):
        stages = [process.cmdline() for process in psutil.Process(second.pid).children()]
        assert not any("workers.process.worker" in command for command in stages), "two on one device"
        time.sleep(0.05)
    while second.poll() is None:
        with ledger_of(served) as ledger:
            names |= {worker.name.partition("@")[0] for worker in ledger.registry.workers()}
        time.sleep(0.2)
    assert second.returncode == 0
    assert names == {"parse", "embed-http"}  # without a process id: the names are free again
    nothing_charged(served)


@pytest.mark.parametrize("paused", ["", "embed"])
def test_workers_end_where_redis_is_gone_or_they_are_stopped(
    served: Cli, redis: Server, folder: Path, start: Start, paused: str
) -> None:
    served.run("load", str(folder), "--no-wait")
    first = start(served, "worker")
    wait_for_work(served)
    if not paused:
        redis.stop(signal.SIGKILL)
        log = served.data_dir.parent / LOG
        wait_until(lambda: log.read_text().count("Trying again") > 2, "both workers wait for Redis")
    wait_for_end(kill(first, paused=paused))


def test_a_killed_load_leaves_nothing_and_the_next_one_goes_on(cli: Cli, folder: Path, start: Start) -> None:
    first = start(cli, "load", str(folder))
    wait_for_work(cli)
    family = kill(first)
    result = cli.answer("load", str(folder))
    assert not any(map(alive, family)), "the next load has had workers of its own meanwhile"
    assert result["indexed"] + result["unchanged"] == DOCUMENTS
    nothing_charged(cli)


def test_everything_that_up_has_started_ends_with_it(served: Cli, folder: Path, start: Start) -> None:
    served.run("source", "add", "papers", str(folder))
    served.run("schedule", "add", "nightly", "--cron", "0 0 1 1 *", "--source", "papers", "--action", "sync")
    with ledger_of(served) as ledger, writing(ledger.engine) as connection:
        connection.execute(update(schedules).values(last_slot=0))
    service = start(served, "up")
    wait_for_work(served)
    started = ("beat", "tick", "parse", "embed", "workers.schedules.run", "pipeline.sandbox.server")
    family = kill(service, paused="tick", names=started)
    wait_for_end(family)
    with ledger_of(served) as ledger:
        assert ledger.flow.leases() == []
    service = start(served, "up")
    with ledger_of(served) as ledger:
        wait_until(
            lambda: [past.outcome for past in ledger.runs.history(9, schedule="nightly")] == ["done", "interrupted"],
            "the run is caught up",
        )
    service.terminate()
    service.wait(60)
    nothing_charged(served)
