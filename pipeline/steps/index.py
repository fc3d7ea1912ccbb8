"""The third step: chunk files become points, and points that a document no longer has go away."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from pipeline.chunkfile import read_chunks
from pipeline.discover import path_of
from pipeline.embed import Embedder, bad_rows
from pipeline.errors import DocumentError
from pipeline.ledger import Ledger
from pipeline.ledger.work import Claim, ClaimedDocument, IndexedResult
from pipeline.stage import Staging, chunks_key
from pipeline.steps.beat import Beat
from pipeline.steps.reuse import ReusingEmbedder, Vectors
from pipeline.store import VectorStore
from pipeline.types import Chunk, DocumentInfo, DocumentState, EmbeddedChunk, PointMeta, Reason

#: Chunks that are embedded together are as many as take about so long: enough to sort by length with little padding, few
#: enough to show progress and renew a lease often.
WINDOW_S = 3.0
WINDOW_CHUNKS = range(64, 4097)

#: Windows that are being embedded while the next one is read and the one before is written.
AHEAD = 2

_Window = list[tuple["_Open", Chunk]]


@dataclass(slots=True)
class _Open:
    """A document on its way into the store."""

    document: ClaimedDocument
    info: DocumentInfo
    stored: bool  #: whether it had points before
    stale: dict[str, PointMeta]  #: points that are there and have not been met in the new version
    chunks: int = 0  #: of the new version, so far
    moved: dict[str, PointMeta] = field(default_factory=dict)  #: chunks that stay as they are but elsewhere in the document
    embedded: int = 0
    waiting: int = 0  #: chunks that are not in the store yet
    read: bool = False  #: whether all chunks have been seen


class IndexStep:
    """Embeds the chunks of claimed documents and makes the store hold exactly them."""

    def __init__(self, ledger: Ledger, staging: Staging, embedder: Embedder, store: VectorStore, fingerprint: str) -> None:
        self._ledger = ledger
        self._staging = staging
        self._embedder = embedder
        self._store = store
        self._fingerprint = fingerprint  #: embed fingerprint
        wanted = int(embedder.info.chunks_per_s * WINDOW_S)
        self._window_chunks = max(WINDOW_CHUNKS.start, min(WINDOW_CHUNKS.stop - 1, wanted))

    def run(self, claim: Claim, physical: str) -> list[str]:
        """Index the claim's documents into a physical collection; return the ids that are indexed.

        Only chunks the store does not hold are embedded. New points are written before old ones go, so that a search
        meanwhile finds the old version whole. Every write is preceded by a look at the lease.

        Raises LeaseLost, StoreUnavailable, EmbedUnavailable, ModelError: documents that were complete by then are recorded,
        and running the claim's others again finishes them.
        """
        beat = Beat(self._ledger, claim)
        touched: set[str] = set()
        try:
            return self._run(claim, physical, beat, touched)
        finally:
            # However it ended: a lease may have been lost just before the last write, and what was written is nobody's then.
            if touched:
                self._ledger.work.recheck(list(touched))

    def _run(self, claim: Claim, physical: str, beat: Beat, touched: set[str]) -> list[str]:
        """The work of `run`; `touched` are the documents whose points were changed and that have not been recorded since."""
        points = self._store.document_points(physical, [document.id for document in claim.documents])
        opened: dict[str, _Open] = {}
        failed: set[str] = set()
        indexed: list[str] = []
        ahead: deque[tuple[_Window, Vectors]] = deque()

        def write() -> None:
            """Put the oldest window into the store, and end the documents that are complete with it."""
            window, pending = ahead.popleft()
            touched.update(self._write(claim, physical, window, pending.result(beat), failed))
            indexed.extend(self._finish(claim, physical, opened, failed, touched))

        with ExitStack() as stack, ReusingEmbedder(self._embedder) as embedder:
            for window in self._windows(claim, points, opened, failed, stack):
                beat()
                self._store.yield_turn()
                ahead.append((window, embedder.submit([chunk.embed_text for _, chunk in window])))
                if len(ahead) > AHEAD:
                    write()
            while ahead:
                beat()
                write()
        return indexed + self._finish(claim, physical, opened, failed, touched)

    def _write(self, claim: Claim, physical: str, window: _Window, vectors: NDArray[np.float32], failed: set[str]) -> set[str]:
        """Write a window's points; documents with a bad vector fail. Returns the ids of the documents written to."""
        bad = set(bad_rows(vectors))
        for row in bad:
            self._fail(claim, window[row][0].document.id, failed)
        held = self._ledger.work.still_held(claim)
        ready = []
        for row, (entry, chunk) in enumerate(window):
            entry.waiting -= 1
            if row in bad or entry.document.id in failed or entry.document.id not in held:
                continue
            ready.append((entry.info, EmbeddedChunk(chunk, vectors[row].tolist())))
            entry.embedded += 1
        if ready:
            self._store.upsert(physical, ready)
        return {info.id for info, _ in ready}

    def _windows(
        self, claim: Claim, points: dict[str, dict[str, PointMeta]], opened: dict[str, _Open], failed: set[str], stack: ExitStack
    ) -> Iterator[_Window]:
        """Chunks of all documents that must be embedded, in windows; fills `opened` on the way."""
        window: _Window = []
        for document in claim.documents:
            try:
                for chunk in self._chunks(document, points.get(document.id, {}), opened, stack):
                    entry = opened[document.id]
                    entry.waiting += 1
                    window.append((entry, chunk))
                    if len(window) >= self._window_chunks:
                        yield window
                        window = []
            except DocumentError:
                # The chunk file is gone or cut short: make it again from the staged copy.
                opened.pop(document.id, None)
                failed.add(document.id)
                self._ledger.work.send_back(claim, [document.id], DocumentState.PENDING)
        if window:
            yield window

    def _chunks(
        self, document: ClaimedDocument, before: dict[str, PointMeta], opened: dict[str, _Open], stack: ExitStack
    ) -> Iterator[Chunk]:
        path = path_of(document.uri)
        key = chunks_key(document.parse_fingerprint, document.content_hash, path.name)
        if not self._staging.has_chunks(key):
            raise DocumentError(Reason.STAGED_LOST, key)
        header, chunks = read_chunks(stack.enter_context(self._staging.chunks(key)), document.id)
        info = DocumentInfo(
            document.id, document.uri, header.title or path.name, header.media_type, document.content_hash, _folder(path)
        )
        entry = opened[document.id] = _Open(document, info, bool(before), before)
        for chunk in chunks:
            entry.chunks += 1
            there = entry.stale.pop(chunk.id, None)
            if there is None:
                yield chunk
            elif there != (meta := meta_of(chunk)):
                entry.moved[chunk.id] = meta
        entry.read = True

    def _fail(self, claim: Claim, document: str, failed: set[str]) -> None:
        if document not in failed:
            failed.add(document)
            model = self._embedder.info.model
            self._ledger.work.fail(claim, document, Reason.BAD_VECTOR, f"{model} gave NaN, infinite or all-zero numbers")

    def _finish(self, claim: Claim, physical: str, opened: dict[str, _Open], failed: set[str], touched: set[str]) -> list[str]:
        """Take the complete ones from `opened`; make what is there exactly their new version, then say so in the ledger.

        Old points go before the ledger says `indexed`: were it the other way round, a crash in between would leave
        points that nobody knows of. Until the ledger says so the document is open and will be compared again.
        """
        done = [entry for entry in opened.values() if entry.read and not entry.waiting]
        if not done:
            return []
        held = self._ledger.work.still_held(claim)
        results = []
        for entry in done:
            del opened[entry.document.id]
            if entry.document.id in failed or entry.document.id not in held:
                continue
            stale = list(entry.stale)
            if stale or entry.moved:
                touched.add(entry.document.id)
            if entry.moved:
                self._store.update_meta(physical, entry.moved)
            if entry.stored:
                self._store.update_document(physical, entry.info)
            if stale:
                self._store.delete_points(physical, stale)
            document = entry.document
            results.append(
                IndexedResult(
                    document.id,
                    document.content_hash,
                    document.parse_fingerprint,
                    self._fingerprint,
                    entry.chunks,
                    entry.embedded,
                )
            )
        self._store.flush(physical)
        kept = self._ledger.work.indexed(claim, results)
        touched -= kept
        return [result.id for result in results if result.id in kept]


def meta_of(chunk: Chunk) -> PointMeta:
    """What a chunk's point says about its place in the document."""
    return PointMeta(chunk.ordinal, chunk.page_first, chunk.page_last, chunk.char_start, chunk.char_end)


def _folder(path: PurePath) -> str:
    return str(path.parent).encode("utf-8", "replace").decode()
