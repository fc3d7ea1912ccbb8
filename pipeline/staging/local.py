"""Staging in a folder."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from pipeline.errors import StagingUnavailable
from pipeline.files.errors import translating
from pipeline.files.replace import move_file
from pipeline.staging.copies import blob_key, check_blob, copy_hashed
from pipeline.types import SourceFile, StagedFile

#: Temporary files older than this belong to no running process.
SCRATCH_MAX_AGE_S = 24 * 3600


class LocalStaging:
    """Staging in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._scratch = root / "tmp"
        with self._usable():
            self._scratch.mkdir(parents=True, exist_ok=True)

    def put(self, source: SourceFile) -> StagedFile:
        """Copy a file into a temporary file while computing its hash, then rename it to that hash.

        The kept version is the hashed version: a file that changes meanwhile is copied again.

        Raises DocumentError (unreadable, changed), NoSpace, and ConfigError where the folder is not writable.
        """
        temporary = self.scratch()
        with self._usable():
            try:
                content_hash, copied = copy_hashed(source, temporary)
                blob = self.root / blob_key(content_hash)
                if not (blob.exists() and blob.stat().st_size == copied.size):
                    move_file(temporary, blob)
                return StagedFile(copied, content_hash, blob_key(content_hash))
            finally:
                temporary.unlink(missing_ok=True)

    def put_bytes(self, contents: Mapping[str, bytes], on_tick: Callable[[], None]) -> None:
        """Keep contents under their hashes; `on_tick` is called for each. Raises NoSpace, ConfigError as `put` does."""
        with self._usable():
            for content_hash, data in contents.items():
                on_tick()
                blob = self.root / blob_key(content_hash)
                if blob.exists() and blob.stat().st_size == len(data):
                    continue
                temporary = self.scratch()
                try:
                    temporary.write_bytes(data)
                    move_file(temporary, blob)
                finally:
                    temporary.unlink(missing_ok=True)

    @contextmanager
    def blob(self, content_hash: str) -> Iterator[Path]:
        """The copy with this hash.

        The whole copy is read once: one that a crash of the machine has cut short is removed and reported, so that the next
        load makes it again. Raises DocumentError (staged_lost).
        """
        path = self.root / blob_key(content_hash)
        check_blob(path, content_hash)
        yield path

    def has_chunks(self, key: str) -> bool:
        """Whether a chunk file exists."""
        with self._usable():
            return (self.root / key).exists()

    def put_chunks(self, key: str, written: Path) -> None:
        """Move a finished chunk file in; raises NoSpace, and ConfigError where the folder is not writable."""
        with self._usable():
            move_file(written, self.root / key)

    @contextmanager
    def chunks(self, key: str) -> Iterator[Path]:
        """The chunk file itself."""
        yield self.root / key

    def scratch(self) -> Path:
        """A new path in the folder's own `tmp/`: a rename from there is atomic."""
        return self._scratch / uuid.uuid4().hex

    def sweep(self) -> int:
        """Remove temporary files and folders that a killed process left behind; return their number."""
        removed = 0
        with self._usable():
            for path in self._scratch.iterdir():
                try:
                    if time.time() - path.lstat().st_mtime <= SCRATCH_MAX_AGE_S:
                        continue
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink()
                    removed += 1
                except FileNotFoundError:  # another process was faster
                    continue
        return removed

    def _usable(self) -> AbstractContextManager[None]:
        return translating(self.root, StagingUnavailable)
