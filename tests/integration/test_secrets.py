"""Canaries: passwords, keys and document text are looked for wherever they must never be, while everything real runs."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus

import httpx
import psutil
import pytest
import sqlalchemy

from pipeline.settings import load_settings
from pipeline.types import Stage
from tests.embed_server import MODEL, NO_NUMBER
from tests.services import (
    REPOSITORY,
    Cli,
    Postgres,
    Server,
    embed_server,
    free_port,
    postgres_server,
    redis_server,
    wait_until,
)
from workers.broker.app import make_app

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: With characters that look different in a URL, so that both forms are looked for.
SECRETS = {
    "redis": "redis/c@nary#1",
    "qdrant": "qdrant-c@nary+2",
    "database": "database:c@nary%3",
    "embed": "embed-c@nary/4=",
    "flower": "flower-c@nary 5",
    "endpoint": "endpoint-c@nary&6",
    "headers": "headers-c@nary;7",
    "grafana": "grafana-c@nary!8",
}

TEXT = "TEXTCANARY"

FLOWER = """
from pipeline.settings import load_settings
from workers.broker.app import make_app
make_app(load_settings()).start(["flower", "--address=127.0.0.1", "--port={port}"])
"""


def traces(content: str | bytes, *, text: bool = True) -> set[str]:
    """The canaries that `content` holds in some form."""
    if isinstance(content, bytes):
        content = content.decode("utf-8", "replace")
    forms = {name: (value, quote(value, ""), quote_plus(value)) for name, value in SECRETS.items()}
    found = {name for name, written in forms.items() if any(form in content for form in written)}
    return found | ({"text"} if text and TEXT in content else set())


class Watcher(threading.Thread):
    """Collects the command lines of all processes below this one, except of the servers, until it is stopped."""

    def __init__(self, servers: set[int]) -> None:
        super().__init__(daemon=True)
        self.servers = servers
        self.seen: set[str] = set()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if process.pid not in self.servers:
                        self.seen.add(" ".join([process.name(), *process.cmdline()]))


class Listener(threading.Thread):
    """Collects what travels through Redis: the raw messages of the queues, and the events that Flower would see."""

    def __init__(self, port: int, app: Any) -> None:
        super().__init__(daemon=True)
        import redis

        self.client = redis.Redis(port=port, password=SECRETS["redis"])
        self.app = app
        self.messages: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.over = threading.Event()
        self.ready = threading.Event()
        self.monitor = threading.Thread(target=self._monitor, daemon=True)

    def _monitor(self) -> None:
        from redis.exceptions import ConnectionError as Gone

        with suppress(Gone), self.client.monitor() as monitor:  # type: ignore[no-untyped-call]
            self.ready.set()
            for command in monitor.listen():
                words = str(command["command"]).split(" ", 2)
                if words[0] == "LPUSH" and words[1] in [stage.value for stage in Stage]:
                    self.messages.append(words[2])
                if self.over.is_set():
                    return

    def run(self) -> None:
        self.monitor.start()
        with self.app.connection_for_read() as connection:
            receiver = self.app.events.Receiver(connection, handlers={"*": self.events.append})
            while not self.over.is_set():
                with suppress(OSError):  # its timeout
                    receiver.capture(limit=None, timeout=1, wakeup=False)


@pytest.fixture
def database(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[Postgres]:
    server = postgres_server(tmp_path / "postgres")
    if server is None:
        unavailable("no PostgreSQL on this machine")
    # The server runs as a user of its own, who must be able to reach its folder.
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def servers(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[dict[str, Server]]:
    if redis_server(tmp_path / "redis") is None:
        unavailable("no redis-server on this machine")

    def redis(port: int) -> list[str]:
        return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", SECRETS["redis"]]

    def qdrant(port: int) -> list[str]:
        program = str(REPOSITORY / "tests" / "qdrant_rest.py")
        return [sys.executable, program, "--port", str(port), "--data", str(tmp_path / "points"), "--api-key", SECRETS["qdrant"]]

    made = {
        "redis": Server(redis, tmp_path / "redis", "redis"), "qdrant": Server(qdrant, tmp_path / "qdrant", "qdrant"),
        "embed": embed_server(tmp_path / "embed"),
    }  # fmt: skip
    for server in made.values():
        server.start()
    yield made
    for server in made.values():
        server.stop(signal.SIGKILL)


@pytest.fixture
def cli(tmp_path: Path, servers: dict[str, Server], database: Postgres) -> Cli:
    url = database.database().replace("postgres@", f"postgres:{quote(SECRETS['database'], '')}@")
    return Cli(
        tmp_path / "data", KB_REDIS_URL=f"redis://:{quote(SECRETS['redis'], '')}@127.0.0.1:{servers['redis'].port}/0",
        KB_QDRANT_URL=f"http://127.0.0.1:{servers['qdrant'].port}", KB_API_KEY=SECRETS["qdrant"], KB_DATABASE_URL=url,
        KB_EMBED_URL=f"http://127.0.0.1:{servers['embed'].port}", KB_EMBED_API="openai", KB_EMBED_MODEL=MODEL,
        KB_EMBED_API_KEY=SECRETS["embed"], KB_MAX_FAILURE_RATIO="1", KB_LEASE_S="6",
        # Nobody takes the spans, which every process says.
        KB_OTLP_ENDPOINT=f"http://127.0.0.1:9/v1/traces?api_key={quote(SECRETS['endpoint'], '')}",
        KB_OTLP_HEADERS=f"authorization=Bearer {SECRETS['headers']}", KB_GRAFANA_PASSWORD=SECRETS["grafana"],
    )  # fmt: skip


def pages_of_flower(port: int, workers: list[str]) -> str:
    """All that Flower shows to somebody who may see it."""
    key = base64.b64encode(f"user:{SECRETS['flower']}".encode()).decode()
    found = ""
    for page in (
        "workers?json=1",
        "tasks",
        "broker",
        "api/workers?refresh=1",
        "api/tasks",
        *(f"worker/{name}" for name in workers),
    ):
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/{page}", headers={"Authorization": f"Basic {key}"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            found += answer.read().decode()
    return found


def rows(url: str) -> str:
    """Everything in all tables of the ledger."""
    engine = sqlalchemy.create_engine(url)
    with closing(engine.connect()) as connection:
        tables = sqlalchemy.inspect(engine).get_table_names()
        found = "\n".join(str(row) for name in tables for row in connection.execute(sqlalchemy.text(f'SELECT * FROM "{name}"')))
    engine.dispose()
    return found


def test_canaries_are_found_in_every_form() -> None:
    for name, value in SECRETS.items():
        for form in (value, quote(value, ""), f"x{quote_plus(value)}y".encode()):
            assert traces(form) == {name}
    assert traces(f"a{TEXT}") == {"text"}
    assert traces("redis, qdrant and nothing else") == set()


def test_no_canary_gets_out(
    cli: Cli, servers: dict[str, Server], documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (documents / "secret.txt").write_text(f"The text of a document says {TEXT}.")
    (documents / "no-number.txt").write_text(f"{TEXT} {NO_NUMBER}")
    (documents / "broken.docx").write_text(f"{TEXT} " * 50)
    for name in [name for name in cli.environment if name.startswith("KB_")]:
        monkeypatch.setenv(name, cli.environment[name])
    app = make_app(load_settings())
    watcher = Watcher({server._process.pid for server in servers.values() if server._process})
    listener = Listener(servers["redis"].port, app)
    flower_port = free_port()
    said: list[str] = []
    with (tmp_path / "processes.log").open("wb") as log:
        watcher.start()
        listener.start()
        assert listener.ready.wait(30)
        up = subprocess.Popen([*Cli.PROGRAM, "--log-level", "debug", "up"], env=cli.environment, stdout=log, stderr=log)
        flower = subprocess.Popen(
            [sys.executable, "-c", FLOWER.format(port=flower_port)], stdout=log, stderr=log,
            env={**cli.environment, "FLOWER_BASIC_AUTH": f"user:{SECRETS['flower']}", "FLOWER_UNAUTHENTICATED_API": ""},
        )  # fmt: skip
        try:
            loaded = cli.run("load", str(documents), "--json", status=None)
            assert json.loads(loaded.stdout)["indexed"] >= 3
            inspected = app.control.inspect(timeout=5)
            answers = [inspected.conf(), inspected.stats(), inspected.active(), inspected.registered(), inspected.report()]
            assert all(answers), "the workers did not answer"
            wait_until(lambda: flower_answers(flower_port), "Flower", 60)
            time.sleep(3)  # Flower asks the workers in the background
            shown = pages_of_flower(flower_port, list(answers[0]))
            (documents / "secret.txt").write_text(f"Changed, and still {TEXT}.")
            for command in (
                ["load", str(documents)], ["status"], ["config"], ["verify"], ["quarantine", "list"], ["collections"],
                ["metrics", "--once"], ["report", str(json.loads(loaded.stdout)["run"]), "--json"],
            ):  # fmt: skip
                answer = cli.run(*command, status=None)
                said += [answer.stdout, answer.stderr]
        finally:
            for process in (flower, up):
                process.send_signal(signal.SIGTERM)
            up.wait(60)
            flower.wait(30)
            watcher.over.set()
            listener.over.set()
    watcher.join(10)
    listener.join(10)

    # All of this must have been there to be looked at.
    assert any("workers.process.worker" in line for line in watcher.seen)
    assert any("pipeline.sandbox.server" in line for line in watcher.seen)
    assert len(listener.messages) >= 2
    kinds = {event["type"] for event in listener.events}
    assert {"task-received", "task-succeeded"} <= kinds
    assert "kb.parse" in shown or "parse" in shown
    ledger = rows(cli.environment["KB_DATABASE_URL"])
    assert "secret.txt" in ledger
    assert "spans are lost: http://127.0.0.1:9/v1/traces?api_key=****" in (tmp_path / "processes.log").read_text()
    assert any('kb_ingest_worker_processes{device="http"' in text for text in said)
    assert said[-2].startswith("{")
    assert "broken.docx" in said[-2]

    for message in listener.messages:
        # The monitor writes the message's quotes and backslashes with backslashes.
        envelope = json.loads(message.encode().decode("unicode_escape") if '\\"' in message else message)
        assert envelope["content-type"] == "application/json"
        body = base64.b64decode(envelope["body"]).decode()
        assert traces(body + message) == set()
    assert traces(ledger) == set()
    assert traces("\n".join(watcher.seen)) == set()
    assert traces(json.dumps(listener.events, default=str)) == set()
    assert traces(json.dumps(answers, default=str)) == set()
    assert traces(shown) == set()
    assert traces("\n".join(said) + loaded.stdout + loaded.stderr) == set()
    files = [tmp_path / "processes.log", *(path for path in cli.data_dir.rglob("*") if path.is_file())]
    assert files[0].stat().st_size > 1000, "nobody logged anything"
    for path in files:
        assert traces(path.read_bytes(), text="staging" not in path.parts) == set(), path


def flower_answers(port: int) -> bool:
    """Whether it is there; it must ask for a password."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/", timeout=30)
    except httpx.TransportError:
        return False
    assert answer.status_code == 401
    return True


