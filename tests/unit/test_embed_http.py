"""The HTTP embedder against a real server that speaks both protocols and can fail in every way."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.embed import bad_rows, make_embedder
from pipeline.embed.http import HttpEmbedder
from pipeline.errors import EmbedUnavailable, ModelError
from pipeline.settings import Settings

DIMENSION = 8


def vector(text: str) -> list[float]:
    """A vector that hangs on the text alone; not of unit length."""
    digest = hashlib.sha256(text.encode()).digest()
    return [byte / 16 + 0.01 for byte in digest[:DIMENSION]]


class Endpoint(ThreadingHTTPServer):
    """An embedding server on loopback."""

    def __init__(self, *, ollama: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.ollama = ollama
        self.failures: list[int] = []  #: statuses to answer with before answering well
        self.most_texts = 10_000
        self.null_for = ""
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Endpoint

    def do_GET(self) -> None:
        if self.server.ollama and self.path == "/api/version":
            self._send(200, {"version": "0.13"})
        else:
            self._send(404, {"error": "not found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        server.keys.add(self.headers.get("Authorization"))
        if server.failures:
            self._send(server.failures.pop(0), {"error": "injected"})
            return
        if self.path != ("/api/embed" if server.ollama else "/v1/embeddings"):
            self._send(404, {"error": "no such route"})
            return
        if body["model"] != "served":
            self._send(404, {"error": f"model {body['model']} not found"})
            return
        if len(body["input"]) > server.most_texts:
            self._send(413, {"error": "too many"})
            return
        server.requests.append(body)
        rows: list[list[float | None]] = [list(vector(text)) for text in body["input"]]
        for row, text in zip(rows, body["input"], strict=True):
            if text == server.null_for:
                row[0] = None
        if server.ollama:
            self._send(200, {"embeddings": rows})
        else:  # out of order, as the API allows
            items = [{"index": number, "embedding": row} for number, row in enumerate(rows)]
            self._send(200, {"data": items[::-1]})

    def _send(self, status: int, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(params=["openai", "ollama"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    server = Endpoint(ollama=request.param == "ollama")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def settings(tmp_path: Path, endpoint: Endpoint, **values: Any) -> Settings:
    return Settings(data_dir=tmp_path, **{"embed_url": endpoint.url, "embed_model": "served", **values})


def test_vectors_come_back_in_order_and_with_unit_length(endpoint: Endpoint, tmp_path: Path) -> None:
    embedder = make_embedder(settings(tmp_path, endpoint, embed_api_key="secret"), device="cpu")
    texts = [f"text {number} " + "x" * (number * 7 % 50) for number in range(150)]
    got = embedder.embed(texts)
    expected = np.array([vector(text) for text in texts])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert got.shape == (150, DIMENSION)
    assert np.allclose(got, expected, atol=1e-5)
    assert np.allclose(embedder.embed_query(texts[3]), expected[3], atol=1e-5)
    assert bad_rows(got) == []
    assert embedder.info.dimension == DIMENSION
    assert embedder.info.dtype == ("ollama" if endpoint.ollama else "openai")
    assert endpoint.keys == {"Bearer secret"}
    if endpoint.ollama:
        assert all(body["truncate"] is False for body in endpoint.requests)
    embedder.close()


def test_the_url_may_end_in_v1(endpoint: Endpoint, tmp_path: Path) -> None:
    embedder = make_embedder(settings(tmp_path, endpoint, embed_url=endpoint.url + "/v1/"), device="cpu")
    assert embedder.embed([]).shape == (0, DIMENSION)
    embedder.close()


def test_passing_trouble_is_waited_out(endpoint: Endpoint, tmp_path: Path) -> None:
    embedder = HttpEmbedder.connect(settings(tmp_path, endpoint))
    endpoint.failures = [503, 429]
    assert embedder.embed(["a"]).shape == (1, DIMENSION)
    embedder.close()


def test_lasting_trouble_is_told(endpoint: Endpoint, tmp_path: Path) -> None:
    embedder = HttpEmbedder.connect(settings(tmp_path, endpoint), retry_s=0.5)
    endpoint.failures = [503] * 50
    with pytest.raises(EmbedUnavailable, match="503"):
        embedder.embed(["a"])
    embedder.close()


def test_nobody_at_home(tmp_path: Path) -> None:
    with pytest.raises(EmbedUnavailable, match="does not answer"):
        HttpEmbedder.connect(Settings(data_dir=tmp_path, embed_url="http://127.0.0.1:9"), retry_s=0.3)


def test_a_model_that_is_not_served_is_permanent(endpoint: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"404.*not found"):
        HttpEmbedder.connect(settings(tmp_path, endpoint, embed_model="other"))


def test_requests_that_are_too_large_are_halved(endpoint: Endpoint, tmp_path: Path) -> None:
    embedder = HttpEmbedder.connect(settings(tmp_path, endpoint))
    endpoint.most_texts = 5
    endpoint.requests.clear()
    assert embedder.embed([str(number) for number in range(64)]).shape == (64, DIMENSION)
    assert max(len(body["input"]) for body in endpoint.requests) <= 5
    embedder.close()


def test_a_null_is_a_bad_vector(endpoint: Endpoint, tmp_path: Path) -> None:
    embedder = HttpEmbedder.connect(settings(tmp_path, endpoint))
    endpoint.null_for = "b"
    assert bad_rows(embedder.embed(["a", "b", "c"])) == [1]
    embedder.close()


def test_the_wrong_protocol_is_named(endpoint: Endpoint, tmp_path: Path) -> None:
    wrong = "openai" if endpoint.ollama else "ollama"
    with pytest.raises(ModelError):
        HttpEmbedder.connect(settings(tmp_path, endpoint, embed_api=wrong))
