"""The frozen values that flow from one stage to the next; nothing internal is imported here."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, TypeAlias


class DocumentState(StrEnum):
    """The state of a document's processing; kept in the ledger."""

    PENDING = "pending"  # staged; waits for a parse worker
    PARSING = "parsing"  # a parse worker holds its lease
    PARSED = "parsed"  # its chunk file is in staging; waits for an embed worker
    EMBEDDING = "embedding"  # an embed worker holds its lease
    INDEXED = "indexed"  # the store holds exactly its points
    QUARANTINED = "quarantined"  # not retried automatically; `reason` says why
    SKIPPED = "skipped"  # left out on purpose; `reason` says why
    DELETED = "deleted"  # gone from its source; its points are removed after a grace period, and then its row


#: States of documents that are not finished yet.
OPEN_STATES = (DocumentState.PENDING, DocumentState.PARSING, DocumentState.PARSED, DocumentState.EMBEDDING)


class Stage(StrEnum):
    """A stage that has a queue of its own."""

    PARSE = "parse"
    EMBED = "embed"

    @property
    def waiting(self) -> DocumentState:
        """The state of documents that wait for this stage."""
        return DocumentState.PENDING if self is Stage.PARSE else DocumentState.PARSED

    @property
    def running(self) -> DocumentState:
        """The state of documents in this stage."""
        return DocumentState.PARSING if self is Stage.PARSE else DocumentState.EMBEDDING


#: Stand for a stage in the leases of a running schedule and of a loading run: these leases hold no documents.
SCHEDULE, RUN = "schedule", "run"


class Reason(StrEnum):
    """Why a document was quarantined or skipped; a stable code for readers and scripts."""

    EMPTY_FILE = "empty_file"  # zero bytes or white space only: skipped; nothing is lost
    EMPTY_TEXT = "empty_text"  # the file has bytes, but its parser found no text
    NEEDS_OCR = "needs_ocr"  # its pages are images of text
    ENCRYPTED = "encrypted"  # needs a password
    CORRUPT = "corrupt"  # the parser refused it
    TOO_LARGE = "too_large"  # over the size, element or unpacking limits
    TIMEOUT = "timeout"  # the parser exceeded its wall-clock or CPU limit
    OUT_OF_MEMORY = "out_of_memory"  # the parser exceeded its memory limit
    CRASHED = "crashed"  # the parser's process died, twice
    UNSUPPORTED = "unsupported"  # no parser for this kind of content
    UNREADABLE = "unreadable"  # the file could not be read while staging
    CHANGED = "changed"  # the file kept changing while it was being copied
    WORKER_LOST = "worker_lost"  # its worker died in each of the allowed attempts
    BAD_VECTOR = "bad_vector"  # the model gave NaN, infinite or all-zero numbers
    STAGED_LOST = "staged_lost"  # its copy in staging is gone or damaged

    @property
    def skips(self) -> bool:
        """Whether a document with this reason is skipped: the file is as it should be, but holds nothing that can be read."""
        return self in _SKIPS


class Program(StrEnum):
    """A program that need not be installed, without which some documents are skipped."""

    OCR = "OCR"  # for scans and images
    LIBREOFFICE = "LibreOffice"  # for office files from before 2007
    DJVULIBRE = "DjVuLibre"


#: How the details of documents begin that were skipped without a program, as `unsupported`.
UNREAD = {
    Program.OCR: ("PNG image", "JPEG image", "TIFF image", "WEBP media"),
    Program.LIBREOFFICE: ("Word 97", "PowerPoint 97"),
    Program.DJVULIBRE: ("DjVu document",),
}

_SKIPS = frozenset((Reason.EMPTY_FILE, Reason.EMPTY_TEXT, Reason.NEEDS_OCR, Reason.ENCRYPTED, Reason.UNSUPPORTED))


class LossKind(StrEnum):
    """What a parser saw in a document and did not turn into text; a stable code for readers and scripts."""

    PAGE_WITHOUT_TEXT = "page_without_text"  # a scanned page, or one whose fonts name no characters
    LOW_CONFIDENCE = "low_confidence"  # lines of a scan that OCR read, and was not sure of
    PICTURE = "picture"  # a picture without alternative text
    CHART = "chart"  # a chart without text or stored values
    EMBEDDED_OBJECT = "embedded_object"  # a file or media inside the document
    ATTACHMENT = "attachment"  # an attached file that was not read
    HIDDEN_SHEET = "hidden_sheet"  # a sheet that its program does not show
    FORMULA = "formula_without_value"  # a formula whose result the file does not hold; its text is kept
    ENCRYPTED_PART = "encrypted_part"
    UNREADABLE_PART = "unreadable_part"  # a part that is missing or damaged
    SCRIPTED_CONTENT = "scripted_content"  # content that a script would make
    CUT_TEXT = "cut_text"  # text beyond a limit
    MACHINE_TEXT = "machine_text"  # base64 and other text that is not for people
    METADATA = "metadata"  # a value of the document's metadata that was left out; its place is the field
    RECORD = "record"  # a record that is no document of its own, as it should be: unreadable, without id or text, or repeated
    UNDECODABLE_BYTES = "undecodable_bytes"  # bytes that are no character of the text's encoding


