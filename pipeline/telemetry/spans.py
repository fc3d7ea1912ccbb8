"""Spans of a document's way: one trace for each version that a run brings, from whichever processes work on it.

Messages carry no context: the ids of a trace and of its root follow from the document, its bytes and the run, so that every
process knows them.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from pipeline.errors import ConfigError
from pipeline.settings import Settings, mask_url
from pipeline.types import Reason

log = logging.getLogger(__name__)

#: The span that is the root of its trace; the others are its children.
ROOT = "load"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a document that a run brought: what one trace is about."""

    document: str  #: id
    uri: str
    collection: str  #: generation
    run: int
    content_hash: str  #: empty where the file could not be read
    size: int  #: bytes

    def trace_id(self) -> int:
        """128 bits, never 0."""
        return self._id(b"trace", 16)

    def root_id(self) -> int:
        """Id of the root span; 64 bits, never 0."""
        return self._id(b"root", 8)

    def _id(self, person: bytes, size: int) -> int:
        name = f"{self.document}\n{self.content_hash}\n{self.run}".encode()
        return int.from_bytes(hashlib.blake2b(name, digest_size=size, person=person).digest(), "big") or 1


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of work on a document, sent after the fact."""

    name: Literal["load", "parse", "embed", "upsert"]
    began_ns: int  #: since the epoch
    ended_ns: int
    reason: str = ""  #: why the document was quarantined or skipped; empty: all went well
    detail: str = ""
    chunks: int | None = None  #: None: not known here
    tokens: int | None = None
    device: str = ""  #: that the model runs on
    reused: bool = False  #: the chunk file was there already

    @property
    def failed(self) -> bool:
        """Whether the document was quarantined; an empty file, which is skipped, is no failure."""
        return bool(self.reason) and self.reason != Reason.EMPTY_FILE


class Tracing:
    """Takes spans; this one, for processes without an endpoint, drops them."""

    on = False

    def send(self, version: Version, span: Span) -> None:
        """Hand a span over. Never waits and never fails: what cannot be sent is lost."""

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""


def check_tracing(settings: Settings) -> None:
    """Refuse an endpoint that nothing can be sent to; raises ConfigError.

    One that was set for all programs is only warned of, and nothing is sent.
    """
    trouble = _trouble(settings.otlp_endpoint)
    if trouble and settings.otlp_is_foreign:
        log.warning("no traces are made: OTEL_EXPORTER_OTLP_ENDPOINT %s", trouble)
    elif trouble:
        raise ConfigError(f"KB_OTLP_ENDPOINT {trouble}")


def endpoint_of(settings: Settings) -> str:
    """Where spans are sent; empty: nowhere, also where the endpoint that was set for all programs is none for us."""
    endpoint = settings.otlp_endpoint
    return "" if _trouble(endpoint) and settings.otlp_is_foreign else endpoint


def _trouble(endpoint: str) -> str:
    """Why nothing can be sent to an endpoint, in words that follow its variable's name; empty: it can."""
    if not endpoint:
        return ""
    if not endpoint.startswith(("http://", "https://")):
        return f"{mask_url(endpoint)} is not the http:// or https:// address of an OTLP/HTTP receiver (port 4318)"
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http") and find_spec("opentelemetry.sdk")
    except ModuleNotFoundError:  # of a package on the way
        found = None
    return "" if found else "is set and the extra `otel` is not installed: pip install 'kb-ingest[otel]', or unset it"


def open_tracing(settings: Settings, process: str) -> Tracing:
    """Where this process sends spans as `process`; call it after a fork, as it starts a thread. Raises ConfigError."""
    endpoint = endpoint_of(settings)
    if not endpoint:
        return Tracing()
    check_tracing(settings)
    from pipeline.telemetry.otlp import OtlpTracing

    return OtlpTracing(endpoint, settings.otlp_headers.get_secret_value(), process)
