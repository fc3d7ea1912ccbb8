"""The same load with torch in the worker and with model servers of each protocol: one variable differs, the vectors do not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.embed.local import LocalEmbedder
from pipeline.settings import Settings, load_settings
from pipeline.store import open_store
from tests.services import Cli

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: What text-embeddings-inference allows in one request; its default is 32.
TEI_TEXTS = 8


class ModelServer(ThreadingHTTPServer):
    """Embeds with the default model behind the API of `kind`: ollama, openai (vLLM, llama.cpp) or tei."""

    def __init__(self, kind: str, embedder: LocalEmbedder) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.kind = kind
        self.embedder = embedder
        self.asked = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Request(BaseHTTPRequestHandler):
    server: ModelServer

    def do_GET(self) -> None:
        found = self.server.kind == "ollama" and self.path == "/api/version"
        self.answer(200 if found else 404, {"version": "0.13.0"} if found else {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts, kind = body["input"], self.server.kind
        if self.path != ("/api/embed" if kind == "ollama" else "/v1/embeddings"):
            return self.answer(404, {"detail": "Not Found"})
        if kind == "tei" and len(texts) > TEI_TEXTS:
            text = f"batch size {len(texts)} > maximum allowed batch size {TEI_TEXTS}"
            return self.answer(422, {"message": text, "type": "Validation", "code": 422})
        self.server.asked += 1
        rows = [[float(number) for number in row] for row in self.server.embedder.embed(texts)]
        if kind == "ollama":
            return self.answer(200, {"model": body["model"], "embeddings": rows, "total_duration": 1})
        data = [{"object": "embedding", "index": number, "embedding": row} for number, row in enumerate(rows)]
        return self.answer(200, {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": 1}})

    def answer(self, status: int, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEmbedder]:
    settings = load_settings(data_dir=tmp_path_factory.mktemp("server"), ingest_device="cpu", dtype="float32")
    loaded = LocalEmbedder.load(settings, "cpu")
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough chunks that one request does not hold them all."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(40):
        (folder / f"{number}.md").write_text(f"# Chapter {number}\n\nOf {number} things that are worth to be known, this is one.\n")
    (folder / "long.txt").write_text(" ".join(f"Sentence {number} is neither short nor long." for number in range(300)))
    return folder


@pytest.fixture(scope="module")
def with_torch(many: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """The points of a load with torch in the worker."""
    data = tmp_path_factory.mktemp("torch")
    Cli(data, KB_INGEST_DEVICE="cpu").run("load", str(many))
    return points(data)


def points(data: Path) -> dict[str, list[float]]:
    store = open_store(Settings(data_dir=data), role="reader")
    try:
        return {point.id: list(point.vector or ()) for point in store.scan(store.aliases()["documents"], with_vectors=True)}
    finally:
        store.close()


@pytest.mark.parametrize("kind", ["ollama", "openai", "tei"])
def test_a_model_server_gives_the_same_collection(
    kind: str, many: Path, with_torch: dict[str, list[float]], embedder: LocalEmbedder, tmp_path: Path
) -> None:
    server = ModelServer(kind, embedder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        cli = Cli(tmp_path, KB_EMBED_URL=server.url, KB_EMBED_MODEL="all-minilm")
        result = json.loads(cli.run("load", str(many), "--json").stdout)
        assert (result["indexed"], result["quarantined"]) == (41, 0)
        assert result["device"] == server.url
        assert server.asked > 2
        # The collection that torch fills is the same one: it can be loaded again with torch, and nothing is embedded.
        again = json.loads(Cli(tmp_path, KB_INGEST_DEVICE="cpu").run("load", str(many), "--json").stdout)
        assert (again["unchanged"], again["chunks"]) == (41, 0)
    finally:
        server.shutdown()
        server.server_close()
    theirs = points(tmp_path)
    assert theirs.keys() == with_torch.keys()
    assert len(theirs) > 45
    least = min(sum(a * b for a, b in zip(theirs[key], with_torch[key], strict=True)) for key in theirs)
    assert least > 0.999
