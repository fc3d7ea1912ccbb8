"""Spans of a document's way: one trace for each version that a run brings, from whichever processes work on it.

Messages carry no context: the ids of a trace and of its root follow from the document, its bytes and the run, so that every
process knows them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from pipeline.types import Reason

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
