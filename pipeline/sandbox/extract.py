"""Turns a file into its chunk file: gate, parse, chunk, write; runs inside the guarded child."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from pipeline.chunk.file import ChunkFileHeader, SmallFile, write_chunks
from pipeline.chunk.pack import CHUNKER_VERSION, chunk_elements
from pipeline.chunk.units import ChunkOptions
from pipeline.errors import DocumentError
from pipeline.metadata import fields_from_json
from pipeline.model.tokens import TokenCounter
from pipeline.parse import PARSER_VERSION, Member, Parsed, each_record, parse
from pipeline.parse.gate import Limits, inspect
from pipeline.parse.kinds import COMPRESSED, HOLDING_RECORDS, RECORD
from pipeline.parse.ocr.scans import Scans
from pipeline.sandbox.records import RECORDS, write_records
from pipeline.types import Chunk, Element, Loss, LossKind, Reason

#: What the standard library raises for damaged archives.
_DAMAGED = (
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)
#: Files in documents in documents: an attached archive with a mail in it is three deep.
MAX_DEPTH = 3
#: Maximum size of all files inside a document together, in multiples of the maximum size of one.
TOTAL_FILES = 16
#: Seconds between two progress reports of a document.
TELL_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class ExtractJob:
    """One document to extract; paths are text, because a job is sent as JSON."""

    path: str  #: the staged copy, or a file that has it as a part
    name: str  #: the file's original name; its ending takes part in deciding the type
    document_id: str
    output: str  #: where to write the chunk file
    nested: bool = False  #: whether it lies so deep in other documents that files in it stay unread
    records: str = ""  #: how its records are documents, as `fields_as_json` has it; empty: they are not
    is_record: bool = False  #: whether it is a record of a file, as `parse_record` reads it
    offset: int = 0  #: where the document begins in the file
    length: int = -1  #: bytes of it; -1: the whole file
    small_bytes: int = -1  #: a chunk file of at most this size is handed over in memory, and `output` is not written

    def fields(self) -> dict[str, str | bool | int]:
        """Its fields by name; asdict, which copies them deeply, takes ten times as long."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def size(self) -> int:
        """Bytes of the document; 0 for a file that does not exist."""
        if self.length >= 0:
            return self.length
        try:
            return os.stat(self.path).st_size
        except OSError:
            return 0


@dataclass(frozen=True, slots=True)
class Extracted:
    """The result of an extraction."""

    media_type: str
    title: str  #: empty where the document has none
    chunks: int
    tokens: int
    losses: tuple[Loss, ...] = ()  #: what did not become text
    metadata: dict[str, str] = field(default_factory=dict)  #: the document's own fields
    members: tuple[ExtractedMember, ...] = ()  #: files inside it, in the folder `members_folder(output)`
    records: int = 0  #: records that become documents, in the same folder
    whole: bool = True  #: whether all its records could be read
    scanned: bool = False  #: whether OCR has a say in its text: it has pages without text
    content: bytes | None = None  #: the chunk file, if it is small; otherwise it was written


@dataclass(frozen=True, slots=True)
class ExtractedMember:
    """A file inside a document that was written to a file of its own, or the reason why it was not."""

    name: str  #: its path inside the document
    file: str  #: name of the file that was written; empty where there is none
    reason: Reason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SoFar:
    """The progress of a document that is being extracted."""

    chunks: int
    tokens: int
    share: float | None  #: share of the document that its parser has read; None where unknown
    more_s: float = 0.0  #: seconds that the document may take longer, for a page that OCR begins to read


def extract(
    job: ExtractJob,
    counter: TokenCounter,
    options: ChunkOptions,
    limits: Limits,
    tell: Callable[[SoFar], None] = lambda _: None,
    on_type: Callable[[str], None] = lambda _: None,
) -> Extracted:
    """Write the chunk file of a document; memory is bounded by the parser of its type.

    `tell` is called with the progress about every TELL_EVERY_S. `on_type` gets the media type before its parser is imported;
    an exception from it ends the extraction. Raises DocumentError with the reason for a missing chunk file,
    InstallationError, NoSpace. A file that yields no text is never a success.
    """
    path, output = Path(job.path), Path(job.output)
    file = SmallFile(output, job.small_bytes)
    try:
        media_type = RECORD if job.is_record else inspect(path, job.name, limits)
        on_type(media_type)
        if job.records and media_type in (*HOLDING_RECORDS, COMPRESSED) and not job.nested:
            on_type(RECORD)
            if (made := _of_records(job, media_type, limits, tell)) is not None:
                return made
        scans = Scans(limits.ocr, lambda seconds: tell(SoFar(0, 0, None, seconds)))
        parsed = parse(path, job.name, media_type, scans)
        # The name does not belong to the content: the same bytes may have another name elsewhere.
        title = parsed.title if parsed.title != job.name else ""
        chunks = chunk_elements(job.document_id, _with_text(parsed.elements), counter, options)
        media_type = parsed.media_type or media_type
        header = ChunkFileHeader(media_type, title, parsed.metadata)
        members: list[ExtractedMember] = []
        told = _told(chunks, parsed.share, tell)

        def ends() -> tuple[tuple[Loss, ...], int]:
            members.extend(_written(parsed, job, limits))
            return parsed.losses.all(), len(members)

        footer = write_chunks(file, header, told, ends)
        if not footer.chunks and not members:
            raise DocumentError(Reason.EMPTY_TEXT, f"the parser found no text in this {media_type}")
    except BaseException:
        file.close()
        output.unlink(missing_ok=True)
        shutil.rmtree(members_folder(output), ignore_errors=True)
        raise
    return Extracted(
        media_type, title, footer.chunks, footer.tokens, footer.losses, parsed.metadata, tuple(members), scanned=scans.asked > 0,
        content=file.content(),
    )  # fmt: skip


