"""A file to its chunk file in one go: gate, parse, chunk, write; runs inside the guarded child."""

from __future__ import annotations

import hashlib
import json
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
from pipeline.types import Element, Reason


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


def extract(
    job: ExtractJob, counter: TokenCounter, options: ChunkOptions, limits: Limits, on_type: Callable[[str], None] | None = None
) -> Extracted:
    """Write the chunk file of a document; memory is bounded by the parser of its type.

    `on_type` gets the media type before its parser is imported; an exception of it ends the extraction. Raises DocumentError
    with the reason why there is no chunk file, InstallationError, NoSpace. A file that yields no text is never a success.
    """
    output = Path(job.output)
    try:
        media_type = inspect(Path(job.path), job.name, limits)
        if on_type is not None:
            on_type(media_type)
        parsed = parse(Path(job.path), job.name, media_type)
        # The name is not the document's: the same bytes may be called otherwise elsewhere.
        title = parsed.title if parsed.title != job.name else ""
        chunks = chunk_elements(job.document_id, _with_text(parsed.elements), counter, options)
        footer = write_chunks(output, ChunkFileHeader(media_type, title), chunks)
        if not footer.chunks:
            raise DocumentError(Reason.EMPTY_TEXT, f"no text came out of {media_type}")
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    return Extracted(media_type, title, footer.chunks, footer.tokens)


def parse_fingerprint(counter: TokenCounter, options: ChunkOptions) -> str:
    """What decides the chunks of given bytes: parser, chunker, their options and the tokenizer; 16 hexadecimal digits."""
    identity = {
        "parser": PARSER_VERSION, "unstructured": metadata.version("unstructured"), "chunker": CHUNKER_VERSION,
        "options": asdict(options), "tokenizer": counter.fingerprint,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _with_text(elements: Iterator[Element]) -> Iterator[Element]:
    return (element for element in elements if element.text.strip())