@dataclass(frozen=True, slots=True)
class Loss:
    """Something in a document that did not become text."""

    kind: LossKind
    place: str  #: page, part or range of cells; empty: the document
    detail: str = ""  #: what it is, or why it was left out
    count: int = 1  #: number of things of that kind there


#: How a search compares: by the meaning of the question (dense), by its words (sparse), or by both, fused by score (hybrid).
SearchMode = Literal["hybrid", "dense", "sparse"]
#: Whose stems the words of texts get: each text's own, none, or those of one language.
Language = Literal[
    "auto",
    "none",
    "en",
    "de",
    "fr",
    "es",
    "it",
    "pt",
    "nl",
    "sv",
    "da",
    "no",
    "fi",
    "hu",
    "pl",
    "cs",
    "ro",
    "tr",
    "ca",
    "id",
    "ru",
    "el",
    "ar",
    "hy",
]


class ElementKind(StrEnum):
    """The role of a piece of a document."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST_ITEM = "list_item"
    TABLE_ROW = "table_row"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file or object that discovery found."""

    uri: str  #: identity of the document, such as `file:///...` or `s3://...`, percent-encoded, stable between runs
    path: Path | None  #: where it can be read now; None for one elsewhere, which is read by its uri
    size: int  #: bytes; -1 of a page, whose size is not known before it is fetched
    mtime_ns: int  #: modification time, nanoseconds since the epoch; elsewhere, a number that distinguishes its versions
    modified: float | None = None  #: when it was modified, in seconds since the epoch, where its place tells
    created: float | None = None  #: when it was created, likewise
    facts: tuple[tuple[str, str], ...] = ()  #: metadata that its place tells of this version, such as the commit that it is from
    validators: str = ""  #: of a page, as JSON: what its server wants to hear to say that this version is still the current one


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A copy in staging whose content is known to have this hash."""

    source: SourceFile
    content_hash: str  #: sha256 of the bytes, hexadecimal
    location: str  #: key of the copy inside staging


@dataclass(frozen=True, slots=True)
class Element:
    """One structural piece of a document, in reading order."""

    text: str
    kind: ElementKind = ElementKind.PARAGRAPH
    level: int = 0  #: depth of a heading, 1 the highest; 0 for everything else
    page: int | None = None  #: page, slide or sheet, 1-based, where the format has them
    char_start: int | None = None  #: offset into the decoded text, where the parser knows it
    char_end: int | None = None  #: exclusive
    header: str = ""  #: for table rows: the header line that is repeated in every chunk
    record: int | None = None  #: number of the record that it is a part of: two records never share a chunk


#: Maximum length of the id of a record: it is part of a URI, which databases index.
MAX_RECORD_ID_CHARS = 200


@dataclass(frozen=True, slots=True)
class RecordFields:
    """How the records of a file become documents: lines of JSON lines, objects of an array in JSON, rows of a table.

    A field inside an object is named by its path, as in `author.name`.
    """

    id: str = ""  #: field that is the id; empty: `id` or `_id`, and a hash of the record where it has neither
    text: tuple[str, ...] = ()  #: fields that are text, in this order; empty: all others
    metadata: tuple[str, ...] = ()  #: fields that are metadata
    wanted: bool = True  #: False: the file is one document, also if its records were documents before
    array: str = ""  #: of a JSON object, the path of the array with the records; empty: its only array of objects


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document with up to the model's maximum number of tokens."""

    id: str  #: uuid, also the id of its point
    document_id: str  #: uuid
    ordinal: int  #: 0-based position in the document
    text: str
    token_count: int  #: tokens of `embed_text`, special tokens included
    heading_path: tuple[str, ...] = ()
    page_first: int | None = None  #: 1-based, inclusive
    page_last: int | None = None
    char_start: int | None = None  #: offsets into the decoded text
    char_end: int | None = None

    @property
    def embed_text(self) -> str:
        """The text the model sees: the heading path on a line of its own, then the chunk's text."""
        return embed_text(self.heading_path, self.text)


