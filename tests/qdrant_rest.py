"""A test-only HTTP server that speaks the part of Qdrant's REST that kb-ingest uses, over Qdrant Edge.

It is wire and engine conformance, not Qdrant: it has no optimizer states, no ordering of wait=false, no gRPC and no
strict mode. What it does not know it answers with 501. It can be told to misbehave, see Fault.

    python tests/qdrant_rest.py --port 6333 --data DIR [--api-key KEY]      # prints its URL, serves until killed
    curl -X POST URL/_faults -d '[{"kind": "status", "status": 503, "count": 2, "path": "points"}]'    # and GET, DELETE
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import ValidationError

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script
from tests.qdrant_rest_collections import Collections, Refused, Updated


@dataclass
class Fault:
    """One way to misbehave, for the next `count` requests that match; -1 for all of them.

    status: answer `status` and do nothing. delay: wait `delay_s`, then go on. drop: close the connection and do nothing.
    lost_ack: do it, then close the connection. acknowledged: do it, but say `acknowledged`. forget: say `completed`, and
    do nothing.
    """

    kind: Literal["status", "delay", "drop", "lost_ack", "acknowledged", "forget"]
    count: int = 1
    status: int = 503
    delay_s: float = 0.0
    retry_after_s: int | None = None  #: header of a 429
    method: str = ""  #: empty: any
    path: str = ""  #: regular expression that is searched in the path

    def matches(self, method: str, path: str) -> bool:
        return self.count != 0 and self.method in ("", method) and re.search(self.path, path) is not None


class QdrantRest(ThreadingHTTPServer):
    """Use as a context manager; serves from a thread of its own. `url`, `inject`, `clear` and `seen` are for tests."""

    daemon_threads = True
    block_on_close = True

    def __init__(self, data: Path, *, port: int = 0, host: str = "127.0.0.1", api_key: str = "") -> None:
        self.api_key = api_key
        self.version = "1.20.0"
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str]] = []  # method and path of every request
        self.lock = threading.RLock()
        self.collections = Collections(data)
        super().__init__((host, port), _Request)
        self.url = f"http://{host}:{self.server_address[1]}"
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> QdrantRest:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()
        with self.lock:
            self.collections.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what some tests are about; nothing is printed."""

    def inject(self, *faults: Fault) -> None:
        with self.lock:
            self.faults.extend(faults)

    def clear(self) -> None:
        with self.lock:
            self.faults.clear()
            self.seen.clear()

    def take_faults(self, method: str, path: str) -> list[Fault]:
        """Faults for this request. Only the first that decides its fate is used up; a delay may come before it."""
        with self.lock:
            self.seen.append((method, path))
            taken: list[Fault] = []
            for fault in self.faults:
                if fault.matches(method, path) and not any(f.kind != "delay" for f in taken):
                    fault.count -= 1 if fault.count > 0 else 0
                    taken.append(fault)
            return taken


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # headers and body in one packet
    server: QdrantRest

    def log_message(self, format: str, *args: Any) -> None:
        """Tests want a quiet server."""

    def do_GET(self) -> None:
        self.serve()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

    def serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, started = urlsplit(self.path).path, time.perf_counter()
        if path == "/_faults":
            return self.control(body)
        if path == "/":  # this one and the next ask for no key, like the real ones
            return self.send(200, {"title": "qdrant rest stand-in over edge", "version": self.server.version})
        if path == "/readyz":
            return self.send(200, "all shards are ready")
        if self.server.api_key and self.headers.get("api-key") != self.server.api_key:
            return self.send(401, {"status": {"error": "Must provide an API key"}, "time": 0.0})
        faults = self.server.take_faults(self.command, path)
        for fault in faults:
            time.sleep(fault.delay_s)
        kinds = {fault.kind for fault in faults}
        if "status" in kinds:
            fault = faults[-1]
            retry_after = {"Retry-After": str(fault.retry_after_s)} if fault.retry_after_s is not None else {}
            return self.send(fault.status, {"status": {"error": "injected"}, "time": 0.0}, retry_after)
        if "drop" in kinds:
            self.close_connection = True
            return None
        try:
            with self.server.lock:
                result = Updated() if "forget" in kinds else self.server.collections.answer(self.command, path, body)
        except Refused as refused:
            return self.send(refused.status, {"status": {"error": refused.text}, "time": 0.0})
        except ValidationError as error:
            return self.send(400, {"status": {"error": f"Format error in JSON body: {error}"}, "time": 0.0})
        except Exception as error:
            return self.send(500, {"status": {"error": f"Service internal error: {error}"}, "time": 0.0})
        if "lost_ack" in kinds:
            self.close_connection = True
            return None
        waits = parse_qs(urlsplit(self.path).query).get("wait") == ["true"]
        status = "completed" if waits and "acknowledged" not in kinds else "acknowledged"
        update = {"operation_id": len(self.server.seen), "status": status}
        if isinstance(result, list):
            result = [update if isinstance(one, Updated) else one for one in result]
        answer = update if isinstance(result, Updated) else result
        return self.send(200, {"result": answer, "status": "ok", "time": time.perf_counter() - started})

    def control(self, body: bytes) -> None:
        with self.server.lock:
            if self.command == "POST":
                self.server.inject(*(Fault(**fault) for fault in json.loads(body)))
            elif self.command == "DELETE":
                self.server.clear()
            self.send(200, {"faults": [asdict(fault) for fault in self.server.faults], "requests": len(self.server.seen)})

    def send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=6333, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--api-key", default=os.environ.get("QDRANT__SERVICE__API_KEY", ""))
    args = parser.parse_args()
    server = QdrantRest(args.data, port=args.port, host=args.host, api_key=args.api_key)
    print(server.url, flush=True)
    # From a thread: shutdown() waits for the loop that the handler has interrupted.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()
    with server.lock:
        server.collections.close()


if __name__ == "__main__":
    main()
