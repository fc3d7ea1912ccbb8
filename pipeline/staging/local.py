"""Staging in a folder."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from pipeline.errors import StagingUnavailable
from pipeline.files.errors import translating
from pipeline.files.lock import FileLock, shared
from pipeline.files.replace import move_file
from pipeline.staging.contents import Content
from pipeline.staging.copies import blob_key, check_blob, copy_hashed
from pipeline.types import SourceFile, StagedFile

#: Temporary files older than this belong to no running process.
SCRATCH_MAX_AGE_S = 24 * 3600

#: Seconds to wait for those who are moving files in, before files are removed; each takes a moment.
DISCARD_WAIT_S = 30.0


class LocalStaging:
    """Staging in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._scratch = root / "tmp"
        self._lock = root / "files.lock"  # shared by those who move files in; whoever removes some has it alone
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
                return self.take(copied, content_hash, temporary)
            finally:
                temporary.unlink(missing_ok=True)

    def take(self, copied: SourceFile, content_hash: str, written: Path) -> StagedFile:
        """Move a finished copy in, unless it is there. Raises NoSpace, ConfigError as `put` does."""
        with self._usable():
            self._keep(written, self.root / blob_key(content_hash), copied.size)
        return StagedFile(copied, content_hash, blob_key(content_hash))

    def put_bytes(self, contents: Mapping[str, bytes], on_tick: Callable[[], None]) -> None:
        """Keep contents under their hashes; `on_tick` is called for each. Raises NoSpace, ConfigError as `put` does."""
        with self._usable():
            for content_hash, data in contents.items():
                on_tick()
                blob = self.root / blob_key(content_hash)
                if self._used(blob, len(data)):
                    continue
                temporary = self.scratch()
                try:
                    temporary.write_bytes(data)
                    self._keep(temporary, blob, len(data))
                finally:
                    temporary.unlink(missing_ok=True)

    def _keep(self, temporary: Path, blob: Path, size: int) -> None:
        """Move a copy in, unless it is there; from now on it is in use."""
        with shared(self._lock):
            if not _touch(blob, size):
                move_file(temporary, blob)

    def _used(self, blob: Path, size: int) -> bool:
        """Whether a copy is there; if so, it is in use from now on."""
        with shared(self._lock):
            return _touch(blob, size)

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
        with self._usable(), shared(self._lock):
            move_file(written, self.root / key)

    @contextmanager
    def chunks(self, key: str) -> Iterator[Path]:
        """The chunk file itself."""
        yield self.root / key

    def scratch(self) -> Path:
        """A new path in the folder's own `tmp/`: a rename from there is atomic."""
        return self._scratch / uuid.uuid4().hex

    def contents(self) -> Iterator[Content]:
        """All copies and chunk files; those that are removed meanwhile are left out. Raises ConfigError, StagingUnavailable."""
        with self._usable():
            for part in ("blobs", "chunks"):
                yield from self._below(part)

    def _below(self, folder: str) -> Iterator[Content]:
        try:
            entries = list(os.scandir(self.root / folder))
        except FileNotFoundError:
            return
        for entry in entries:
            key = f"{folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(key)
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield Content(key, status.st_size, status.st_mtime)

    def discard(self, keys: Sequence[str], before: float) -> list[str]:
        """Remove files that were last used before a time; return the keys of those removed.

        Nobody moves a file in meanwhile, and whoever finds one to be there has made it younger before, or finds it gone after.
        Raises StagingUnavailable where somebody keeps moving files in.
        """
        removed, lock = [], FileLock(self._lock)
        with self._usable():
            if not lock.take(time.monotonic() + DISCARD_WAIT_S):
                raise StagingUnavailable(f"{self.root} has been busy for {DISCARD_WAIT_S:g} s; run the command again")
            try:
                for key in keys:
                    path = self.root / key
                    try:
                        if path.stat().st_mtime >= before:
                            continue
                        path.unlink()
                    except FileNotFoundError:
                        continue
                    removed.append(key)
            finally:
                lock.release()
        return removed

    def export(self, key: str, target: Path) -> None:
        """Make `target` another name of the file or, on another file system, a copy; raises FileNotFoundError, NoSpace."""
        try:
            os.link(self.root / key, target)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without links
            shutil.copy2(self.root / key, target)

    def abandoned(self) -> list[Content]:
        """Temporary files and folders that a killed process left behind, by their names in `tmp/`."""
        found = []
        with self._usable():
            for path in self._scratch.iterdir():
                try:
                    status = path.lstat()
                except FileNotFoundError:  # its owner is done with it
                    continue
                if time.time() - status.st_mtime > SCRATCH_MAX_AGE_S:
                    found.append(Content(f"tmp/{path.name}", status.st_size, status.st_mtime))
        return found

    def sweep(self) -> int:
        """Remove what is `abandoned`; return how many."""
        removed = 0
        with self._usable():
            for one in self.abandoned():
                path = self.root / one.key
                try:
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


def _touch(blob: Path, size: int) -> bool:
    """Whether a copy of this size is there; if so, its time becomes now."""
    try:
        if blob.stat().st_size != size:
            return False
        os.utime(blob)
    except FileNotFoundError:
        return False
    except PermissionError:  # another user's, in a shared folder: only its owner may set its time
        return False
    return True
