"""Notifications at a real receiver: signed, tried again after failures, and never in the way of the run they report."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.embed_server import MODEL
from tests.services import Cli, Server, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Receiver:
    """An HTTP server that keeps what it is sent, and answers as the test wants."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[int], int] = lambda _: 204  #: status of the request with this number, from 0
        self.hangs = threading.Event()  #: requests wait while this is clear
        self.hangs.set()
        receiver = self

        class Endpoint(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.append(({key.lower(): value for key, value in self.headers.items()}, body))
                status = receiver.answer(len(receiver.requests) - 1)
                receiver.hangs.wait(60)
                try:
                    self.send_response(status)
                    self.send_header("location", "/elsewhere")
                    self.end_headers()
                except OSError:
                    pass  # the sender did not wait

            def do_GET(self) -> None:
                receiver.requests.append(({"redirected": self.path}, b""))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks/secret-path"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.hangs.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def told(self) -> list[dict[str, Any]]:
        """The bodies of all requests, whose signatures are right."""
        for headers, body in self.requests:
            assert abs(time.time() - int(headers["webhook-timestamp"])) < 120
            signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
            expected = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
            assert headers["webhook-signature"] == f"v1,{expected}"
            assert headers["content-type"] == "application/json"
        return [json.loads(body) for _, body in self.requests]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def cli(data_dir: Path, model: Server, receiver: Receiver) -> Cli:
    embeds = {"KB_EMBED_URL": f"http://127.0.0.1:{model.port}", "KB_EMBED_MODEL": MODEL}
    return Cli(data_dir, **embeds, KB_WEBHOOK_URL=receiver.url, KB_WEBHOOK_SECRET=SECRET)


def test_an_ended_run_is_reported(cli: Cli, documents: Path, receiver: Receiver) -> None:
    (documents / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    loaded = cli.answer("load", str(documents), status=3)
    (body,) = receiver.told()
    data = body["data"]
    assert (body["type"], data["run"], data["action"], data["outcome"]) == ("run.ended", 1, "load", "partly")
    assert (data["indexed"], data["quarantined"], data["chunks"]) == (loaded["indexed"], 1, loaded["chunks"])
    (named,) = data["quarantined_documents"]
    assert named["uri"].endswith("/broken.pdf")
    assert set(named) == {"uri", "reason"}
    cli.answer("load", str(documents), status=3)
    assert [one["data"]["run"] for one in receiver.told()] == [1, 2]  # each once
    shown = cli.run("config").stdout
    assert "secret-path" not in shown
    assert SECRET not in shown


def test_a_failed_delivery_is_tried_again_under_the_same_id(cli: Cli, documents: Path, receiver: Receiver) -> None:
    receiver.answer = lambda number: 503 if number == 0 else 200
    done = cli.run("--log-level", "info", "load", str(documents))
    assert len(receiver.told()) == 2  # the second one a second later, before the command ended
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
    assert "was not reported to 127.0.0.1" in done.stderr
    assert "secret-path" not in done.stderr


def test_a_receiver_that_hangs_does_not_hold_up_a_command_and_is_told_later(cli: Cli, documents: Path, receiver: Receiver) -> None:
    receiver.hangs.clear()
    began = time.monotonic()
    seconds = cli.answer("load", str(documents))["seconds"]
    assert time.monotonic() - began < seconds + 15  # LAST_S, and the start of the command
    assert len(receiver.requests) == 1
    receiver.hangs.set()
    service = cli.start("up")  # whose claim of the same delivery comes when the first one has expired
    try:
        wait_until(lambda: len(receiver.requests) == 2, "it is sent again", 60)
    finally:
        service.send_signal(signal.SIGTERM)
        service.communicate(timeout=60)
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
    assert len(receiver.told()) == 2


def test_a_redirect_is_not_followed_and_gone_is_final(cli: Cli, documents: Path, receiver: Receiver) -> None:
    receiver.answer = lambda number: 302 if number == 0 else 410
    cli.run("load", str(documents))
    assert len(receiver.told()) == 2
    assert "given up" in cli.run("load", str(documents)).stderr  # the report of the second run
    assert len(receiver.told()) == 3


def test_a_sample_can_be_sent(cli: Cli, receiver: Receiver) -> None:
    cli.run("webhook", "test")
    assert [one["type"] for one in receiver.told()] == ["test"]
    receiver.answer = lambda _: 500
    assert "127.0.0.1" in cli.run("webhook", "test", status=1).stderr


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"KB_WEBHOOK_URL": ""}, "there is no receiver"),
        ({"KB_WEBHOOK_SECRET": ""}, "needs KB_WEBHOOK_SECRET"),
        ({"KB_WEBHOOK_SECRET": "whsec_!"}, "not base64"),
        ({"KB_WEBHOOK_URL": "http://hooks.example.org/x"}, "use https for hooks.example.org"),
        ({"KB_WEBHOOK_URL": "file:///etc/passwd"}, "begin with https://"),
    ],
)
def test_what_is_refused(cli: Cli, environment: dict[str, str], words: str) -> None:
    refused = Cli(cli.data_dir, **{**cli.environment, **environment})
    assert words in refused.run("webhook", "test", status=1).stderr
