"""Files that the documents of a batch share: a file for each would cost more than to parse a small one."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from pipeline.sandbox.extract import ExtractJob

#: Names of the file that has the current document, and of the one with the small chunk files of all.
DOCUMENT, CHUNKS = "document", "chunks"


class Shared:
    """What a child writes for the documents of its batch; a context manager."""

    def __init__(self, folder: str, outputs: str) -> None:
        """`folder` is for temporary files, `outputs` for what is handed over."""
        self._path = f"{folder}/{DOCUMENT}"
        self._outputs = outputs
        self._stack = ExitStack()
        self._source = -1
        self._source_path = ""
        self._document = -1
        self._document_size = 0
        self._chunks = -1
        self._size = 0  #: of the chunk files so far

    def as_file(self, job: ExtractJob) -> ExtractJob:
        """The same job for a whole file, which parsers need; the next call overwrites it. Raises OSError."""
        if job.length < 0:
            return job
        if job.path != self._source_path:
            self._source = self._open(job.path, os.O_RDONLY)
            self._source_path = job.path
        data = os.pread(self._source, job.length, job.offset)
        if self._document < 0:
            self._document = self._open(self._path)
        self._document_size = max(self._document_size, len(data))  # also where the write fails
        _write(self._document, data, 0)
        if len(data) < self._document_size:  # not to 0 before: some file systems write such files to the disk at once
            os.ftruncate(self._document, len(data))
        self._document_size = len(data)
        return replace(job, path=self._path, offset=0, length=-1)

    def add(self, content: bytes) -> tuple[int, int]:
        """Add a chunk file; return its place and its size. Raises OSError."""
        if self._chunks < 0:
            self._chunks = self._open(f"{self._outputs}/{CHUNKS}")
        offset = self._size
        _write(self._chunks, content, offset)
        self._size += len(content)
        return offset, len(content)

    def _open(self, path: str, flags: int = os.O_WRONLY | os.O_CREAT) -> int:
        descriptor = os.open(path, flags, 0o600)
        self._stack.callback(os.close, descriptor)
        return descriptor

    def __enter__(self) -> Shared:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()


class SmallFiles:
    """The small chunk files that a child has added; the child is not trusted."""

    def __init__(self, outputs: Path) -> None:
        """Raises OSError."""
        # It may have made a link, or a pipe that nobody writes to.
        self._file = os.open(f"{outputs}/{CHUNKS}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)

    def take(self, place: tuple[int, int], max_bytes: int) -> bytes:
        """The chunk file at a place. Raises OSError, ValueError."""
        offset, size = place
        if not 0 <= size <= max_bytes:
            raise ValueError(f"a chunk file of {size} bytes")
        content = os.pread(self._file, size, offset)
        if len(content) != size:
            raise ValueError(f"a chunk file of {len(content)} instead of {size} bytes")
        return content

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
