"""A document on its way into the store: what is known of its old points and of its new chunks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pipeline.chunk.file import ChunkFileHeader
from pipeline.ledger.advances import Advance
from pipeline.ledger.claims import ClaimedDocument
from pipeline.ledger.work import Lender
from pipeline.metadata import Fitted
from pipeline.sources.uris import folder_of, name_of
from pipeline.steps.outcomes import Times
from pipeline.types import Chunk, ChunkIds, DocumentInfo, PointMeta


@dataclass(slots=True)
class OpenDocument:
    """A document on its way into the store."""

    document: ClaimedDocument
    info: DocumentInfo
    stored: bool  #: whether it had points before
    stale: dict[str, PointMeta]  #: stored points not yet found in the new version
    lender: ChunkIds | None  #: ids of the chunks of another document with the same bytes
    lends: str  #: the physical collection of that document; empty: this one's
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
    left_out: tuple[tuple[str, str], ...] = ()  #: fields of metadata that are not stored, and why
    read: bool = False  #: whether all chunks have been read

    def advance(self) -> Advance:
        """Its progress."""
        return Advance(self.document.id, self.chunks - self.waiting, self.tokens - self.waiting_tokens, self.embedded)


def open_document(
    document: ClaimedDocument, header: ChunkFileHeader, before: dict[str, PointMeta], lender: Lender | None, fitted: Fitted
) -> OpenDocument:
    """A document whose chunk file begins with `header`, whose points were `before`, and which may borrow vectors."""
    info = DocumentInfo(
        id=document.id,
        uri=document.uri,
        title=header.title or name_of(document.uri),
        media_type=header.media_type,
        content_hash=document.content_hash,
        folder=folder_of(document.uri),
        metadata=tuple(fitted.values.items()),
    )
    ids, lends = (ChunkIds(lender.id), lender.physical) if lender is not None else (None, "")
    return OpenDocument(document, info, stored=bool(before), stale=before, lender=ids, lends=lends, left_out=fitted.left_out)


def meta_of(chunk: Chunk) -> PointMeta:
    """The place of a chunk in its document, as its point stores it."""
    return PointMeta(
        ordinal=chunk.ordinal,
        page_first=chunk.page_first,
        page_last=chunk.page_last,
        char_start=chunk.char_start,
        char_end=chunk.char_end,
    )
