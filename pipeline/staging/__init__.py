"""Content-addressed copies of source files, and the chunk files made from them; in a folder or an object store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from pipeline.staging.contents import Content
from pipeline.types import SourceFile, StagedFile


class Staging(Protocol):
    """A place for copies and chunk files that every worker can reach."""

    def put(self, source: SourceFile) -> StagedFile:
        """Copy a file in; see `LocalStaging.put`."""

    def take(self, copied: SourceFile, content_hash: str, written: Path) -> StagedFile:
        """Move a finished copy in, whose sha256 is known; `written` is a path of `scratch`, and may be left over."""

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

    def contents(self) -> Iterator[Content]:
        """All copies and chunk files, in no order."""

    def discard(self, keys: Sequence[str], before: float) -> list[str]:
        """Remove the copies and chunk files that were last used before a time; return the keys of those removed.

        `put` and `put_bytes` count as uses, so a copy that a load finds is safe from then on.
        """

    def abandoned(self) -> list[Content]:
        """Temporary files and folders that a killed process left behind."""

    def sweep(self) -> int:
        """Remove what is `abandoned`; return how many."""

    def export(self, key: str, target: Path) -> None:
        """Make `target` a copy or another name of a copy or chunk file; raises FileNotFoundError if it is not there."""


def open_staging(location: str) -> Staging:
    """Open a folder, or by URL any file system that fsspec knows."""
    if "://" in location and not location.startswith("file://"):
        from pipeline.staging.object_store import ObjectStaging

        return ObjectStaging(location)
    from pipeline.staging.local import LocalStaging

    return LocalStaging(Path(location.removeprefix("file://")))
