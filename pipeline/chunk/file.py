"""The chunk file: all chunks of a document's bytes, as compressed JSON lines between a header and a footer.

Ids are not stored: they depend on the document, and one file serves every document with the same bytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.chunk.lines import LineWriter, read_lines
from pipeline.errors import DocumentError
from pipeline.files.errors import translated
from pipeline.types import Chunk, ChunkIds, Loss, LossKind, Reason, embed_text

#: Raise it with every change of the format; files of other versions count as missing.
VERSION = 2


@dataclass(frozen=True, slots=True)
class ChunkFileHeader:
    """Properties of the document that its parser reported."""

    media_type: str
    title: str  #: empty where the document has none
    metadata: dict[str, str] = field(default_factory=dict)  #: the document's own fields


@dataclass(frozen=True, slots=True)
class ChunkFileFooter:
    """Proves that the file is complete."""

    chunks: int
    tokens: int
    losses: tuple[Loss, ...] = ()  #: what did not become text
    members: int = 0  #: files inside the document, which are documents of their own


#: Fields of a chunk in its line; asdict, which copies them deeply, takes ten times as long.
_STORED = [name for name in Chunk.__dataclass_fields__ if name not in ("id", "document_id", "ordinal")]


class SmallFile:
    """A file to write that stays in memory as long as it is small."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """`path` becomes a file with the first byte that comes after `max_bytes`."""
        self._path = path
        self._max_bytes = max_bytes
        self._memory = BytesIO()
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> int:
        """Append bytes; raises OSError."""
        if self._file is None and self._memory.tell() + len(data) > self._max_bytes:
            self._file = self._path.open("wb")
            self._file.write(self._memory.getvalue())
        return (self._file or self._memory).write(data)

    def close(self) -> None:
        """Close the file; raises OSError."""
        if self._file is not None:
            self._file.close()

    def content(self) -> bytes | None:
        """All bytes of a small file; None for one that was written to its path."""
        return self._memory.getvalue() if self._file is None else None


def write_chunks(
    target: Path | SmallFile,
    header: ChunkFileHeader,
    chunks: Iterable[Chunk],
    ends: Callable[[], tuple[tuple[Loss, ...], int]] = lambda: ((), 0),
) -> ChunkFileFooter:
    """Write a chunk file in one pass, and close it; the same chunks produce the same bytes.

    `ends` gives the losses and the number of members; it is called after the last chunk.
    """
    count = tokens = 0
    raw = SmallFile(target, -1) if isinstance(target, Path) else target
    with closing(raw):
        lines = LineWriter(raw.write)
        lines.write({"version": VERSION, "media_type": header.media_type, "title": header.title, "metadata": header.metadata})
        for chunk in chunks:
            lines.write({name: getattr(chunk, name) for name in _STORED})
            count, tokens = count + 1, tokens + chunk.token_count
        footer = ChunkFileFooter(count, tokens, *ends())
        losses = [asdict(loss) for loss in footer.losses]
        lines.write({"chunks": count, "tokens": tokens, "losses": losses, "members": footer.members})
        lines.finish()
    return footer


def read_header(path: Path | BinaryIO) -> ChunkFileHeader:
    """Read only the header; raises DocumentError (staged_lost)."""
    lines = _lines(path)
    try:
        return _header(path, next(lines, {}))
    finally:
        lines.close()


def read_footer(path: Path | BinaryIO) -> ChunkFileFooter:
    """Read only the footer: the file is unpacked, but not parsed; raises DocumentError (staged_lost)."""
    last = b""
    with _translated(path), _open(path) as file:
        for line in read_lines(file):
            last = line
        fields = json.loads(last)
        if isinstance(fields, dict) and fields.keys() == {"chunks", "tokens", "losses", "members"}:
            found = tuple(Loss(LossKind(loss.pop("kind")), **loss) for loss in fields.pop("losses"))
            return ChunkFileFooter(**fields, losses=found)
    raise DocumentError(Reason.STAGED_LOST, f"{_name(path)} is incomplete; load the document again")


def read_chunks(path: Path | BinaryIO, document_id: str) -> tuple[ChunkFileHeader, Iterator[Chunk]]:
    """The header, and the chunks with ids of `document_id`, read lazily; an open file stays open until then.

    Raises DocumentError (staged_lost) here for a missing file, and at the end of the chunks for an incomplete one.
    """
    lines = _lines(path)
    return _header(path, next(lines, {})), _chunks(path, lines, document_id)


def _header(path: Path | BinaryIO, fields: dict[str, Any]) -> ChunkFileHeader:
    if fields.get("version") != VERSION:
        raise DocumentError(Reason.STAGED_LOST, f"{_name(path)} has another format version; load the document again")
    return ChunkFileHeader(str(fields.get("media_type")), str(fields.get("title")), dict(fields.get("metadata") or {}))


def _chunks(path: Path | BinaryIO, lines: Iterator[dict[str, Any]], document_id: str) -> Iterator[Chunk]:
    ids = ChunkIds(document_id)
    for ordinal, fields in enumerate(lines):
        if "chunks" in fields:
            # Reading to the end verifies the checksum.
            if fields["chunks"] == ordinal and next(lines, None) is None:
                return
            break
        heading_path = tuple(fields.pop("heading_path", ()))
        try:
            key = ids.next(embed_text(heading_path, fields["text"]))
            chunk = Chunk(id=key, document_id=document_id, ordinal=ordinal, heading_path=heading_path, **fields)
        except (KeyError, TypeError) as error:  # a damaged file that is still JSON
            raise DocumentError(Reason.STAGED_LOST, f"{_name(path)} is damaged; load the document again") from error
        yield chunk
    raise DocumentError(Reason.STAGED_LOST, f"{_name(path)} is incomplete; load the document again")


def _lines(path: Path | BinaryIO) -> Generator[dict[str, Any], None, None]:
    with _translated(path), _open(path) as file:
        for line in read_lines(file):
            fields = json.loads(line.decode("ascii"))  # of bytes it would guess the encoding
            if not isinstance(fields, dict):
                raise ValueError("not a record")
            yield fields


@contextmanager
def _translated(path: Path | BinaryIO) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:  # affects every chunk file: no document is at fault
        raise translated(error, _name(path)) from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DocumentError(Reason.STAGED_LOST, f"{_name(path)} cannot be read: {error}; load the document again") from error


def _name(path: Path | BinaryIO) -> str:
    """The name of a file; one in a pack has none."""
    return Path(getattr(path, "name", "a chunk file")).name


def _open(path: Path | BinaryIO) -> AbstractContextManager[BinaryIO]:
    """The file at a path; one that is open stays open."""
    return path.open("rb") if isinstance(path, Path) else nullcontext(path)
