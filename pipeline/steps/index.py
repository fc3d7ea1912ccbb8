"""The third step: turns chunk files into points and deletes the points that a document no longer has."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.chunk.file import read_chunks
from pipeline.embed.base import Embedder, bad_rows
from pipeline.errors import DocumentError, KbError
from pipeline.ledger import Ledger
from pipeline.ledger.advances import Advance
from pipeline.ledger.claims import Claim, ClaimedDocument
from pipeline.ledger.work import IndexedResult
from pipeline.sources.uris import folder_of, name_of
from pipeline.staging import Staging
from pipeline.staging.copies import chunks_key
from pipeline.steps.beat import Beat
from pipeline.steps.outcomes import Outcomes, Times
from pipeline.steps.reuse import ReusingEmbedder, Vectors
from pipeline.store.base import VectorStore
from pipeline.telemetry.counters import CHUNK_LIMIT, CHUNK_TOKENS, UNBOUNDED, Measured, token_bin
from pipeline.telemetry.spans import Tracing
from pipeline.types import Chunk, ChunkIds, DocumentInfo, DocumentState, EmbeddedChunk, PointMeta, Reason, Stage

log = logging.getLogger(__name__)

#: Chunks that are embedded together take about WINDOW_S seconds: enough of them to sort by length with little padding, few
#: enough to report progress and renew a lease often.
WINDOW_S = 3.0
WINDOW_CHUNKS = range(64, 4097)

#: Number of windows being embedded while the next one is read and the previous one is written.
AHEAD = 2

#: A document, one of its chunks, and the id of a point that may already have the chunk's vector; empty if there is none.
_Row = tuple["_Open", Chunk, str]


@dataclass(slots=True)
class _Window:
    """Chunks that are written together."""

    rows: list[_Row]
    lent: dict[str, list[float]]  #: vectors by the ids in the rows
    vectors: Vectors  #: vectors of the other rows, in order


@dataclass(slots=True)
class _Open:
    """A document on its way into the store."""

    document: ClaimedDocument
    info: DocumentInfo
    stored: bool  #: whether it had points before
    stale: dict[str, PointMeta]  #: stored points not yet found in the new version
    lender: ChunkIds | None  #: ids of the chunks of another document with the same bytes
    chunks: int = 0  #: chunks of the new version read so far
    tokens: int = 0
    lengths: Counter[int] = field(default_factory=Counter)  #: chunks by `token_bin`
    cut: int = 0  #: chunks over the model's limit, which the model truncates
    moved: dict[str, PointMeta] = field(default_factory=dict)  #: unchanged chunks at a new place in the document
    embedded: int = 0
    seconds: float = 0.0  #: its share of the time of the stage
    times: Times = field(default_factory=Times)
    waiting: int = 0  #: chunks not yet in the store
    waiting_tokens: int = 0  #: tokens of these chunks
    read: bool = False  #: whether all chunks have been read

    def advance(self) -> Advance:
        """Its progress."""
        return Advance(self.document.id, self.chunks - self.waiting, self.tokens - self.waiting_tokens, self.embedded)


class IndexStep:
    """Embeds the chunks of claimed documents, so that the store holds exactly these chunks."""

    def __init__(
        self, ledger: Ledger, staging: Staging, embedder: Embedder, store: VectorStore, fingerprint: str,
        measured: Measured | None = None, tracing: Tracing | None = None,
    ) -> None:  # fmt: skip
        self._ledger = ledger
        self._staging = staging
        self._embedder = embedder
        self._store = store
        self._fingerprint = fingerprint  #: embed fingerprint
        self._measured = measured or Measured()
        self._outcomes = Outcomes("embed", tracing)
        self._since = 0.0  #: monotonic; time of the stage up to here has been attributed to documents
        wanted = int(embedder.info.chunks_per_s * WINDOW_S)
        self._window_chunks = max(WINDOW_CHUNKS.start, min(WINDOW_CHUNKS.stop - 1, wanted))

    def run(self, claim: Claim, physical: str) -> list[str]:
        """Index the claim's documents into a physical collection; return the ids of the indexed ones.

        Only chunks that the store lacks are embedded. New points are written before old ones are deleted, so that a search
        in between finds the whole old version. The lease is checked before every write.

        Raises LeaseLost, StoreUnavailable, EmbedUnavailable, ModelError. Documents that were complete by then are recorded;
        the others are finished when they are claimed again.
        """
        beat = Beat(self._ledger, claim, self._measured)
        self._since = time.monotonic()
        self._embedder.fills.clear()  # drop those of calls outside the work on documents
        self._outcomes.begin(len(claim.documents))
        touched: set[str] = set()
        try:
            indexed = self._run(claim, physical, beat, touched)
            self._outcomes.end("indexed")
            return indexed
        finally:
            # Also after an error: if a lease was lost just before the last write, no document owns the points it wrote.
            if touched:
                self._settle(self._ledger.work.recheck(list(touched)), physical)

    def _settle(self, gone: set[str], physical: str) -> None:
        """Delete the points of documents that were deleted meanwhile; if this fails, `verify` finds them."""
        if gone:
            try:
                self._store.delete_documents(physical, sorted(gone))
            except KbError as error:
                documents = "1 deleted document" if len(gone) == 1 else f"{len(gone)} deleted documents"
                log.warning("points of %s may be left, run `kb-ingest verify`: %s", documents, error)

    def _run(self, claim: Claim, physical: str, beat: Beat, touched: set[str]) -> list[str]:
        """The work of `run`; `touched` holds the documents whose points were changed since they were last recorded."""
        points = self._store.document_points(physical, [document.id for document in claim.documents])
        lenders = self._ledger.work.lenders(
            [document for document in claim.documents if not points[document.id]], self._fingerprint
        )
        opened: dict[str, _Open] = {}
        failed: set[str] = set()
        indexed: list[str] = []
        ahead: deque[_Window] = deque()

        def write() -> None:
            """Write the oldest window to the store, and finish the documents that it completes."""
            window = ahead.popleft()
            touched.update(self._write(claim, physical, window, window.vectors.result(beat), failed))
            indexed.extend(self._finish(claim, physical, opened, failed, touched))
            for entry in {id(row[0]): row[0] for row in window.rows}.values():
                if entry.document.id in opened:
                    beat.advance(entry.advance())

        with ExitStack() as stack, ReusingEmbedder(self._embedder, self._measured.busy) as embedder:
            for rows in self._windows(claim, points, lenders, opened, failed, stack):
                beat()
                self._store.yield_turn()
                borrowed = [lent for _, _, lent in rows if lent]
                lent = self._store.vectors(physical, borrowed) if borrowed else {}
                fresh = [chunk.embed_text for _, chunk, known in rows if known not in lent]
                ahead.append(_Window(rows, lent, embedder.submit(fresh)))
                if len(ahead) > AHEAD:
                    write()
            while ahead:
                beat()
                write()
        return indexed + self._finish(claim, physical, opened, failed, touched)

    def _write(self, claim: Claim, physical: str, window: _Window, vectors: NDArray[np.float32], failed: set[str]) -> set[str]:
        """Write a window's points; documents with a bad vector fail. Returns the ids of the documents written to."""
        there_ns = time.time_ns()
        fresh = [entry for entry, _, known in window.rows if known not in window.lent]
        for row in bad_rows(vectors):
            self._fail(claim, fresh[row], failed)
        held, computed = self._ledger.work.still_held(claim), iter(vectors)
        ready = []
        for entry, chunk, known in window.rows:
            entry.waiting -= 1
            entry.waiting_tokens -= chunk.token_count
            lent = window.lent.get(known)
            vector = next(computed).tolist() if lent is None else lent
            if entry.document.id in failed or entry.document.id not in held:
                continue
            ready.append((entry.info, EmbeddedChunk(chunk, vector)))
            entry.embedded += lent is None
        if ready:
            began = time.monotonic()
            self._store.upsert(physical, ready)
            self._measured.observe("upsert_seconds", "", time.monotonic() - began)
        self._share(window, there_ns)
        return {info.id for info, _ in ready}

    def _share(self, window: _Window, there_ns: int) -> None:
        """Attribute the time since the last window to the documents of this one, by their tokens."""
        spent, self._since = time.monotonic() - self._since, time.monotonic()
        tokens = sum(chunk.token_count for _, chunk, _ in window.rows)
        for entry, chunk, _ in window.rows:
            entry.seconds += spent * chunk.token_count / max(1, tokens)
            entry.times.window(there_ns)
        while self._embedder.fills:
            self._measured.observe("batch_fill", "", self._embedder.fills.popleft())

    def _windows(
        self, claim: Claim, points: dict[str, dict[str, PointMeta]], lenders: dict[str, str], opened: dict[str, _Open],
        failed: set[str], stack: ExitStack,
    ) -> Iterator[list[_Row]]:  # fmt: skip
        """Chunks of all documents that the store lacks, in windows; fills `opened` meanwhile."""
        window: list[_Row] = []
        for document in claim.documents:
            try:
                with self._outcomes.about(document):
                    entry, chunks = self._open(document, points.get(document.id, {}), lenders.get(document.id, ""), stack)
                opened[document.id] = entry
                for chunk, lent in self._missing(entry, chunks):
                    entry.waiting += 1
                    entry.waiting_tokens += chunk.token_count
                    window.append((entry, chunk, lent))
                    if len(window) >= self._window_chunks:
                        yield window
                        window = []
            except DocumentError as error:
                # The chunk file is missing or truncated: make it again from the staged copy.
                with self._outcomes.about(document):
                    log.info("parsing %s again: %s", document.uri, error)
                opened.pop(document.id, None)
                failed.add(document.id)
                self._ledger.work.send_back(claim, [document.id], DocumentState.PENDING)
        if window:
            yield window

    def _open(
        self, document: ClaimedDocument, before: dict[str, PointMeta], lender: str, stack: ExitStack
    ) -> tuple[_Open, Iterator[Chunk]]:
        name = name_of(document.uri)
        key = chunks_key(document.parse_fingerprint, document.content_hash, name)
        if not self._staging.has_chunks(key):
            raise DocumentError(Reason.STAGED_LOST, key)
        header, chunks = read_chunks(stack.enter_context(self._staging.chunks(key)), document.id)
        info = DocumentInfo(
            document.id, document.uri, header.title or name, header.media_type, document.content_hash, folder_of(document.uri)
        )
        return _Open(document, info, bool(before), before, ChunkIds(lender) if lender else None), chunks

    def _missing(self, entry: _Open, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, str]]:
        """Chunks that the store lacks, with the id of a point that may lend the vector; updates `entry` for all chunks."""
        limit = self._embedder.info.max_tokens
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

    def _measure(self, entry: _Open) -> None:
        """Count a finished document; not earlier, because a document that is retried would count again."""
        run = str(entry.document.run)
        self._measured.observe("stage_seconds", Stage.EMBED, entry.seconds)
        self._measured.add(CHUNK_LIMIT, run, bound=str(self._embedder.info.max_tokens))
        for length, chunks in entry.lengths.items():
            self._measured.add(CHUNK_TOKENS, run, chunks, str(length))
        if entry.cut:
            self._measured.add(CHUNK_TOKENS, run, entry.cut, UNBOUNDED)

    def _fail(self, claim: Claim, entry: _Open, failed: set[str]) -> None:
        document, why = entry.document, f"{self._embedder.info.model} returned NaN, infinite or all-zero numbers"
        if document.id not in failed:
            failed.add(document.id)
            if self._ledger.work.fail(claim, document.id, Reason.BAD_VECTOR, why):
                self._outcomes.failed(document, Reason.BAD_VECTOR, why, entry.times.opened_ns)

    def _finish(self, claim: Claim, physical: str, opened: dict[str, _Open], failed: set[str], touched: set[str]) -> list[str]:
        """Take the complete documents from `opened`; make the store hold exactly their new version, then record it.

        Old points are deleted before the ledger says `indexed`: in the other order, a crash in between would leave points
        that no document owns. Until the ledger says so, the document is open and will be compared again.
        """
        done = [entry for entry in opened.values() if entry.read and not entry.waiting]
        if not done:
            return []
        held = self._ledger.work.still_held(claim)
        results: dict[str, tuple[_Open, IndexedResult]] = {}
        for entry in done:
            del opened[entry.document.id]
            if entry.document.id in failed or entry.document.id not in held:
                continue
            stale, entry.times.writing_ns = list(entry.stale), entry.times.writing_ns or time.time_ns()
            if stale or entry.moved:
                touched.add(entry.document.id)
            if entry.moved:
                self._store.update_meta(physical, entry.moved)
            if entry.stored:
                self._store.update_document(physical, entry.info)
            if stale:
                self._store.delete_points(physical, stale)
            document = entry.document
            result = IndexedResult(
                document.id, document.content_hash, document.parse_fingerprint, self._fingerprint, entry.chunks, entry.embedded,
                entry.tokens, entry.seconds,
            )  # fmt: skip
            results[document.id] = (entry, result)
            self._measure(entry)
        self._store.flush(physical)
        written_ns = time.time_ns()
        kept = self._ledger.work.indexed(claim, [result for _, result in results.values()], self._measured)
        touched -= kept
        for entry, result in (results[key] for key in results if key in kept):
            entry.times.written_ns = written_ns
            self._outcomes.indexed(entry.document, result, entry.times, self._embedder.info.device)
        return [key for key in results if key in kept]


def meta_of(chunk: Chunk) -> PointMeta:
    """The place of a chunk in its document, as its point stores it."""
    return PointMeta(chunk.ordinal, chunk.page_first, chunk.page_last, chunk.char_start, chunk.char_end)
