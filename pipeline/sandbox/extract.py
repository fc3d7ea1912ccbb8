"""Turns a file into its chunk file: gate, parse, chunk, write; runs inside the guarded child."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from pipeline.chunk.file import ChunkFileHeader, write_chunks
from pipeline.chunk.pack import CHUNKER_VERSION, chunk_elements
from pipeline.chunk.units import ChunkOptions
from pipeline.errors import DocumentError
from pipeline.model.tokens import TokenCounter
from pipeline.parse import PARSER_VERSION, parse
from pipeline.parse.gate import Limits, inspect
from pipeline.types import Chunk, Element, Loss, Reason

#: Seconds between two progress reports of a document.
TELL_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class ExtractJob:
    """One document to extract; paths are text, because a job is sent as JSON."""

    path: str  #: the staged copy
    name: str  #: the file's original name; its ending takes part in deciding the type
    document_id: str
    output: str  #: where to write the chunk file


@dataclass(frozen=True, slots=True)
class Extracted:
    """The result of an extraction."""

    media_type: str
    title: str  #: empty where the document has none
    chunks: int
    tokens: int
    losses: tuple[Loss, ...] = ()  #: what did not become text
    metadata: dict[str, str] = field(default_factory=dict)  #: the document's own fields


@dataclass(frozen=True, slots=True)
class SoFar:
    """The progress of a document that is being extracted."""

    chunks: int
    tokens: int
    share: float | None  #: share of the document that its parser has read; None where unknown


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
    output = Path(job.output)
    try:
        media_type = inspect(Path(job.path), job.name, limits)
        on_type(media_type)
        parsed = parse(Path(job.path), job.name, media_type)
        # The name does not belong to the content: the same bytes may have another name elsewhere.
        title = parsed.title if parsed.title != job.name else ""
        chunks = chunk_elements(job.document_id, _with_text(parsed.elements), counter, options)
        header = ChunkFileHeader(media_type, title, parsed.metadata)
        footer = write_chunks(output, header, _told(chunks, parsed.share, tell), parsed.losses.all)
        if not footer.chunks:
            raise DocumentError(Reason.EMPTY_TEXT, f"the parser found no text in this {media_type}")
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    return Extracted(media_type, title, footer.chunks, footer.tokens, footer.losses, parsed.metadata)


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
