"""A reranking server for tests: the API of text-embeddings-inference and that of Cohere, faults on request."""

from __future__ import annotations

import contextlib
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def score(query: str, text: str) -> float:
    """The share of the question's words that a text has."""
    words = query.casefold().split()
    return sum(word in text.casefold().split() for word in words) / len(words)


class RerankEndpoint(ThreadingHTTPServer):
    """A reranking server on loopback."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status = 200
        self.delay_s = 0.0
        self.content: object = None  #: to answer with instead of scores
        self.requests: list[tuple[str, dict[str, Any], str | None]] = []  #: path, body, authorization

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: RerankEndpoint

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.requests.append((self.path, body, self.headers.get("Authorization")))
        time.sleep(server.delay_s)
        texts = body["texts"] if "texts" in body else body["documents"]
        name = "score" if "texts" in body else "relevance_score"
        rows: Any = [{"index": number, name: score(body["query"], text)} for number, text in enumerate(texts)]
        rows.sort(key=lambda row: -row[name])
        self._send(server.content or (rows if "texts" in body else {"results": rows}))

    def _send(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # nobody waits any longer
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""
