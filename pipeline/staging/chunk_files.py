"""The chunk file that belongs to some bytes under some name: whether it exists, and what it holds for one document."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol

from pipeline.chunk.file import ChunkFileFooter, ChunkFileHeader, read_chunks, read_footer, read_header
from pipeline.errors import DocumentError
from pipeline.sources.uris import name_of
from pipeline.staging import Staging
from pipeline.staging.copies import chunks_key
from pipeline.types import Chunk


class Parsed(Protocol):
    """A version of a document whose chunk file has been made."""

    @property
    def id(self) -> str:
        """Of the document."""

    @property
    def uri(self) -> str:
        """Of its source."""

    @property
    def content_hash(self) -> str:
        """Of its bytes."""

    @property
    def parse_fingerprint(self) -> str:
        """Of the options that made the chunk file."""


@dataclass(frozen=True, slots=True)
class ChunkFile:
    """The chunk file of one version of a document, in a staging area."""

    staging: Staging
    key: str
    document_id: str  #: ids of chunks depend on it; several documents may share the file

    @classmethod
    def of(cls, staging: Staging, document_id: str, *, uri: str, content_hash: str, parse_fingerprint: str) -> ChunkFile:
        """That of the bytes with this hash, made with the options behind this parse fingerprint."""
        return cls(staging, chunks_key(parse_fingerprint, content_hash, name_of(uri)), document_id)

    @classmethod
    def of_version(cls, staging: Staging, version: Parsed) -> ChunkFile:
        """That of a version which has been parsed."""
        return cls.of(
            staging, version.id, uri=version.uri, content_hash=version.content_hash, parse_fingerprint=version.parse_fingerprint
        )

    @contextmanager
    def open(self, data: bytes | None = None) -> Iterator[tuple[ChunkFileHeader, Iterator[Chunk]]]:
        """The header, and the chunks, read lazily; raises DocumentError (staged_lost) for a missing or damaged file.

        `data` is what is in the file, where that is known.
        """
        with self.staging.chunks(self.key) if data is None else BytesIO(data) as file:
            yield read_chunks(file, self.document_id)

    def ends(self) -> tuple[ChunkFileHeader, ChunkFileFooter]:
        """The header and the footer; raises DocumentError (staged_lost) for a missing or incomplete file."""
        with self.staging.chunks(self.key) as file:
            header = read_header(file)
            file.seek(0)
            return header, read_footer(file)

    def ids(self) -> set[str] | None:
        """The ids of all chunks; None if the file is missing or damaged."""
        try:
            with self.open() as (_, chunks):
                return {chunk.id for chunk in chunks}
        except DocumentError:
            return None
