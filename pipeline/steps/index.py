"""The third step: turns chunk files into points and deletes the points that a document no longer has."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.base import Embedder, bad_rows, embedding_of
from pipeline.errors import CollectionMissing, DocumentError, KbError
from pipeline.ledger import Ledger
from pipeline.ledger.claims import Claim, ClaimedDocument
from pipeline.ledger.work import IndexedResult
from pipeline.staging import Staging
from pipeline.staging.chunk_files import ChunkFile
from pipeline.steps.beat import Beat
from pipeline.steps.document import OpenDocument, meta_of, open_document
from pipeline.steps.fields import Fields
from pipeline.steps.outcomes import Outcomes
from pipeline.steps.reuse import ReusingEmbedder, VectorCache, Vectors
from pipeline.store.base import VectorStore
from pipeline.telemetry.counters import CHUNK_LIMIT, CHUNK_TOKENS, UNBOUNDED, Measured, token_bin
from pipeline.telemetry.spans import Tracing
from pipeline.text import plural
from pipeline.types import Chunk, DocumentState, EmbeddedChunk, Embedding, Reason, Stage

log = logging.getLogger(__name__)

#: Chunks that are embedded together take about WINDOW_S seconds: enough of them to sort by length with little padding, few
#: enough to report progress and renew a lease often. The first windows of a worker are small.
WINDOW_S = 2.0
WINDOW_TOKENS = range(2_048, 1 << 20)
WINDOW_CHUNKS = 4096

#: Seconds for which a claim takes more documents as long as some wait. Then it ends, and other collections have their turn.
ROLL_S = 30.0

#: Maximum number of documents that are added to a claim at a time: if a worker dies, each is tried again alone.
MORE_DOCUMENTS = 1024

#: Documents whose chunk files are read together; in a pack, each takes up to 64 KB.
READ_TOGETHER = 64

#: Number of windows being embedded while the next one is read and the previous one is written.
AHEAD = 2

#: A document, one of its chunks, and the id of a point that may already have the chunk's vector; empty if there is none.
_Row = tuple[OpenDocument, Chunk, str]


@dataclass(slots=True)
class _Window:
    """Chunks that are written together."""

    rows: list[_Row]
    lent: dict[str, Embedding]  #: vectors by the ids in the rows
    vectors: Vectors  #: vectors of the other rows, in order


class IndexStep:
    """Embeds the chunks of claimed documents, so that the store holds exactly these chunks."""

    def __init__(
        self,
        ledger: Ledger,
        staging: Staging,
        embedder: Embedder,
        store: VectorStore,
        fingerprint: str,
        measured: Measured | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.ledger = ledger
        self.staging = staging
        self.embedder = embedder
        self.store = store
        self.fingerprint = fingerprint  #: embed fingerprint
        self.measured = measured or Measured()
        self.outcomes = Outcomes("embed", tracing)
        self.cache = VectorCache()
        self.window_tokens = WINDOW_TOKENS.start  #: of the next windows, by the rate of those before

    def paced(self, tokens: int, seconds: float) -> None:
        """Learn from a window of so many tokens that took so many seconds."""
        wanted = int(tokens / max(seconds, 1e-3) * WINDOW_S)
        # Halfway, and at most twice as much: one window may have waited for something else.
        wanted = min(2 * self.window_tokens, (self.window_tokens + wanted) // 2)
        self.window_tokens = max(WINDOW_TOKENS.start, min(WINDOW_TOKENS.stop - 1, wanted))

    def run(self, claim: Claim, physical: str) -> list[str]:
        """Index the claim's documents into a physical collection; return the ids of the indexed ones.

        While it works, the claim takes more documents of its collection, for up to ROLL_S, so that the device never waits for
        the end of one claim and the beginning of another, and few documents of little text do not make small batches.

        Only chunks that the store lacks are embedded. New points are written before old ones are deleted, so that a search
        in between finds the whole old version. The lease is checked before every write.

        Raises LeaseLost, StoreUnavailable, EmbedUnavailable, ModelError. Documents that were complete by then are recorded;
        the others are finished when they are claimed again.
        """
        self.embedder.fills.clear()  # drop those of calls outside the work on documents
        self.outcomes.begin(len(claim.documents))
        work = _Indexing(self, claim, physical)
        try:
            work.run()
            self.outcomes.end("indexed")
            return work.indexed
        finally:
            work.settle()


class _Indexing:
    """The work on one claim."""

    def __init__(self, step: IndexStep, claim: Claim, physical: str) -> None:
        self._step = step
        self._claim = claim
        self._physical = physical
        self._fields = Fields(step.ledger, step.store, physical)
        self._beat = Beat(step.ledger, claim, step.measured)
        self._ends = time.monotonic() + ROLL_S  #: the claim takes no more documents after this
        self._since = time.monotonic()  #: time of the stage up to here has been attributed to documents
        self._opened: dict[str, OpenDocument] = {}
        self._failed: set[str] = set()
        self._touched: set[str] = set()  #: documents whose points were changed since they were last recorded
        self._ahead: deque[_Window] = deque()
        self.indexed: list[str] = []  #: ids of the documents that are recorded as indexed

    def run(self) -> None:
        """Embed and write window after window; see `IndexStep.run`."""
        step = self._step
        embedding = ReusingEmbedder(step.embedder, step.measured.busy, step.cache)
        with embedding as embedder, closing(self._windows()) as windows:
            for rows in windows:
                self._beat()
                step.store.yield_turn()
                lent = self._lent(rows)
                fresh = [chunk.embed_text for _, chunk, known in rows if known not in lent]
                self._ahead.append(_Window(rows, lent, embedder.submit(fresh)))
                if len(self._ahead) > AHEAD:
                    self._write_oldest()
            while self._ahead:
                self._beat()
                self._write_oldest()
        self._finish()

    def _lent(self, rows: Sequence[_Row]) -> dict[str, Embedding]:
        """Vectors that other documents lend, by the ids in the rows."""
        asked: dict[str, list[str]] = {}
        for entry, _, lent in rows:
            if lent:
                asked.setdefault(entry.lends or self._physical, []).append(lent)
        found: dict[str, Embedding] = {}
        for physical, ids in asked.items():
            # A generation may have been dropped meanwhile: then its texts are embedded.
            with suppress(CollectionMissing):
                found |= self._step.store.vectors(physical, ids)
        return found

    def settle(self) -> None:
        """Delete the points of documents that were deleted meanwhile; if this fails, `verify` finds them.

        Also after an error: if a lease was lost just before the last write, no document owns the points it wrote.
        """
        gone = self._step.ledger.work.recheck(list(self._touched)) if self._touched else set()
        if gone:
            try:
                self._step.store.delete_documents(self._physical, sorted(gone))
            except KbError as error:
                documents = plural(len(gone), "deleted document")
                log.warning("points of %s may be left, run `kb-ingest verify`: %s", documents, error)

    def _windows(self) -> Generator[list[_Row]]:
        """Chunks that the store lacks, in windows; opens the documents meanwhile, and claims more of them."""
        documents: Sequence[ClaimedDocument] = self._claim.documents
        window: list[_Row] = []
        tokens = 0
        while documents:
            for row in self._rows(documents):
                window.append(row)
                tokens += row[1].token_count
                if tokens >= self._step.window_tokens or len(window) >= WINDOW_CHUNKS:
                    yield window
                    window, tokens = [], 0
            documents = self._more(max(1, self._step.window_tokens - tokens))
        if window:
            yield window

    def _more(self, tokens: int) -> Sequence[ClaimedDocument]:
        """Take further documents with about so many tokens into the claim."""
        if time.monotonic() >= self._ends:
            return ()
        step = self._step
        found = step.ledger.work.more(self._claim, tokens, MORE_DOCUMENTS, step.measured)
        if found:
            step.outcomes.more(len(found))
            open_ones = (entry.document for entry in self._opened.values())
            self._claim = self._beat.claim = replace(self._claim, documents=(*open_ones, *found))
        return found

    def _rows(self, documents: Sequence[ClaimedDocument]) -> Iterator[_Row]:
        """The chunks of documents that the store lacks; opens each document before its first chunk."""
        step = self._step
        points = step.store.document_points(self._physical, [document.id for document in documents])
        lenders = step.ledger.work.lenders([document for document in documents if not points[document.id]], step.fingerprint)
        for document, there, data in self._files(documents):
            try:
                with there.open(data) as (header, chunks):
                    before, lender = points.get(document.id, {}), lenders.get(document.id)
                    fitted = self._fields.of(document, header.metadata)
                    entry = self._opened[document.id] = open_document(document, header, before, lender, fitted)
                    for chunk, lent in self._missing(entry, chunks):
                        entry.waiting += 1
                        entry.waiting_tokens += chunk.token_count
                        yield entry, chunk, lent
            except DocumentError as error:
                # The chunk file is missing or truncated: make it again from the staged copy.
                with step.outcomes.about(document):
                    log.info("parsing %s again: %s", document.uri, error)
                self._opened.pop(document.id, None)
                self._failed.add(document.id)
                step.ledger.work.send_back(self._claim, [document.id], DocumentState.PENDING)

    def _files(self, documents: Sequence[ClaimedDocument]) -> Iterator[tuple[ClaimedDocument, ChunkFile, bytes | None]]:
        """The documents with their chunk files, and the contents of small ones."""
        staging = self._step.staging
        for start in range(0, len(documents), READ_TOGETHER):
            some = documents[start : start + READ_TOGETHER]
            files = [ChunkFile.of_version(staging, document) for document in some]
            small = staging.small_chunks([file.key for file in files])
            yield from ((document, file, small.get(file.key)) for document, file in zip(some, files, strict=True))

    def _missing(self, entry: OpenDocument, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, str]]:
        """Chunks that the store lacks, with the id of a point that may lend the vector; updates `entry` for all chunks."""
        limit = self._step.embedder.info.max_tokens
        for chunk in chunks:
            entry.chunks += 1
            entry.tokens += chunk.token_count
            entry.lengths[token_bin(chunk.token_count, limit)] += 1
            entry.cut += 0 < limit < chunk.token_count
            lent = entry.lender.next(chunk.embed_text) if entry.lender else ""
            there = entry.stale.pop(chunk.id, None)
            if there is None:
                yield chunk, lent
            elif there != (meta := meta_of(chunk)):
                entry.moved[chunk.id] = meta
        entry.read = True

    def _write_oldest(self) -> None:
        """Write the oldest window to the store, and finish the documents that it completes."""
        window = self._ahead.popleft()
        self._write(window, window.vectors.result(self._beat))
        self._finish()
        for entry in {id(row[0]): row[0] for row in window.rows}.values():
            if entry.document.id in self._opened:
                self._beat.advance(entry.advance())

    def _write(self, window: _Window, vectors: NDArray[np.float32]) -> None:
        """Write a window's points; documents with a bad vector fail."""
        step, there_ns = self._step, time.time_ns()
        fresh = [entry for entry, _, known in window.rows if known not in window.lent]
        for row in bad_rows(vectors):
            self._fail(fresh[row])
        held, computed = step.ledger.work.still_held(self._claim), iter(vectors)
        ready = []
        for entry, chunk, known in window.rows:
            entry.waiting -= 1
            entry.waiting_tokens -= chunk.token_count
            lent = window.lent.get(known)
            made = embedding_of(next(computed)) if lent is None else lent
            if entry.document.id in self._failed or entry.document.id not in held:
                continue
            ready.append((entry.info, EmbeddedChunk(chunk, made.vector, made.parts)))
            entry.embedded += lent is None
        if ready:
            began = time.monotonic()
            step.store.upsert(self._physical, ready)
            step.measured.observe("upsert_seconds", "", time.monotonic() - began)
        self._share(window, there_ns)
        self._touched.update(info.id for info, _ in ready)

    def _share(self, window: _Window, there_ns: int) -> None:
        """Attribute the time since the last window to the documents of this one, by their tokens."""
        spent, self._since = time.monotonic() - self._since, time.monotonic()
        tokens = sum(chunk.token_count for _, chunk, _ in window.rows)
        self._step.paced(tokens, spent)
        for entry, chunk, _ in window.rows:
            entry.seconds += spent * chunk.token_count / max(1, tokens)
            entry.times.window(there_ns)
        fills = self._step.embedder.fills
        while fills:
            self._step.measured.observe("batch_fill", "", fills.popleft())

    def _fail(self, entry: OpenDocument) -> None:
        step, document = self._step, entry.document
        if document.id not in self._failed:
            self._failed.add(document.id)
            why = f"{step.embedder.info.model} returned NaN, infinite or all-zero numbers"
            if step.ledger.work.fail(self._claim, document.id, Reason.BAD_VECTOR, why):
                step.outcomes.failed(document, Reason.BAD_VECTOR, why, entry.times.opened_ns)

    def _finish(self) -> None:
        """Close the complete documents; make the store hold exactly their new version, then record it.

        Old points are deleted before the ledger says `indexed`: in the other order, a crash in between would leave points
        that no document owns. Until the ledger says so, the document is open and will be compared again.
        """
        done = [entry for entry in self._opened.values() if entry.read and not entry.waiting]
        if not done:
            return
        step = self._step
        held = step.ledger.work.still_held(self._claim)
        results: dict[str, tuple[OpenDocument, IndexedResult]] = {}
        for entry in done:
            document = entry.document
            del self._opened[document.id]
            if document.id in self._failed or document.id not in held:
                continue
            entry.times.writing_ns = entry.times.writing_ns or time.time_ns()
            self._replace(entry)
            results[document.id] = (entry, self._result(entry))
            self._measure(entry)
        step.store.flush(self._physical)
        written_ns = time.time_ns()
        kept = step.ledger.work.indexed(self._claim, [result for _, result in results.values()], step.measured)
        self._touched -= kept
        for entry, result in (results[key] for key in results if key in kept):
            entry.times.written_ns = written_ns
            step.outcomes.indexed(entry.document, result, entry.times, step.embedder.info.device)
        self.indexed += [key for key in results if key in kept]

    def _replace(self, entry: OpenDocument) -> None:
        """Bring the points that stay up to date, and delete those of the old version."""
        store, stale = self._step.store, list(entry.stale)
        if stale or entry.moved:
            self._touched.add(entry.document.id)
        if entry.moved:
            store.update_meta(self._physical, entry.moved)
        if entry.stored:
            store.update_document(self._physical, entry.info)
        if stale:
            store.delete_points(self._physical, stale)

    def _result(self, entry: OpenDocument) -> IndexedResult:
        return IndexedResult(
            id=entry.document.id,
            content_hash=entry.document.content_hash,
            parse_fingerprint=entry.document.parse_fingerprint,
            embed_fingerprint=self._step.fingerprint,
            chunks=entry.chunks,
            embedded=entry.embedded,
            tokens=entry.tokens,
            seconds=entry.seconds,
            metadata=dict(entry.info.metadata),
            left_out=entry.left_out,
        )

    def _measure(self, entry: OpenDocument) -> None:
        """Count a finished document; not earlier, because a document that is retried would count again."""
        measured, run = self._step.measured, str(entry.document.run)
        measured.observe("stage_seconds", Stage.EMBED, entry.seconds)
        measured.add(CHUNK_LIMIT, run, bound=str(self._step.embedder.info.max_tokens))
        for length, chunks in entry.lengths.items():
            measured.add(CHUNK_TOKENS, run, chunks, str(length))
        if entry.cut:
            measured.add(CHUNK_TOKENS, run, entry.cut, UNBOUNDED)
