"""A file to its chunk file in one go: gate, parse, chunk, write; runs inside the guarded child."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from pipeline.chunk.file import ChunkFileHeader, write_chunks
from pipeline.chunk.pack import CHUNKER_VERSION, chunk_elements
from pipeline.chunk.units import ChunkOptions
from pipeline.errors import DocumentError
from pipeline.model.tokens import TokenCounter
from pipeline.parse import PARSER_VERSION, parse
from pipeline.parse.gate import Limits, inspect
from pipeline.types import Chunk, Element, Reason

#: Seconds between two reports of how far a document is.
TELL_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class ExtractJob:
    """One document to extract; paths as text, because a job travels as JSON."""

    path: str  #: the staged copy
    name: str  #: what people call the file; its ending takes part in deciding the type
    document_id: str
    output: str  #: where to write the chunk file


@dataclass(frozen=True, slots=True)
class Extracted:
    """What came out."""

    media_type: str
    title: str  #: empty where the document does not say
    chunks: int
    tokens: int


@dataclass(frozen=True, slots=True)
class SoFar:
    """How far a document is that is being extracted."""

    chunks: int
    tokens: int
    share: float | None  #: of the document, read by its parser; None where that does not know


def extract(
    job: ExtractJob,
    counter: TokenCounter,
    options: ChunkOptions,
    limits: Limits,
    tell: Callable[[SoFar], None] = lambda _: None,
    on_type: Callable[[str], None] = lambda _: None,
) -> Extracted:
    """Write the chunk file of a document; memory is bounded by the parser of its type.

    `tell` is called with chunks that are there, about every TELL_EVERY_S. `on_type` gets the media type before its parser is
    imported; an exception of it ends the extraction. Raises DocumentError with the reason why there is no chunk file,
    InstallationError, NoSpace. A file that yields no text is never a success.
    """
    output = Path(job.output)
    try:
        media_type = inspect(Path(job.path), job.name, limits)
        on_type(media_type)
        parsed = parse(Path(job.path), job.name, media_type)
        # The name is not the document's: the same bytes may be called otherwise elsewhere.
        title = parsed.title if parsed.title != job.name else ""
        chunks = chunk_elements(job.document_id, _with_text(parsed.elements), counter, options)
        footer = write_chunks(output, ChunkFileHeader(media_type, title), _told(chunks, parsed.share, tell))
        if not footer.chunks:
            raise DocumentError(Reason.EMPTY_TEXT, f"no text came out of {media_type}")
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    return Extracted(media_type, title, footer.chunks, footer.tokens)


def parse_rules() -> dict[str, object]:
    """The part of every parse fingerprint that neither the configuration nor the model decides."""
    return {"parser": PARSER_VERSION, "unstructured": metadata.version("unstructured"), "chunker": CHUNKER_VERSION}


def parse_fingerprint(counter: TokenCounter, options: ChunkOptions) -> str:
    """What decides the chunks of given bytes: parser, chunker, their options and the tokenizer; 16 hexadecimal digits."""
    identity = parse_rules() | {"options": asdict(options), "tokenizer": counter.fingerprint}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _told(chunks: Iterator[Chunk], share: Callable[[], float | None], tell: Callable[[SoFar], None]) -> Iterator[Chunk]:
    """The chunks, telling now and then how many there were."""
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