def _of_records(job: ExtractJob, media_type: str, limits: Limits, tell: Callable[[SoFar], None]) -> Extracted | None:
    """Write the records of a file; None for one that does not consist of records. Raises DocumentError for a file without any."""
    output, path, told = Path(job.output), Path(job.path), time.monotonic()
    folder = Path(members_folder(output))
    if media_type == COMPRESSED:
        path, media_type = _unpacked(job, folder, limits)
    found = each_record(path, media_type, fields_from_json(json.loads(job.records)))
    if found is None:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    records, documents = found

    def tick() -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_EVERY_S:
            tell(SoFar(0, 0, records.share()))
            told = time.monotonic()

    folder.mkdir(exist_ok=True)
    count = write_records(folder / RECORDS, documents, TOTAL_FILES * limits.max_file_bytes, tick)
    if path.parent == folder:
        path.unlink()
    losses = records.losses.all()
    if not count:
        why = f"; {losses[0].place}: {losses[0].detail}" if losses else ""
        raise DocumentError(Reason.CORRUPT if losses else Reason.EMPTY_TEXT, f"no record of it can become a document{why}")
    write_chunks(output, ChunkFileHeader(media_type, ""), (), lambda: (losses, count))
    return Extracted(media_type, "", 0, 0, losses, records=count, whole=records.whole)


def _unpacked(job: ExtractJob, folder: Path, limits: Limits) -> tuple[Path, str]:
    """Unpack the file that is compressed into the new `folder`; its path and media type. Raises DocumentError."""
    (member,) = parse(Path(job.path), job.name, COMPRESSED).members
    folder.mkdir()
    target = folder / "unpacked"
    try:
        size = _copied(member, target, limits.max_file_bytes)
    except _DAMAGED as error:
        raise DocumentError(Reason.CORRUPT, f"{type(error).__name__}: {error}") from error
    if size is None:
        raise DocumentError(Reason.TOO_LARGE, f"it unpacks to more than {limits.max_file_bytes} bytes")
    return target, inspect(target, member.name, limits)


def members_folder(output: str | Path) -> str:
    """The folder for files inside the document whose chunk file is `output`."""
    return f"{output}.members"


def _written(parsed: Parsed, job: ExtractJob, limits: Limits) -> Iterator[ExtractedMember]:
    """Write the files inside a document, each with a size limit, and all together with TOTAL_FILES times that."""
    left = TOTAL_FILES * limits.max_file_bytes
    for number, member in enumerate(parsed.members):
        folder = Path(members_folder(job.output))
        if job.nested:
            parsed.losses.add(LossKind.ATTACHMENT, member.name, f"it lies more than {MAX_DEPTH} documents deep")
            continue
        if member.reason is not None:
            yield ExtractedMember(member.name, "", member.reason, member.detail)
            continue
        folder.mkdir(exist_ok=True)
        target = folder / str(number)
        try:
            size = _copied(member, target, min(limits.max_file_bytes, left))
        except _DAMAGED as error:
            target.unlink(missing_ok=True)
            yield ExtractedMember(member.name, "", Reason.CORRUPT, f"{type(error).__name__}: {error}")
            continue
        if size is None:
            detail = f"it unpacks to more than {min(limits.max_file_bytes, left)} bytes"
            yield ExtractedMember(member.name, "", Reason.TOO_LARGE, detail)
            continue
        left -= size
        yield ExtractedMember(member.name, target.name)


def _copied(member: Member, target: Path, most: int) -> int | None:
    """Copy a member; its size, or None where it is larger than `most`, and nothing is left."""
    size = 0
    with member.open() as source, target.open("wb") as file:
        while data := source.read(1 << 20):
            size += len(data)
            if size > most:
                break
            file.write(data)
    if size > most:
        target.unlink()
        return None
    return size


def parse_rules() -> dict[str, object]:
    """The part of every parse fingerprint that depends on neither the configuration nor the model."""
    return {"parser": PARSER_VERSION, "chardet": metadata.version("chardet"), "chunker": CHUNKER_VERSION}


def parse_fingerprint(counter: TokenCounter, options: ChunkOptions) -> str:
    """Identifies what determines the chunks of given bytes: parser, chunker, options and tokenizer; 16 hexadecimal digits."""
    identity = parse_rules() | {"options": asdict(options), "tokenizer": counter.fingerprint}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _told(chunks: Iterator[Chunk], share: Callable[[], float | None], tell: Callable[[SoFar], None]) -> Iterator[Chunk]:
    """Pass the chunks on, and report their number from time to time."""
    count = tokens = 0
    told = time.monotonic()
    for chunk in chunks:
        yield chunk
        count, tokens = count + 1, tokens + chunk.token_count
        if time.monotonic() - told >= TELL_EVERY_S:
            tell(SoFar(count, tokens, share()))
            told = time.monotonic()


def _with_text(elements: Iterator[Element]) -> Iterator[Element]:
    return (element for element in elements if element.text.strip())
