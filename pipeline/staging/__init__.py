"""Content-addressed copies of source files, and the chunk files made from them; in a folder or an object store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from pipeline.types import SourceFile, StagedFile


class Staging(Protocol):
    """A place for copies and chunk files that every worker can reach."""

    def put(self, source: SourceFile) -> StagedFile:
        """Copy a file in; see `LocalStaging.put`."""

    def put_bytes(self, contents: Mapping[str, bytes], on_tick: Callable[[], None]) -> None:
        """Keep contents, by their sha256 in hexadecimal, as copies of files are kept; `on_tick` is called for each."""

    def blob(self, content_hash: str) -> AbstractContextManager[Path]:
        """A local path of a copy; its bytes were checked against its hash."""

    def has_chunks(self, key: str) -> bool:
        """Whether a chunk file exists."""

    def put_chunks(self, key: str, written: Path) -> None:
        """Move a finished chunk file in."""

    def chunks(self, key: str) -> AbstractContextManager[Path]:
        """A local path of a chunk file."""

    def scratch(self) -> Path:
        """A new path for a temporary file, for `put_chunks` to take."""


def open_staging(location: str) -> Staging:
    """Open a folder, or by URL any file system that fsspec knows."""
    if "://" in location and not location.startswith("file://"):
        from pipeline.staging.object_store import ObjectStaging

        return ObjectStaging(location)
    from pipeline.staging.local import LocalStaging

    return LocalStaging(Path(location.removeprefix("file://")))
