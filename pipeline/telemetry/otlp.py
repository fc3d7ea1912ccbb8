"""Sends spans by OTLP over HTTP; the only module that imports opentelemetry."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit, urlunsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

from pipeline.telemetry.spans import ROOT, Span, Tracing, Version
from pipeline.text import well_formed
from pipeline.urls import mask_url

log = logging.getLogger(__name__)

#: Maximum number of spans waiting to be sent; more are dropped.
QUEUE_SPANS = 8192

#: Milliseconds between two exports.
SEND_EVERY_MS = 500

#: Maximum seconds of one export, including retries.
SEND_S = 5.0

#: Seconds that a process waits on exit for its last spans to be sent.
FLUSH_S = 3.0

#: Path of the span receiver below an endpoint.
PATH = "/v1/traces"


class OtlpTracing(Tracing):
    """Sends spans in the background; for one thread."""

    on = True

    def __init__(self, endpoint: str, headers: str, process: str) -> None:
        exporter = OTLPSpanExporter(address_of(endpoint), headers=headers_of(headers), timeout=SEND_S)
        resource = Resource.create(
            {
                "service.name": "kb-ingest", "service.instance.id": process, "host.name": socket.gethostname(),
                "process.pid": os.getpid(),
            }
        )  # fmt: skip
        self._ids = _Ids()
        # Each process would sample on its own and leave holes in traces; a collector can sample whole traces.
        self._provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._ids)
        self._exporter = _Telling(exporter, mask_url(endpoint))
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, QUEUE_SPANS, SEND_EVERY_MS))
        self._tracer = self._provider.get_tracer("kb-ingest")

    def send(self, version: Version, span: Span) -> None:
        """Hand a span over."""
        trace, root = version.trace_id(), version.root_id()
        context = Context()
        self._ids.root = (trace, root) if span.name == ROOT else None
        if span.name != ROOT:
            parent = SpanContext(trace, root, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
            context = set_span_in_context(NonRecordingSpan(parent), context)
        made = self._tracer.start_span(span.name, context, start_time=span.began_ns, attributes=_attributes(version, span))
        if span.failed:
            made.set_status(Status(StatusCode.ERROR, well_formed(f"{span.reason}: {span.detail}")))
        made.end(span.ended_ns)

    def close(self) -> None:
        """Send the remaining spans, unless the endpoint is failing."""
        # Neither flush nor shutdown of the SDK has a time limit: if the endpoint does not respond, they block for half a minute.
        ending = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        ending.start()
        ending.join(0 if self._exporter.failing else FLUSH_S)


class _Ids(RandomIdGenerator):
    """Random ids, except for a root span, whose ids every process must be able to compute."""

    def __init__(self) -> None:
        self.root: tuple[int, int] | None = None  #: trace and span id of the next span

    def generate_span_id(self) -> int:
        if self.root is not None:
            return self.root[1]
        return super().generate_span_id()

    def generate_trace_id(self) -> int:
        if self.root is not None:
            return self.root[0]
        return super().generate_trace_id()


class _Telling(SpanExporter):
    """An exporter that logs once when spans begin to be lost, and once when the endpoint accepts them again."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint  #: without secrets
        self._words = _FirstWords()
        self.failing = False
        # The library logs every failed attempt and, when its queue is full, every span.
        library = logging.getLogger("opentelemetry")
        library.handlers[:] = [self._words]
        library.propagate = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._words.said = ""
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self.failing:
            log.warning("spans are lost: %s does not accept them: %s", self._endpoint, self._scrubbed(self._words.said))
        elif self.failing and not failed:
            log.info("%s accepts spans again", self._endpoint)
        self.failing = failed
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    @staticmethod
    def _scrubbed(said: str) -> str:
        """The library's message without the URL's query and user, which may be secrets."""
        said = re.sub(r"(\w://)([^\s'\"]*)", _without_user, said)
        return re.sub(r"\?[^\s'\")]+", "?****", said)


def _without_user(url: re.Match[str]) -> str:
    _, at, rest = url[2].rpartition("@")
    return f"{url[1]}****@{rest}" if at else url[0]


class _FirstWords(logging.Handler):
    """Keeps the first message of an export, which has the reason; later ones only report that retries failed."""

    said = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.said = self.said or record.getMessage()


def _attributes(version: Version, span: Span) -> dict[str, str | int | bool]:
    """The known values, under searchable names."""
    known: dict[str, str | int | bool | None] = {
        "kb.uri": well_formed(version.uri), "kb.document_id": version.document, "kb.run": version.run,
        "kb.collection": version.collection, "kb.bytes": version.size, "kb.chunks": span.chunks, "kb.tokens": span.tokens,
        "kb.device": span.device or None, "kb.reused": span.reused or None, "kb.reason": span.reason or None,
    }  # fmt: skip
    return {name: value for name, value in known.items() if value is not None}


def address_of(endpoint: str) -> str:
    """URL that spans are posted to, for an endpoint given with or without the traces path."""
    parts = urlsplit(endpoint)
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path.endswith(PATH) else path + PATH))


def headers_of(text: str) -> dict[str, str]:
    """`name=value,name=value`, percent-encoded, as in OTEL_EXPORTER_OTLP_HEADERS; parts that are not pairs are ignored."""
    pairs = (part.partition("=") for part in text.split(","))
    return {name.strip().lower(): unquote(value.strip()) for name, equals, value in pairs if equals and name.strip()}
