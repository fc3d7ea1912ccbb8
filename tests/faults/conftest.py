"""A deployment to break: Redis, the Qdrant stand-in, an embedding endpoint, a data folder, all of this test's own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest

from pipeline.ledger import Ledger
from tests.embed_server import MODEL
from tests.services import Cli, Server, embed_server, qdrant_stand_in, redis_server, wait_until

#: Of the random choices; printed by each test, and given again with KB_FAULT_SEED.
SEED = int(os.environ.get("KB_FAULT_SEED") or random.SystemRandom().randrange(1 << 32))

#: Whether all faults are injected, as in `make faults`; `make test` takes those that differ most, in a few minutes.
ALL = bool(os.environ.get("KB_FAULT_RUNS"))

#: How often each fault is injected.
RUNS = int(os.environ.get("KB_FAULT_RUNS") or 1)

#: Seconds until a lease without progress is taken back.
LEASE_S = 6

#: Of each answer of the embedding endpoint: there must be work to interrupt, in more than two or three windows of chunks.
EMBED_DELAY_S = 1.5

#: Where each test adds a line of figures, as JSON lines; empty: nowhere.
REPORT = os.environ.get("KB_FAULT_REPORT", "")

#: Notes in the ledger itself whenever a document is claimed whose earlier start was not given back.
CHARGED = """
CREATE TABLE charged (id TEXT, starts INTEGER);
CREATE TRIGGER on_charge AFTER UPDATE OF starts ON documents WHEN new.starts > old.starts AND old.starts > 0
BEGIN INSERT INTO charged VALUES (new.id, new.starts); END;
"""

WORDS = ("river", "stone", "engine", "garden", "letter", "number", "window", "paper", "signal", "answer", "table", "storm")


@dataclass
class Deployment:
    """Services, documents and the invariant."""

    cli: Cli
    redis: Server
    qdrant: Server
    embed: Server
    documents: Path
    chance: random.Random
    workers: list[subprocess.Popen[str]] = field(default_factory=list)
    worst_s: float = 0.0

    def write(self, count: int, *, prefix: str = "d", paragraphs: int = 12) -> None:
        """Make text documents."""
        self.documents.mkdir(exist_ok=True)
        for number in range(count):
            parts = [" ".join(self.chance.choices(WORDS, k=80)) + "." for _ in range(paragraphs)]
            (self.documents / f"{prefix}{number}.txt").write_text(f"Document {prefix} {number}.\n\n" + "\n\n".join(parts))

    def up(self, *arguments: str) -> subprocess.Popen[str]:
        """Start workers and a dispatcher."""
        with (self.cli.data_dir.parent / "up.log").open("a") as log:
            process = subprocess.Popen(
                [*Cli.PROGRAM, "up", *arguments], env=self.cli.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                text=True, start_new_session=True,
            )  # fmt: skip
        self.workers.append(process)
        return process

    def inject(self, **variables: str) -> None:
        """Have `inject/sitecustomize.py` take part in the processes that are started from now on."""
        folder = str(Path(__file__).parent / "inject")
        self.cli.environment.update(PYTHONPATH=folder + os.pathsep + os.environ["PYTHONPATH"], **variables)

    def down(self) -> None:
        """Stop all workers, in order where they still can."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            try:
                worker.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
        self.workers.clear()

    def load(self, count: int, *, prefix: str = "d", paragraphs: int = 12) -> None:
        """Make text documents, stage and queue them."""
        self.write(count, prefix=prefix, paragraphs=paragraphs)
        self.cli.run("load", str(self.documents), "--no-wait")

    def processes(self, kind: str) -> list[psutil.Process]:
        """Processes of our workers: `master` (consumers), `pool` (their children), `parser` (server and child)."""
        found = []
        for worker in self.workers:
            try:
                tree = psutil.Process(worker.pid).children(recursive=True)
            except psutil.NoSuchProcess:
                continue
            for process in tree:
                try:
                    command = " ".join(process.cmdline())
                    above = process.parent()
                    parent = " ".join(above.cmdline()) if above else ""
                except psutil.NoSuchProcess:
                    continue
                if "pipeline.sandbox.server" in command:
                    kind_of = "parser"
                elif "workers.process.worker" in command:
                    kind_of = "pool" if "workers.process.worker" in parent else "master"
                else:
                    continue
                if kind_of == kind:
                    found.append(process)
        return found

    @property
    def ledger(self) -> Ledger:
        return Ledger.open(f"sqlite:///{self.cli.data_dir / 'kb.db'}")

    def json(self, *arguments: str, status: int | None = 0) -> Any:
        return json.loads(self.cli.run(*arguments, "--json", status=status).stdout)

    def states(self) -> dict[str, int]:
        return self.ledger.report.progress().states

    def working(self) -> None:
        """Wait until workers are in the middle of it: something is done, and something is not."""
        wait_until(lambda: bool(self.states().get("indexed") and self.ledger.flow.leases()), "work under way", 60, 0.05)
        assert self.ledger.report.progress().open

    def settle(self, timeout_s: float = 90.0) -> dict[str, int]:
        """Wait until nothing is open; return the documents by state."""
        began = time.monotonic()
        wait_until(lambda: not self.ledger.report.progress().open, f"nothing open, now {self.states()}", timeout_s, 0.3)
        self.worst_s = max(self.worst_s, time.monotonic() - began)
        return self.states()

    def ended(self) -> int:
        """Documents that are indexed or quarantined."""
        states = self.states()
        return states.get("indexed", 0) + states.get("quarantined", 0)

    def recover(self, began: float, ended: int) -> None:
        """Wait until another document ends than the `ended` ones; note how long that took since `began`, monotonic."""
        wait_until(lambda: self.ended() > ended, "work goes on", LEASE_S + 60, 0.1)
        self.worst_s = max(self.worst_s, time.monotonic() - began)

    def charged(self) -> int:
        """Documents that were started while an earlier start stood charged: a worker died with them, or so it seemed."""
        with closing(sqlite3.connect(self.cli.data_dir / "kb.db")) as connection:
            return int(connection.execute("SELECT count(DISTINCT id) FROM charged").fetchone()[0])

    def check(self, fault: str, count: int = 0, *, quarantined: int = 0, runs: int = 1) -> None:
        """The invariant: every document ended, and the store holds exactly the points of the indexed ones."""
        states = self.states()
        count = count or sum(path.is_file() for path in self.documents.rglob("*"))
        lost = count - sum(states.get(state, 0) for state in ("indexed", "quarantined"))
        found = self.json("verify", status=None)
        charged = self.charged()
        line = {
            "fault": fault, "runs": runs, "documents": count, "lost": lost, "missing": found["missing"], "extra": found["orphans"],
            "worst_recovery_s": round(self.worst_s, 1), "charged": charged, "seed": SEED,
        }  # fmt: skip
        self.worst_s = 0.0  # the next fault of a lasting deployment has its own
        print(line)
        if REPORT:
            with Path(REPORT).open("a") as report:
                report.write(json.dumps(line) + "\n")
        assert (lost, found["missing"], found["orphans"], found["zero_vectors"]) == (0, 0, 0, 0), line
        assert states.get("quarantined", 0) == quarantined, states
        assert found["documents"] == states["indexed"]
        assert found["actual_points"] == found["expected_points"] > 0

    def misbehave(self, *faults: dict[str, Any]) -> None:
        """Tell the store's stand-in how to misbehave; nothing: behave again."""
        body = json.dumps(faults).encode()
        url = f"http://127.0.0.1:{self.qdrant.port}/_faults"
        for method, data in (("DELETE", None), ("POST", body)):
            with urllib.request.urlopen(urllib.request.Request(url, data=data, method=method), timeout=10):
                pass

    @contextmanager
    def redis_client(self) -> Iterator[Any]:
        import redis

        client = redis.Redis(port=self.redis.port)
        try:
            yield client
        finally:
            client.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only `make faults` runs."""
    if ALL:
        return
    left_out = [item for item in items if item.get_closest_marker("only_all")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@contextmanager
def deployed(folder: Path, unavailable: Callable[[str], NoReturn], *, embedded: bool = False) -> Iterator[Deployment]:
    """Everything that a deployment needs, started; workers start with `up`. `embedded`: without Redis and Qdrant."""
    redis = redis_server(folder / "redis")
    if redis is None:
        unavailable("no redis-server on this machine")
    qdrant, embed = qdrant_stand_in(folder / "qdrant"), embed_server(folder / "embed", delay_s=EMBED_DELAY_S)
    for server in (embed,) if embedded else (redis, qdrant, embed):
        server.start()
    cli = Cli(
        folder / "data", KB_EMBED_URL=f"http://127.0.0.1:{embed.port}", KB_EMBED_MODEL=MODEL, KB_EMBED_API="openai",
        KB_LEASE_S=str(LEASE_S), KB_REQUEUE_S="3", KB_BATCH_DOCUMENTS="4", KB_INGEST_DEVICE="cpu",
    )  # fmt: skip
    if not embedded:
        cli.environment |= {
            "KB_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            "KB_QDRANT_URL": f"http://127.0.0.1:{qdrant.port}",
        }
    cli.data_dir.mkdir()
    Ledger.open(f"sqlite:///{cli.data_dir / 'kb.db'}").close()
    with closing(sqlite3.connect(cli.data_dir / "kb.db")) as connection:
        connection.executescript(CHARGED)
    made = Deployment(cli, redis, qdrant, embed, folder / "documents", random.Random(SEED))
    try:
        yield made
    finally:
        made.down()
        for server in (redis, qdrant, embed):
            server.stop(signal.SIGKILL)


@pytest.fixture
def deployment(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[Deployment]:
    """A deployment of one test's own."""
    print(f"seed {SEED}")
    with deployed(tmp_path, unavailable) as made:
        yield made


@pytest.fixture
def embedded(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[Deployment]:
    """The embedded mode: a folder as broker, Qdrant Edge as store."""
    print(f"seed {SEED}")
    with deployed(tmp_path, unavailable, embedded=True) as made:
        yield made


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 12 MB, or of as many as an indirect parameter says."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={getattr(request, 'param', 12)}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all room that is left on a small disk; return the file to remove for having it back."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]) -> Iterator[Deployment]:
    """A deployment with workers that goes from fault to fault, as a real one does."""
    with deployed(tmp_path_factory.mktemp("lasting"), unavailable) as made:
        made.up()
        yield made
