"""What a step says of each document when it is done with it: a log line, and spans of its trace."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

from pipeline.ledger.work import ClaimedDocument, IndexedResult
from pipeline.telemetry.context import about
from pipeline.telemetry.spans import Span, Tracing, Version
from pipeline.types import Reason

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Times:
    """When what happened to a document in the embed stage, in nanoseconds since the epoch; 0: not yet."""

    opened_ns: int = field(default_factory=time.time_ns)
    embedded_ns: int = 0  #: its last vectors were there
    writing_ns: int = 0  #: its first points went to the store
    written_ns: int = 0  #: the store holds exactly its points

    def window(self, there_ns: int) -> None:
        """Note that some of its vectors were there, and were written from then on."""
        self.embedded_ns = there_ns
        self.writing_ns = self.writing_ns or there_ns


class Outcomes:
    """Tells logs and traces of one step; for one thread.

    The log's level: a document that is done at debug, one that is quarantined at warning, a batch at info.
    """

    def __init__(self, stage: Literal["load", "parse", "embed"], tracing: Tracing | None = None) -> None:
        self._stage = stage
        self._tracing = tracing or Tracing()
        self.begin(0)

    @property
    def on(self) -> bool:
        """Whether anybody listens to what became of documents that are well."""
        return self._tracing.on or log.isEnabledFor(logging.DEBUG)

    def about(self, document: ClaimedDocument | Version) -> AbstractContextManager[None]:
        """Have log lines of a `with` block name a document."""
        key = document.document if isinstance(document, Version) else document.id
        return about(run=document.run, stage=self._stage, document=key, uri=document.uri)

    def begin(self, documents: int) -> None:
        """A batch of so many documents begins."""
        self._since = time.monotonic()
        self._documents = documents
        self._done = self._chunks = self._reused = 0

    def end(self, verb: str) -> None:
        """The batch is done; `verb` says what with."""
        took = time.monotonic() - self._since
        there = f", {self._reused} had their chunk file already" if self._reused else ""
        chunks = "new chunks" if self._reused else "chunks"
        log.info("%s %d of %d documents, %d %s in %.1f s%s", verb, self._done, self._documents, self._chunks, chunks, took, there)

    def staged(self, version: Version, began_ns: int) -> None:
        """A version is in staging and ledger."""
        with self.about(version):
            log.debug("staged %s: %d bytes", version.uri, version.size)
        self._tracing.send(version, Span("load", began_ns, time.time_ns()))

    def refused(self, version: Version, reason: Reason, detail: str, began_ns: int) -> None:
        """A file could not be staged."""
        self._say(version, reason, detail)
        self._tracing.send(version, Span("load", began_ns, time.time_ns(), reason, detail))

    def parsed(
        self, document: ClaimedDocument, chunks: int, tokens: int, began_ns: int, ended_ns: int, *, reused: bool = False
    ) -> None:
        """A document's chunk file was made in that time, or found, and the ledger says so."""
        self._done, self._chunks, self._reused = self._done + 1, self._chunks + chunks, self._reused + reused
        with self.about(document):
            if reused:
                log.debug("%s has its chunk file already", document.uri)
            else:
                log.debug("parsed %s: %d chunks, %d tokens in %.2f s", document.uri, chunks, tokens, (ended_ns - began_ns) / 1e9)
        if self._tracing.on:
            known = (None, None) if reused else (chunks, tokens)
            span = Span("parse", began_ns, ended_ns, chunks=known[0], tokens=known[1], reused=reused)
            self._tracing.send(version_of(document), span)

    def indexed(self, document: ClaimedDocument, result: IndexedResult, times: Times, device: str) -> None:
        """A document is searchable, and the ledger says so."""
        self._done, self._chunks = self._done + 1, self._chunks + result.chunks
        with self.about(document):
            log.debug(
                "indexed %s: %d chunks, %d of them embedded in %.2f s", document.uri, result.chunks, result.embedded, result.seconds
            )
        if self._tracing.on:
            version, embedded = version_of(document), times.embedded_ns or times.writing_ns
            embed = Span("embed", times.opened_ns, embedded, chunks=result.embedded, tokens=result.tokens, device=device)
            self._tracing.send(version, embed)
            self._tracing.send(version, Span("upsert", times.writing_ns, times.written_ns, chunks=result.chunks))

    def failed(self, document: ClaimedDocument, reason: Reason, detail: str, began_ns: int) -> None:
        """A document is quarantined or skipped by a worker, which began on it then."""
        self._say(document, reason, detail)
        if self._tracing.on:
            self._tracing.send(version_of(document), Span(self._stage, began_ns, time.time_ns(), reason, detail))

    def _say(self, document: ClaimedDocument | Version, reason: Reason, detail: str) -> None:
        with self.about(document):
            if reason is Reason.EMPTY_FILE:
                log.debug("%s is skipped: %s: %s", document.uri, reason, detail)
            else:
                log.warning("%s is quarantined: %s: %s", document.uri, reason, " ".join(detail.split()))


def version_of(document: ClaimedDocument) -> Version:
    """What a claimed document's trace is about."""
    return Version(document.id, document.uri, document.collection, document.run, document.content_hash, document.size)
