"""A running `kb-ingest serve` for tests, asked over HTTP."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import httpx

from tests.documents import half_scanned_pdf, pdf
from tests.embed_server import WORDS_MODEL
from tests.services import Cli, embed_server, free_port, wait_until

#: Seconds that a test waits for an answer, on a machine that is busy.
PATIENCE_S = 120.0

#: Text and name of a document that a page must show and not carry out.
HOSTILE = (
    "<script>document.title='owned'</script>\"'><img src=x onerror=document.title='owned'> &amp; {{ 7 * 7 }} javascript:alert(1)"
)
HOSTILE_NAME = "<img src=x onerror=alert(1)>'\".html"

#: Documents of two folders, by path.
TEXTS = {
    "a/bees.md": "# Bees\n\n## Food\n\n"
    + "Bees visit flowers for nectar and pollen. " * 40
    + "\n\n## Home\n\nA hive holds many bees.\n",
    "a/soil.txt": "Compost makes soil warm and loose.\n",
    "b/wages.txt": "The wages of the gardeners are secret: nectar costs more than they earn.\n",
}


@contextmanager
def one_document(place: Path) -> Iterator[Cli]:
    """A command line whose data folder has one document, embedded by a server that runs meanwhile."""
    (place / "docs").mkdir()
    (place / "docs" / "bees.txt").write_text("Bees visit flowers for nectar.\n")
    with loaded_docs(place) as cli:
        yield cli


@contextmanager
def documents_to_look_at(place: Path) -> Iterator[Cli]:
    """A command line whose data folder has documents with pages, losses, and names that try to be HTML."""
    for name, text in TEXTS.items():
        (place / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "docs" / name).write_text(text)
    pdf(place / "docs" / "a" / "harbour.pdf")
    half_scanned_pdf(place / "docs" / "a" / "half.pdf")
    (place / "docs" / "a" / HOSTILE_NAME).write_text(f"<h1>{escape(HOSTILE)}</h1><p>Thistle {escape(HOSTILE)}</p>")
    with loaded_docs(place, KB_CHUNK_TOKENS="64") as cli:
        yield cli


@contextmanager
def loaded_docs(place: Path, **environment: str) -> Iterator[Cli]:
    """A command line that has loaded the folder `docs` of a place, embedded by a server that runs meanwhile."""
    model = embed_server(place / "model")
    model.start()
    embed = {"KB_EMBED_URL": f"http://127.0.0.1:{model.port}", "KB_EMBED_API": "openai", "KB_EMBED_MODEL": WORDS_MODEL}
    cli = Cli(place / "data", **embed, **environment)
    cli.run("load", str(place / "docs"))
    yield cli
    model.stop()


class Service:
    """A service over the data folder of a `Cli`; a context manager."""

    def __init__(self, cli: Cli, *arguments: str) -> None:
        self.cli = cli
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self.said = ""  #: its log, once it has ended

    def __enter__(self) -> Service:
        log = self.cli.data_dir.parent / f"serve-{self.port}.log"
        self.cli.data_dir.mkdir(parents=True, exist_ok=True)
        with log.open("w") as out:
            self._process = subprocess.Popen(
                [*self.cli.PROGRAM, "serve", "--port", str(self.port), *self._arguments],
                env=self.cli.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                text=True,
                start_new_session=True,
            )
        self._log = log
        wait_until(self._ready, "the service is ready", PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal; its exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        status = self._process.wait(60)
        self.said = self._log.read_text()
        return status

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def client(self, token: str = "") -> httpx.Client:
        """A client that sends a token, unless it is empty."""
        return httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {token}"} if token else {}, timeout=PATIENCE_S, trust_env=False
        )

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=10, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


def token(cli: Cli, name: str, *arguments: str) -> str:
    """The secret of a new token."""
    return str(json.loads(cli.run("token", "add", name, *arguments, "--json").stdout)["token"])


def problem(response: httpx.Response, status: int, code: str) -> str:
    """The sentence of a problem, which must have this status and code."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"], body["request"]) == (status, code, response.headers["x-request-id"])
    return str(body["detail"])


def docs(client: httpx.Client, collection: str = "documents") -> dict[str, dict[str, Any]]:
    """Documents by name, read in pages of one."""
    found: dict[str, dict[str, Any]] = {}
    after = ""
    while True:
        page = client.get("/v1/documents", params={"collection": collection, "limit": 1, "after": after}).raise_for_status().json()
        found |= {one["uri"].rpartition("/")[2]: one for one in page["documents"]}
        if page["next"] is None:
            return found
        after = page["next"]


def search(client: httpx.Client, query: str, **asked: Any) -> list[dict[str, Any]]:
    hits: list[dict[str, Any]] = client.post("/v1/search", json={"query": query, **asked}).raise_for_status().json()["hits"]
    return hits
