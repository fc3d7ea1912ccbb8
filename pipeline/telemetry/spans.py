"""Spans of a document's processing: one trace per version that a run brings, from all processes that work on it.

Messages carry no context: every process computes the ids of a trace and of its root from the document, its bytes and the
run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from pipeline.types import Reason

#: Name of the root span of a trace; the other spans are its children.
ROOT = "load"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a document that a run brought: the subject of one trace."""

    document: str  #: id
    uri: str
    collection: str  #: generation
    run: int
    content_hash: str  #: empty if the file could not be read
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
    reason: str = ""  #: why the document was quarantined or skipped; empty on success
    detail: str = ""
    chunks: int | None = None  #: None: not known here
    tokens: int | None = None
    device: str = ""  #: device of the model
    reused: bool = False  #: the chunk file existed already

    @property
    def failed(self) -> bool:
        """Whether the document was quarantined; to be skipped is not a failure."""
        return bool(self.reason) and not Reason(self.reason).skips


class Tracing:
    """Accepts spans. This base class, for processes without an endpoint, drops them."""

    on = False

    def send(self, version: Version, span: Span) -> None:
        """Hand a span over. Never blocks and never fails: a span that cannot be sent is lost."""

    def close(self) -> None:
        """Send the remaining spans, for up to a few seconds."""
