"""Conversion of documents and chunks to Qdrant points and back; shared by server and embedded store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from pipeline.errors import CollectionMismatch
from pipeline.types import Chunk, DocumentInfo, EmbeddedChunk, Embedding, Hit, MetadataValue, PointMeta

#: Name of the embedding in every collection.
DENSE = "dense"
#: Name of the vectors of a chunk's parts, several of them for a point: a search takes the best.
PARTS = "parts"
#: Name of the BM25 weights in every new collection: it names their rules too. `pipeline.store.bm25` says when to change it.
SPARSE = "bm25-v2"
#: Payload fields with a keyword index: deletes and counts by document need one, filters are faster with one.
INDEXED_FIELDS = ("document_id", "uri", "folder", "media_type")
#: Payload fields of PointMeta, in the same order.
META_FIELDS = ("ordinal", "page_first", "page_last", "char_start", "char_end")
#: Payload field with the metadata of the document in one object, so that its names cannot collide with ours.
FIELDS = "fields"
#: Payload field that repeats, in one object, the fields that other software reads: LangChain expects metadata as one object.
METADATA = "metadata"
#: The fields it repeats. Compressed together with the fields themselves they take 26 bytes a chunk.
METADATA_FIELDS = ("uri", "title", "folder", "media_type", "heading_path", "page_first", "page_last", FIELDS)
#: Points in a page with texts or vectors; a page of both with 4,096 dimensions stays near 12 MB of JSON.
PAGE_POINTS = 256
#: Points in a page with ids and numbers only.
META_PAGE_POINTS = 1000

Point = tuple[DocumentInfo, EmbeddedChunk]
Payload = dict[str, object]

# Lone surrogates cannot be encoded as UTF-8, and NUL ends strings in too many programs downstream. One character replaces
# one, so that character offsets stay valid.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """`text` with every NUL and lone surrogate replaced by U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


def document_payload(document: DocumentInfo) -> Payload:
    """The fields that all points of a document share, except its id; empty metadata is stored too, so that it replaces others."""
    return {
        "uri": clean(document.uri),
        "title": clean(document.title),
        "folder": clean(document.folder),
        "media_type": clean(document.media_type),
        "content_hash": document.content_hash,
        FIELDS: {clean(name): _storable(value) for name, value in document.metadata},
    }


def meta_payload(meta: PointMeta) -> Payload:
    """The fields that may change while vector and text stay; None is stored too, so that it replaces a number."""
    return {name: getattr(meta, name) for name in META_FIELDS}


def payload_changes(fields: Payload) -> list[tuple[str | None, Payload]]:
    """The writes that change these fields of stored points: one for the payload itself, one for the copies in METADATA."""
    return [(None, fields), (METADATA, _metadata(fields))]


def payload_of(document: DocumentInfo, chunk: Chunk) -> Payload:
    """The whole payload of a chunk's point."""
    fields: Payload = {
        "document_id": document.id,
        **document_payload(document),
        "text": clean(chunk.text),
        "heading_path": [clean(heading) for heading in chunk.heading_path],
        **{name: getattr(chunk, name) for name in META_FIELDS},
    }
    if not document.metadata:
        del fields[FIELDS]
    return {**fields, METADATA: _metadata(fields)}


def meta_of(payload: Mapping[str, object]) -> PointMeta:
    """The meta of a stored point."""
    return PointMeta(
        ordinal=_number(payload, "ordinal") or 0,
        page_first=_number(payload, "page_first"),
        page_last=_number(payload, "page_last"),
        char_start=_number(payload, "char_start"),
        char_end=_number(payload, "char_end"),
    )


def point_of(point_id: str, payload: Mapping[str, object], found: Embedding) -> Point:
    """Document and chunk of a stored point; the token count is not stored and comes back as 0."""
    document = DocumentInfo(
        id=_text(payload, "document_id"),
        uri=_text(payload, "uri"),
        title=_text(payload, "title"),
        media_type=_text(payload, "media_type"),
        content_hash=_text(payload, "content_hash"),
        folder=_text(payload, "folder"),
        metadata=tuple(metadata_of(payload).items()),
    )
    meta = meta_of(payload)
    chunk = Chunk(
        id=point_id,
        document_id=document.id,
        ordinal=meta.ordinal,
        text=_text(payload, "text"),
        token_count=0,
        heading_path=_headings(payload),
        page_first=meta.page_first,
        page_last=meta.page_last,
        char_start=meta.char_start,
        char_end=meta.char_end,
    )
    return document, EmbeddedChunk(chunk, found.vector, found.parts)


def embedding_of(vectors: object) -> Embedding:
    """The embedding among the vectors of a stored point, as an engine gives them."""
    named = vectors if isinstance(vectors, dict) else {}
    dense, parts = named.get(DENSE), named.get(PARTS)
    return Embedding(dense if isinstance(dense, list) else [], tuple(parts) if isinstance(parts, list) else ())


