"""Callers of the service that cost little: they share the cores with it, and what they take is missing there.

One thread sends the requests of all callers over kept sockets. Requests are written before the clock runs, and answers are read as
JSON after it has stopped.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import statistics
import time
from collections.abc import Iterator, Sequence

#: Seconds until a request must be answered.
ANSWER_S = 60.0

#: Bytes that are read at once.
READ = 1 << 18


class Callers:
    """Sends searches, each caller the next one when its last is answered, and notes how long each answer took."""

    def __init__(self, port: int, token: str, questions: Sequence[str]) -> None:
        self._port = port
        self._requests = [_request(token, question) for question in questions]

    def run(self, callers: int, queries: int) -> dict[str, float]:
        """Queries in all by so many callers at once: milliseconds of an answer, queries a second, and what the callers took."""
        waiting = iter(self._requests[:queries])
        took, answers = list[float](), list[bytes]()
        began, began_cpu = time.perf_counter(), time.process_time()
        with contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            for _ in range(callers):
                caller = stack.enter_context(contextlib.closing(_Caller(self._port)))
                if caller.ask(waiting):
                    selector.register(caller.socket, selectors.EVENT_READ, caller)
            while selector.get_map():
                ready = selector.select(ANSWER_S)
                if not ready:
                    raise SystemExit(f"no answer for {ANSWER_S:g} s")
                for key, _ in ready:
                    answer = key.data.read()
                    if answer is None:
                        continue
                    took.append(time.perf_counter() - key.data.asked_at)
                    answers.append(answer)
                    if not key.data.ask(waiting):
                        selector.unregister(key.data.socket)
        whole, cpu = time.perf_counter() - began, time.process_time() - began_cpu
        if not all(json.loads(answer)["hits"] for answer in answers):
            raise SystemExit("a search found nothing")
        cuts = statistics.quantiles(took, n=100)
        return {
            "p50_ms": 1e3 * cuts[49],
            "p99_ms": 1e3 * cuts[98],
            "queries_per_s": len(took) / whole,
            "callers_cpu_ms": 1e3 * cpu / len(took),
        }


class _Caller:
    """A connection with one question at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), ANSWER_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.asked_at = 0.0
        self._read = bytearray()

    def ask(self, waiting: Iterator[bytes]) -> bool:
        """Send the next request; whether there was one."""
        request = next(waiting, None)
        if request is None:
            return False
        self._read.clear()
        self.asked_at = time.perf_counter()
        self.socket.sendall(request)
        return True

    def read(self) -> bytes | None:
        """The body of the answer, once all of it is there. Raises SystemExit for an answer that is no success."""
        part = self.socket.recv(READ)
        self._read += part
        head, end, body = self._read.partition(b"\r\n\r\n")
        if not part or (end and not head.startswith(b"HTTP/1.1 200")):
            raise SystemExit(f"a search was answered with {bytes(self._read[:300])!r}")
        if not end:
            return None
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return bytes(body) if len(body) >= length else None

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


def _request(token: str, question: str) -> bytes:
    body = json.dumps({"query": question, "limit": 10, "mode": "hybrid"}).encode()
    head = (
        "POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
