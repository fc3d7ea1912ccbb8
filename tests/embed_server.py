"""A server of embeddings for tests: deterministic vectors, both protocols, faults on request; also runs as a program."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DIMENSION = 8

#: A text that holds this gets a vector with a null, as JSON writes NaN.
NO_NUMBER = "NOT-A-NUMBER"

#: A text that holds this kills the process that sends it, as a model that crashes would.
DEADLY = "DEADLY-TO-THE-MODEL"

#: Its model whose vectors say nothing of what a text means.
MODEL = "served"

#: Its model that knows words: texts with the same words are near each other.
WORDS_MODEL, WORDS_DIMENSION = "words", 64


def vector(text: str) -> list[float]:
    """A vector that hangs on the text alone; not of unit length."""
    digest = hashlib.sha256(text.encode()).digest()
    return [byte / 16 + 0.01 for byte in digest[:DIMENSION]]


def words_vector(text: str) -> list[float]:
    """The number of words in each of some classes; not of unit length."""
    row = [0.01] * WORDS_DIMENSION
    for word in re.findall(r"\w+", text.casefold()):
        row[hashlib.sha256(word.encode()).digest()[0] % WORDS_DIMENSION] += 1.0
    return row


MODELS = {MODEL: vector, WORDS_MODEL: words_vector}


class Endpoint(ThreadingHTTPServer):
    """An embedding server on loopback."""

    def __init__(self, *, ollama: bool, port: int = 0, host: str = "127.0.0.1") -> None:
        super().__init__((host, port), _Answer)
        self.ollama = ollama
        self.failures: list[int] = []  #: statuses to answer with before answering well
        self.most_texts = 10_000
        self.null_for = ""
        self.delay_s = 0.0  #: of each answer
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
        if body["model"] not in MODELS:
            self._send(404, {"error": f"model {body['model']} not found"})
            return
        if len(body["input"]) > server.most_texts:
            self._send(413, {"error": "too many"})
            return
        if any(DEADLY in text for text in body["input"]):
            self._kill_client()
            return
        server.requests.append(body)
        time.sleep(server.delay_s)
        rows: list[list[float | None]] = [list(MODELS[body["model"]](text)) for text in body["input"]]
        for row, text in zip(rows, body["input"], strict=True):
            if text == server.null_for or NO_NUMBER in text:
                row[0] = None
        if server.ollama:
            self._send(200, {"embeddings": rows})
        else:  # out of order, as the API allows
            items = [{"index": number, "embedding": row} for number, row in enumerate(rows)]
            self._send(200, {"data": items[::-1]})

    def _kill_client(self) -> None:
        """End the process at the other end of the connection."""
        import psutil

        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == self.client_address[1] and connection.pid not in (None, os.getpid()):
                os.kill(connection.pid, signal.SIGKILL)
        self.close_connection = True

    def _send(self, status: int, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay-s", type=float, default=0.0)
    options = parser.parse_args()
    endpoint = Endpoint(ollama=False, port=options.port)
    endpoint.delay_s = options.delay_s
    endpoint.serve_forever()


if __name__ == "__main__":
    main()
