"""Content-addressed copies of source files, and the chunk files made from them; in a folder or an object store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from pipeline.staging.contents import Content, Piece
from pipeline.types import SourceFile, StagedFile


class Batch(Protocol):
    """Contents that come into staging together: in a folder, small ones share a file. For any thread.

    They are there at the latest when the block of the batch has ended without an error.
    """

    def put(self, source: SourceFile, known: str = "") -> StagedFile:
        """Copy a file in; see `Staging.put`. `known`: the hash of a copy that the ledger says is needed."""

    def take(self, copied: SourceFile, content_hash: str, written: Path, known: str = "") -> StagedFile:
        """Move a finished copy in, whose sha256 is known; `written` is a path of `scratch`, and may be left over."""

    def keep(self, key: str, data: bytes) -> None:
        """Keep a small content under its key."""

    def put_chunks(self, key: str, written: Path) -> None:
        """Move a finished chunk file in."""

    def flush(self) -> None:
        """Have everything so far in staging when this returns."""


class Staging(Protocol):
    """A place for copies and chunk files that every worker can reach."""

    def put(self, source: SourceFile) -> StagedFile:
        """Copy a file in; see `LocalStaging.put`."""

    def put_bytes(self, contents: Mapping[str, bytes], on_tick: Callable[[], None]) -> None:
        """Keep contents, by their sha256 in hexadecimal, as copies of files are kept; `on_tick` is called for each."""

    def batch(self) -> AbstractContextManager[Batch]:
        """Contents that come in together. Raises, at its end too, what `put` raises but for DocumentError."""

    def blob(self, content_hash: str) -> AbstractContextManager[Path]:
        """A local path of a copy; its bytes were checked against its hash."""

    def pieces(self, hashes: Iterable[str]) -> AbstractContextManager[Mapping[str, Piece]]:
        """Those of some copies that are small, by their hashes, in one local file; their bytes were checked.

        The others, and those that are missing, are asked for one by one: see `blob`.
        """

    def with_chunks(self, keys: Iterable[str]) -> set[str]:
        """Those of some chunk files that exist."""

    def put_chunks(self, key: str, written: Path) -> None:
        """Move a finished chunk file in."""

    def small_chunks(self, keys: Iterable[str]) -> Mapping[str, bytes]:
        """Those of some chunk files that are read fastest together; the others are opened one by one."""

    def chunks(self, key: str) -> AbstractContextManager[BinaryIO]:
        """A chunk file, open for reading; raises DocumentError (staged_lost) if it is missing."""

    def scratch(self) -> Path:
        """A new path for a temporary file, for `put_chunks` to take."""

    def contents(self) -> Iterator[Content]:
        """All copies and chunk files, in no order."""

    def discard(self, keys: Sequence[str], before: float) -> list[str]:
        """Remove the copies and chunk files that were last used before a time; return the keys of those removed.

        `put` and `put_bytes` count as uses, so a copy that a load finds is safe from then on.
        """

    def compact(self, on_step: Callable[[], None]) -> None:
        """Give back the room of what was discarded, as far as it still takes some; `on_step` is called often."""

    def abandoned(self) -> list[Content]:
        """Temporary files and folders that a killed process left behind."""

    def sweep(self) -> int:
        """Remove what is `abandoned`; return how many."""

    def export(self, key: str, target: Path) -> None:
        """Make `target` a copy or another name of a copy or chunk file; raises FileNotFoundError if it is not there."""

    def packed(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Those of some contents that lie in packs, whole."""

    def adopt(self, pack: Path) -> None:
        """Take in all contents of a pack that another staging area, or a backup, has; `pack` stays."""


def open_staging(location: str) -> Staging:
    """Open a folder, or by URL any file system that fsspec knows."""
    if "://" in location and not location.startswith("file://"):
        from pipeline.staging.object_store import ObjectStaging

        return ObjectStaging(location)
    from pipeline.staging.local import LocalStaging

    return LocalStaging(Path(location.removeprefix("file://")))
