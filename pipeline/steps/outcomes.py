"""Report of a step on each finished document: a log line, and spans of its trace."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

from pipeline.ledger.claims import ClaimedDocument
from pipeline.ledger.work import IndexedResult
from pipeline.telemetry.context import about
from pipeline.telemetry.spans import Span, Tracing, Version
from pipeline.text import plural
from pipeline.types import Reason

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Times:
    """Times of a document's events in the embed stage, in nanoseconds since the epoch; 0: not yet."""

    opened_ns: int = field(default_factory=time.time_ns)
    embedded_ns: int = 0  #: its last vectors were ready
    writing_ns: int = 0  #: its first points were sent to the store
    written_ns: int = 0  #: the store holds exactly its points

    def window(self, there_ns: int) -> None:
        """Record when some of its vectors were ready and their write began."""
        self.embedded_ns = there_ns
        self.writing_ns = self.writing_ns or there_ns


class Outcomes:
    """Writes log lines and spans for one step; for one thread.

    Log levels: debug for a finished document, warning for a quarantined one, info for a batch.
    """

    def __init__(self, stage: Literal["load", "parse", "embed"], tracing: Tracing | None = None) -> None:
        self._stage = stage
        self._tracing = tracing or Tracing()
        self.begin(0)

    @property
    def on(self) -> bool:
        """Whether outcomes of successful documents are logged or traced."""
        return self._tracing.on or log.isEnabledFor(logging.DEBUG)

    def about(self, document: ClaimedDocument | Version) -> AbstractContextManager[None]:
        """Add a document to the context of log lines in a `with` block."""
        key = document.document if isinstance(document, Version) else document.id
        return about(run=document.run, stage=self._stage, document=key, uri=document.uri)

    def begin(self, documents: int) -> None:
        """Begin a batch of `documents` documents."""
        self._since = time.monotonic()
        self._documents = documents
        self._done = self._chunks = self._reused = 0

    def more(self, documents: int) -> None:
        """Count documents that joined the batch."""
        self._documents += documents

    def end(self, verb: str) -> None:
        """Log the end of the batch; `verb` names the work, such as `parsed`."""
        took = time.monotonic() - self._since
        there = f", {self._reused} with an existing chunk file" if self._reused else ""
        documents, chunks = plural(self._documents, "document"), plural(self._chunks, "new chunk" if self._reused else "chunk")
        log.info("%s %d of %s, %s in %.1f s%s", verb, self._done, documents, chunks, took, there)

    def staged(self, version: Version, began_ns: int) -> None:
        """Report a version that is in staging and ledger."""
        if log.isEnabledFor(logging.DEBUG):
            with self.about(version):
                log.debug("staged %s: %s", version.uri, plural(version.size, "byte"))
        self._tracing.send(version, Span("load", began_ns, time.time_ns()))

    def refused(self, version: Version, reason: Reason, detail: str, began_ns: int) -> None:
        """Report a file that could not be staged."""
        self._say(version, reason, detail)
        self._tracing.send(version, Span(name="load", began_ns=began_ns, ended_ns=time.time_ns(), reason=reason, detail=detail))

    def parsed(
        self, document: ClaimedDocument, chunks: int, tokens: int, began_ns: int, ended_ns: int, *, reused: bool = False
    ) -> None:
        """Report a document whose chunk file was made in that time, or existed, and is recorded in the ledger."""
        self._done, self._chunks, self._reused = self._done + 1, self._chunks + chunks, self._reused + reused
        if log.isEnabledFor(logging.DEBUG):
            with self.about(document):
                if reused:
                    log.debug("%s has a chunk file already", document.uri)
                else:
                    made = f"{plural(chunks, 'chunk')}, {plural(tokens, 'token')}"
                    log.debug("parsed %s: %s in %.2f s", document.uri, made, (ended_ns - began_ns) / 1e9)
        if self._tracing.on:
            known = (None, None) if reused else (chunks, tokens)
            span = Span("parse", began_ns, ended_ns, chunks=known[0], tokens=known[1], reused=reused)
            self._tracing.send(version_of(document), span)

    def indexed(self, document: ClaimedDocument, result: IndexedResult, times: Times, device: str) -> None:
        """Report a document that is searchable and recorded as such in the ledger."""
        self._done, self._chunks = self._done + 1, self._chunks + result.chunks
        if log.isEnabledFor(logging.DEBUG):
            with self.about(document):
                chunks = plural(result.chunks, "chunk")
                log.debug("indexed %s: %s, %d of them embedded in %.2f s", document.uri, chunks, result.embedded, result.seconds)
        if self._tracing.on:
            version, embedded = version_of(document), times.embedded_ns or times.writing_ns
            embed = Span("embed", times.opened_ns, embedded, chunks=result.embedded, tokens=result.tokens, device=device)
            self._tracing.send(version, embed)
            self._tracing.send(version, Span("upsert", times.writing_ns, times.written_ns, chunks=result.chunks))

    def failed(self, document: ClaimedDocument, reason: Reason, detail: str, began_ns: int) -> None:
        """Report a document that a worker quarantined or skipped; `began_ns` is when the worker began on it."""
        self._say(document, reason, detail)
        if self._tracing.on:
            self._tracing.send(
                version_of(document),
                Span(name=self._stage, began_ns=began_ns, ended_ns=time.time_ns(), reason=reason, detail=detail),
            )

    def _say(self, document: ClaimedDocument | Version, reason: Reason, detail: str) -> None:
        with self.about(document):
            if reason.skips:
                log.info("%s is skipped: %s: %s", document.uri, reason, " ".join(detail.split()))
            else:
                log.warning("%s is quarantined: %s: %s", document.uri, reason, " ".join(detail.split()))


def version_of(document: ClaimedDocument) -> Version:
    """The version that a claimed document's trace is about."""
    return Version(
        document=document.id,
        uri=document.uri,
        collection=document.collection,
        run=document.run,
        content_hash=document.content_hash,
        size=document.size,
    )