@pytest.mark.parametrize("away", ["redis", "qdrant", "embed", "database"])
@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["plain", "debug"])
def test_errors_name_hosts_and_no_secret(away: str, debug: list[str], documents: Path, tmp_path: Path) -> None:
    """A server that is not there, with the traceback as well."""
    urls = {
        "redis": {"KB_REDIS_URL": f"redis://:{quote(SECRETS['redis'], '')}@127.0.0.1:9/0"},
        "qdrant": {"KB_QDRANT_URL": "http://127.0.0.1:9", "KB_API_KEY": SECRETS["qdrant"], "KB_LEASE_S": "3"},
        "embed": {
            "KB_EMBED_URL": f"http://user:{quote(SECRETS['embed'], '')}@127.0.0.1:9", "KB_EMBED_API_KEY": SECRETS["embed"],
            "KB_LEASE_S": "3",
        },
        "database": {"KB_DATABASE_URL": f"postgresql+psycopg://kb:{quote(SECRETS['database'], '')}@127.0.0.1:9/kb"},
    }  # fmt: skip
    cli = Cli(tmp_path / "data", **urls[away])
    command = ["load", str(documents), "--no-wait"] if away in ("redis", "database") else ["search", "anything"]
    answer = cli.run(*debug, *command, status=None)
    assert answer.returncode != 0 or away == "redis"  # --no-wait leaves the queue to the dispatcher
    assert answer.stderr
    assert traces(answer.stdout + answer.stderr) == set()
    if debug and answer.returncode:
        assert "Traceback" in answer.stderr