def part_vectors(embedded: EmbeddedChunk) -> list[list[float]]:
    """The vectors of the parts of a chunk, as they are stored; a chunk that comes from a collection without parts is one."""
    return list(embedded.parts) or [embedded.vector]


def in_order(points: Iterable[Point]) -> list[Chunk]:
    """The chunks of points by their place in the document."""
    return sorted((embedded.chunk for _, embedded in points), key=lambda chunk: chunk.ordinal)


def hit_of(point_id: str, score: float, payload: Mapping[str, object]) -> Hit:
    """One hit of a search."""
    meta = meta_of(payload)
    return Hit(
        score=score,
        uri=_text(payload, "uri"),
        title=_text(payload, "title"),
        text=_text(payload, "text"),
        heading_path=_headings(payload),
        page_first=meta.page_first,
        page_last=meta.page_last,
        char_start=meta.char_start,
        char_end=meta.char_end,
        document_id=_text(payload, "document_id"),
        chunk_id=point_id,
        ordinal=meta.ordinal,
        metadata=metadata_of(payload),
    )


def metadata_of(payload: Mapping[str, object]) -> dict[str, MetadataValue]:
    """The document's metadata in a stored point."""
    stored = payload.get(FIELDS)
    found = stored if isinstance(stored, dict) else {}
    return {str(name): tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def ranked(hits: Iterable[Hit]) -> list[Hit]:
    """Hits, best first.

    Engines leave the order of equal scores open. So those are in the order of their ids: the same question gets the same answer.
    """
    return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))


def check_vectors(points: Sequence[Point], dimension: int) -> None:
    """Raise ValueError unless every vector has `dimension` finite numbers and a length above zero.

    The engine would accept NaN, and it leaves a rejected batch half applied, so this check comes before any write.
    """
    rows = [(embedded.chunk.id, vector) for _, embedded in points for vector in (embedded.vector, *embedded.parts)]
    for chunk_id, vector in rows:
        if len(vector) != dimension:
            raise ValueError(f"chunk {chunk_id}: vector of {len(vector)} numbers, not {dimension}")
    if not points:
        return
    with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite and is found below
        vectors = np.array([vector for _, vector in rows], dtype=np.float32)
    good = np.isfinite(vectors).all(axis=1) & (vectors != 0).any(axis=1)
    if not good.all():
        bad = [rows[int(row)][0] for row in np.flatnonzero(~good)]
        count = "1 vector contains" if len(bad) == 1 else f"{len(bad)} vectors contain"
        raise ValueError(f"{count} NaN, infinity or only zeros; the first is of chunk {bad[0]}")


def mismatch(name: str, stored: int, asked: int) -> CollectionMismatch:
    """The error for a collection that exists with another dimension."""
    return CollectionMismatch(
        f"collection {name!r} holds vectors of {stored} numbers, this model makes {asked}: "
        "set KB_MODEL to the model it was made with, or load into another collection"
    )


def batches(points: Sequence[Point], max_points: int, max_bytes: int, number_bytes: int) -> Iterator[Sequence[Point]]:
    """Runs of `points` within both limits; a point that exceeds `max_bytes` on its own is sent alone.

    `number_bytes` is the size of one number of a vector when it is sent: 4 in process, about 22 as JSON.
    """
    start = size = 0
    for at, (document, embedded) in enumerate(points):
        # 1 KB covers ids, keys and numbers. Texts are counted at two bytes a character. A word's id and weight take 20 bytes
        # as JSON. The fields that METADATA repeats are sent twice.
        text, headings = embedded.chunk.text, embedded.chunk.heading_path
        repeated = len(document.uri) + len(document.title) + len(document.folder) + sum(len(heading) + 4 for heading in headings)
        repeated += sum(len(name) + len(str(value)) + 8 for name, value in document.metadata)
        numbers = len(embedded.vector) * (1 + len(embedded.parts))
        weight = number_bytes * numbers + 2 * len(text) + 4 * repeated + 20 * text.count(" ") + 1024
        if at > start and (at - start >= max_points or size + weight > max_bytes):
            yield points[start:at]
            start, size = at, 0
        size += weight
    if start < len(points):
        yield points[start:]


def _metadata(fields: Payload) -> Payload:
    return {name: fields[name] for name in METADATA_FIELDS if name in fields}


def _storable(value: MetadataValue) -> object:
    if isinstance(value, tuple):
        return [clean(one) for one in value]
    return clean(value) if isinstance(value, str) else value


def _text(payload: Mapping[str, object], name: str) -> str:
    value = payload.get(name)
    return value if isinstance(value, str) else ""


def _number(payload: Mapping[str, object], name: str) -> int | None:
    value = payload.get(name)
    return value if isinstance(value, int) else None


def _headings(payload: Mapping[str, object]) -> tuple[str, ...]:
    value = payload.get("heading_path")
    return tuple(str(heading) for heading in value) if isinstance(value, list) else ()
