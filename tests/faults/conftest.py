"""A deployment to break: Redis, the Qdrant stand-in, an embedding endpoint, a data folder, all of this test's own."""

from __future__ import annotations

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

#: How often each fault is injected: few in `make test`, many in `make faults`.
RUNS = int(os.environ.get("KB_FAULT_RUNS") or 1)

#: Of each answer of the embedding endpoint: there must be work to interrupt.
EMBED_DELAY_S = 0.4

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

    def write(self, count: int, *, prefix: str = "d", paragraphs: int = 4) -> None:
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
                if "guard_child" in command:
                    kind_of = "parser"
                elif "workers.run" in command:
                    kind_of = "pool" if "workers.run" in parent else "master"
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

    def charged(self) -> int:
        """Documents that were started while an earlier start stood charged: a worker died with them, or so it seemed."""
        with closing(sqlite3.connect(self.cli.data_dir / "kb.db")) as connection:
            return int(connection.execute("SELECT count(DISTINCT id) FROM charged").fetchone()[0])

    def check(self, fault: str, count: int, *, quarantined: int = 0, runs: int = 1) -> None:
        """The invariant: every document ended, and the store holds exactly the points of the indexed ones."""
        states = self.states()
        lost = count - sum(states.get(state, 0) for state in ("indexed", "quarantined"))
        found = self.json("verify", status=None)
        charged = self.charged()
        line = {
            "fault": fault, "runs": runs, "documents": count, "lost": lost, "missing": found["missing"], "extra": found["orphans"],
            "worst_recovery_s": round(self.worst_s, 1), "charged": charged, "seed": SEED,
        }  # fmt: skip
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


@pytest.fixture
def deployment(tmp_path: Path, unavailable: Callable[[str], NoReturn], request: pytest.FixtureRequest) -> Iterator[Deployment]:
    redis = redis_server(tmp_path / "redis")
    if redis is None:
        unavailable("no redis-server on this machine")
    qdrant, embed = qdrant_stand_in(tmp_path / "qdrant"), embed_server(tmp_path / "embed", delay_s=EMBED_DELAY_S)
    for server in (redis, qdrant, embed):
        server.start()
    cli = Cli(
        tmp_path / "data", KB_REDIS_URL=f"redis://127.0.0.1:{redis.port}/0", KB_QDRANT_URL=f"http://127.0.0.1:{qdrant.port}",
        KB_EMBED_URL=f"http://127.0.0.1:{embed.port}", KB_EMBED_MODEL=MODEL, KB_EMBED_API="openai", KB_LEASE_S="6",
        KB_REQUEUE_S="3", KB_BATCH_DOCUMENTS="4", KB_INGEST_DEVICE="cpu",
    )  # fmt: skip
    cli.data_dir.mkdir()
    Ledger.open(f"sqlite:///{cli.data_dir / 'kb.db'}").close()
    with closing(sqlite3.connect(cli.data_dir / "kb.db")) as connection:
        connection.executescript(CHARGED)
    print(f"seed {SEED}")
    made = Deployment(cli, redis, qdrant, embed, tmp_path / "documents", random.Random(SEED))
    yield made
    for worker in made.workers:
        if worker.poll() is None:
            worker.send_signal(signal.SIGTERM)
    for worker in made.workers:
        try:
            worker.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
    for server in (redis, qdrant, embed):
        server.stop(signal.SIGKILL)
