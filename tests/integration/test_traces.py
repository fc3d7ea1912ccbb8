"""One trace a document, put together from what real processes send by OTLP."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from pipeline.telemetry.spans import Version
from tests.services import Cli, Server, free_port

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: More than the endings of load and workers may take together when nobody takes their spans.
LATE_S = 20.0


def values(attributes: object) -> dict[str, str | int | bool]:
    """Attributes of a span or a resource as Python's values."""
    found: dict[str, str | int | bool] = {}
    for item in attributes:  # type: ignore[attr-defined]
        assert isinstance(item, KeyValue)
        found[item.key] = getattr(item.value, str(item.value.WhichOneof("value")))
    return found


@dataclass(frozen=True)
class Received:
    """A span with what its process says of itself."""

    span: Span
    process: str
    service: str
    values: dict[str, str | int | bool]


class Receiver(ThreadingHTTPServer):
    """Takes spans as a collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.spans: list[Received] = []
        self.headers: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def traces(self) -> dict[str, dict[bytes, list[Received]]]:
        """Spans by the name of the document's file and trace."""
        found: dict[str, dict[bytes, list[Received]]] = defaultdict(lambda: defaultdict(list))
        for one in self.spans:
            found[str(one.values["kb.uri"]).rpartition("/")[2]][one.span.trace_id].append(one)
        return found


class _Take(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        self.server.headers.add(self.headers.get("x-key"))
        request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in request.resource_spans:
            about = values(resource.resource.attributes)
            self.server.spans += [
                Received(span, str(about["service.instance.id"]), str(about["service.name"]), values(span.attributes))
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, name="receiver", daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def cli(data_dir: Path, model: Server) -> Cli:
    return Cli(data_dir, KB_EMBED_URL=f"http://127.0.0.1:{model.port}", KB_EMBED_MODEL="served", NO_PROXY="127.0.0.1")


def test_a_document_is_one_trace_across_processes(cli: Cli, receiver: Receiver, documents: Path) -> None:
    (documents / "broken.pdf").write_bytes(b"%PDF-1.4 and no end")
    cli.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "KB_OTLP_HEADERS": "x-key=a%20key"}
    began_ns = time.time_ns()
    assert cli.answer("load", str(documents), status=3)["indexed"] == 4
    ended_ns = time.time_ns()

    assert receiver.headers == {"a key"}
    traces = receiver.traces()
    assert set(traces) == {"tomatoes.md", "bees.txt", "tools.csv", "page.html", "broken.pdf"}
    for name, found in traces.items():
        assert len(found) == 1, f"{name} has several traces"
        (spans,) = found.values()
        assert {one.service for one in spans} == {"kb-ingest"}
        by_name = {one.span.name: one for one in spans}
        assert len(by_name) == len(spans)
        root = by_name["load"]
        assert root.span.parent_span_id == b""
        assert {one.span.parent_span_id for one in spans if one is not root} == {root.span.span_id}
        assert len({one.values["kb.document_id"] for one in spans}) == 1
        assert {one.values["kb.run"] for one in spans} == {1}
        for one in spans:
            assert began_ns <= one.span.start_time_unix_nano <= one.span.end_time_unix_nano <= ended_ns
        assert root.span.end_time_unix_nano <= by_name["parse"].span.start_time_unix_nano
        if name == "broken.pdf":
            continue
        assert set(by_name) == {"load", "parse", "embed", "upsert"}
        assert {one.process.partition("@")[0].partition("-")[0] for one in spans} == {"load", "parse", "embed"}
        parse, embed, upsert = (by_name[step].span for step in ("parse", "embed", "upsert"))
        assert parse.end_time_unix_nano <= embed.start_time_unix_nano
        assert embed.end_time_unix_nano <= upsert.start_time_unix_nano
        assert by_name["parse"].values["kb.chunks"] == by_name["upsert"].values["kb.chunks"]
        assert int(by_name["embed"].values["kb.chunks"]) >= 1
        assert by_name["embed"].values["kb.device"]
        assert all(one.span.status.code == Status.STATUS_CODE_UNSET for one in spans)

    (broken,) = traces["broken.pdf"].values()
    assert {one.span.name for one in broken} == {"load", "parse"}
    (parse,) = (one.span for one in broken if one.span.name == "parse")
    assert parse.status.code == Status.STATUS_CODE_ERROR
    assert parse.status.message.startswith("corrupt: ")

    # A new version is a trace of its own; documents that have not changed send nothing.
    receiver.spans.clear()
    (documents / "garden" / "bees.txt").write_text("Bees visit other flowers now.\n")
    cli.run("load", str(documents), status=3)
    again = receiver.traces()
    assert set(again) == {"bees.txt"}
    assert set(again["bees.txt"]).isdisjoint(traces["bees.txt"])
    assert {one.span.name for spans in again["bees.txt"].values() for one in spans} == {"load", "parse", "embed", "upsert"}


def test_a_load_succeeds_where_nobody_takes_spans(cli: Cli, documents: Path) -> None:
    began = time.monotonic()
    cli.run("load", str(documents))
    without = time.monotonic() - began
    (documents / "more.txt").write_text("One more document.\n")
    cli.environment |= {"KB_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    began = time.monotonic()
    answer = cli.run("load", str(documents))
    assert "1 indexed" in answer.stdout
    assert time.monotonic() - began < without + LATE_S
    said = [line for line in answer.stderr.splitlines() if "spans are lost" in line]
    assert 1 <= len(said) <= 3, answer.stderr  # a line for each process at most
    assert "opentelemetry" not in answer.stderr


def test_ids_are_those_that_every_process_derives(cli: Cli, receiver: Receiver, documents: Path) -> None:
    cli.environment |= {"KB_OTLP_ENDPOINT": receiver.url + "/v1/traces"}
    (documents / "garden" / "bees.txt").write_text("Bees.\n")
    cli.run("load", str(documents / "garden" / "bees.txt"))
    (root,) = (one for one in receiver.spans if one.span.name == "load")
    version = Version(
        str(root.values["kb.document_id"]), "", "", int(root.values["kb.run"]), hashlib.sha256(b"Bees.\n").hexdigest(), 0
    )
    assert root.span.trace_id == version.trace_id().to_bytes(16, "big")
    assert root.span.span_id == version.root_id().to_bytes(8, "big")