@dataclass(frozen=True, slots=True)
class Embedding:
    """The vectors of a text."""

    vector: list[float]  #: of the whole; unit length, one number per dimension
    parts: tuple[list[float], ...] = ()  #: of its parts, in order, if they have vectors of their own


@dataclass(frozen=True, slots=True)
class EmbeddedChunk:
    """A chunk with its embedding."""

    chunk: Chunk
    vector: list[float]  #: unit length, one number per dimension
    parts: tuple[list[float], ...] = ()  #: vectors of its parts, in collections that have them


#: A value of a document's metadata: a text, number, truth value or list of texts; times are texts of ISO 8601 in UTC.
MetadataValue: TypeAlias = str | int | float | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search."""

    score: float  #: dense: cosine similarity; sparse: BM25, 0 and up; hybrid: 0 to 1, 1 for the best by both
    uri: str
    title: str
    text: str
    heading_path: tuple[str, ...]
    page_first: int | None
    page_last: int | None
    char_start: int | None
    char_end: int | None
    document_id: str
    chunk_id: str
    ordinal: int = 0  #: place of the chunk in its document
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)  #: of the document
    copies: tuple[str, ...] = ()  #: uris of other documents with the same text, which are no hits of their own
    before: tuple[str, ...] = ()  #: texts of the chunks before it, if they were asked for
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refinement:
    """What a search does with the best chunks."""

    rerank: bool = True  #: whether the configured reranker orders them
    min_score: float | None = None  #: hits with a lower score are left out; a reranker's score where there is one
    per_document: int | None = None  #: maximum number of hits of one document
    diversity: float = 0.0  #: 0: best first; up to 1: each hit as unlike those before it as possible
    neighbours: int = 0  #: number of chunks of the same document to add before and after each hit


#: A search by score alone.
PLAIN = Refinement()


@dataclass(frozen=True, slots=True)
class Results:
    """What a search found."""

    hits: list[Hit]  #: best first
    reranked: bool = False  #: whether the scores are a reranker's
    note: str = ""  #: human-readable: what could not be done


@dataclass(frozen=True, slots=True)
class PointMeta:
    """The metadata of a stored point besides the text: everything that may change while the vector stays."""

    ordinal: int
    page_first: int | None = None
    page_last: int | None = None
    char_start: int | None = None
    char_end: int | None = None


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """Metadata that every point of a document carries."""

    id: str
    uri: str
    title: str = ""
    media_type: str = ""
    content_hash: str = ""
    folder: str = field(default="")  #: path of the parent folder, for filters
    metadata: tuple[tuple[str, MetadataValue], ...] = ()  #: pairs of name and value


#: Namespace of all ids of this project; never change it: every stored point's id depends on it.
NAMESPACE = uuid.UUID("5a1d5be2-7f0c-5cbb-9d3a-6b0d0e4b8f11")


def embed_text(heading_path: tuple[str, ...], text: str) -> str:
    """Join heading path and text the way the model sees them."""
    return " > ".join(heading_path) + "\n" + text if heading_path else text


def document_id(collection: str, uri: str) -> str:
    """The id of the document at `uri` in `collection`: the same in every run and on every host."""
    return _uuid5(NAMESPACE.bytes, f"{collection}\n{uri}")


def chunk_id(document: str, embedded_text: str, occurrence: int) -> str:
    """The id of a chunk and of its point.

    It depends only on the text and on the 0-based occurrence of that text in the document. An edit elsewhere in the document
    leaves it unchanged.
    """
    return _chunk_id(uuid.UUID(document).bytes, embedded_text.encode("utf-8", "surrogatepass"), occurrence)


def _chunk_id(document: bytes, embedded_text: bytes, occurrence: int) -> str:
    return _uuid5(document, f"{hashlib.sha256(embedded_text).hexdigest()}:{occurrence}")


def _uuid5(namespace: bytes, name: str) -> str:
    """What `str(uuid.uuid5(...))` gives, in a third of the time: it makes two objects that nobody needs."""
    made = bytearray(hashlib.sha1(namespace + name.encode(), usedforsecurity=False).digest()[:16])
    made[6], made[8] = made[6] & 0x0F | 0x50, made[8] & 0x3F | 0x80  # version and variant
    digits = made.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class ChunkIds:
    """The ids of a document's chunks, requested in order; remembers 16 bytes per text instead of the text."""

    def __init__(self, document: str) -> None:
        self._document = uuid.UUID(document).bytes
        self._seen: dict[bytes, int] = {}

    def next(self, embedded_text: str) -> str:
        """The id of the next chunk with this text."""
        text = embedded_text.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, digest_size=16).digest()
        occurrence = self._seen.get(digest, 0)
        self._seen[digest] = occurrence + 1
        return _chunk_id(self._document, text, occurrence)
