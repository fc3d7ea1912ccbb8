"""Staging in a folder."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import StagingUnavailable
from pipeline.files.errors import translated, translating
from pipeline.files.lock import FileLock, shared
from pipeline.files.replace import move_file
from pipeline.staging.batch import LocalBatch
from pipeline.staging.contents import IN_USE_S, Content, Piece, is_chunk_key
from pipeline.staging.copies import blob_key, check_blob, copy_hashed, exists, lost, touch
from pipeline.staging.packs import Packs
from pipeline.types import SourceFile, StagedFile

log = logging.getLogger(__name__)

#: Temporary files older than this belong to no running process.
SCRATCH_MAX_AGE_S = 24 * 3600

#: Seconds to wait for those who are moving files in, before files are removed; each takes a moment.
DISCARD_WAIT_S = 30.0


class LocalStaging:
    """Staging in a folder: large contents as files of their own, small ones that come together as packs.

    A content is where it was put, so a folder that an earlier version filled with single files is used as it is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._scratch = root / "tmp"
        self._lock = root / "files.lock"  # shared by those who move files in; whoever removes some has it alone
        self._copies = Packs(root / "packs" / "blobs", self._scratch)
        self._chunks = Packs(root / "packs" / "chunks", self._scratch)
        with self._usable():
            self._scratch.mkdir(parents=True, exist_ok=True)

    def put(self, source: SourceFile) -> StagedFile:
        """Copy a file into a temporary file while computing its hash, then rename it to that hash.

        The kept version is the hashed version: a file that changes meanwhile is copied again.

        Raises DocumentError (unreadable, changed), NoSpace, and ConfigError where the folder is not writable.
        """
        with self._usable(), self._temporary() as temporary:
            content_hash, copied = copy_hashed(source, temporary)
            return self.take(copied, content_hash, temporary)

    def put_alone(self, key: str, data: bytes) -> None:
        """Keep a content as a file of its own; raises NoSpace, ConfigError."""
        with self._usable(), self._temporary() as temporary:
            temporary.write_bytes(data)
            self._keep(temporary, key, len(data))

    def _keep(self, temporary: Path, key: str, size: int) -> None:
        """Move a content in, unless it is there; from now on it is in use."""
        with shared(self._lock):
            if not touch(self._path(key), size):
                move_file(temporary, self.root / key)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A path for a file that is gone in the end."""
        path = self.scratch()
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def take(self, copied: SourceFile, content_hash: str, written: Path) -> StagedFile:
        """Move a finished copy in, unless it is there. Raises NoSpace, ConfigError as `put` does."""
        with self._usable():
            self._keep(written, blob_key(content_hash), copied.size)
        return StagedFile(copied, content_hash, blob_key(content_hash))

    def put_bytes(self, contents: Mapping[str, bytes], on_tick: Callable[[], None]) -> None:
        """Keep contents under their hashes; `on_tick` is called for each. Raises NoSpace, ConfigError as `put` does."""
        with self.batch() as batch:
            for content_hash, data in contents.items():
                on_tick()
                batch.keep(blob_key(content_hash), data)

    @contextmanager
    def batch(self) -> Iterator[LocalBatch]:
        """Contents that come in together; raises NoSpace, and ConfigError where the folder is not writable."""
        batch = LocalBatch(self)
        yield batch
        batch.flush()

    def add(self, contents: Mapping[str, bytes], known: Set[str]) -> None:
        """Add small contents in new packs, but for copies that stay in staging without that.

        `known`: keys of copies that the ledger knows to be needed. Raises NoSpace, ConfigError.
        """
        now = time.time()
        with self._usable():
            copies = {key: data for key, data in contents.items() if not is_chunk_key(key)}
            chunks = {key: data for key, data in contents.items() if is_chunk_key(key)}
            for packs, new in ((self._copies, self._unsafe(copies, known, now)), (self._chunks, chunks)):
                if new:
                    packs.add(new, now)
                    if packs.are_many():
                        self._merge(packs)

    def _unsafe(self, copies: Mapping[str, bytes], known: Set[str], now: float) -> dict[str, bytes]:
        """Those of some copies that are missing, or that somebody could remove before the ledger knows that they are needed."""
        there = self._copies.find(copies)
        safe = {key for key, place in there.items() if key in known or place.entry.put_at > now - IN_USE_S / 2}
        left = {key: data for key, data in copies.items() if key not in safe}
        if left and os.path.isdir(self._path("blobs")):
            with shared(self._lock):
                left = {key: data for key, data in left.items() if not touch(self._path(key), len(data))}
        return left

    def _merge(self, packs: Packs) -> None:
        """Merge small packs, unless somebody moves files in or removes some: then the next one does it who adds a pack."""
        lock = FileLock(self._lock)
        if lock.take():
            try:
                packs.tidy()
                for group in packs.groups():
                    packs.unite(group)
            except OSError as error:  # a full disk, say: what was added is there all the same
                log.warning("small packs in %s are not merged: %s", packs.folder, error)
            finally:
                lock.release()

    @contextmanager
    def blob(self, content_hash: str) -> Iterator[Path]:
        """The copy with this hash; of a small one, a temporary file.

        The whole copy is read once: one that a crash of the machine has cut short is removed and reported, so that the next
        load makes it again. Raises DocumentError (staged_lost).
        """
        path = self.root / blob_key(content_hash)
        with self._usable():
            alone = exists(path)
        if alone:
            check_blob(path, content_hash)
            yield path
            return
        with self.pieces([content_hash]) as found:
            if content_hash not in found:
                raise lost(blob_key(content_hash))
            yield found[content_hash].path

    @contextmanager
    def pieces(self, hashes: Iterable[str]) -> Iterator[dict[str, Piece]]:
        """Those of some copies that lie in packs, in one temporary file; raises NoSpace."""
        found: dict[str, Piece] = {}
        with self._temporary() as path:
            with self._usable():
                read = self._copies.read(map(blob_key, hashes))
                if read:
                    offset = 0
                    with path.open("xb") as file:
                        for key, data in read.items():
                            file.write(data)
                            found[key.rpartition("/")[2]] = Piece(path, offset, len(data))
                            offset += len(data)
            yield found

    def with_chunks(self, keys: Iterable[str]) -> set[str]:
        """Those of some chunk files that exist."""
        keys = set(keys)
        with self._usable():
            found = set(self._chunks.find(keys))
            return found | {key for key in keys - found if exists(self._path(key))}

    def put_chunks(self, key: str, written: Path) -> None:
        """Move a finished chunk file in; raises NoSpace, and ConfigError where the folder is not writable."""
        with self._usable(), shared(self._lock):
            move_file(written, self.root / key)

    def small_chunks(self, keys: Iterable[str]) -> Mapping[str, bytes]:
        """Those of some chunk files that are in packs; raises ConfigError where these must not be read."""
        with self._usable():
            return self._chunks.read(keys)

    @contextmanager
    def chunks(self, key: str) -> Iterator[BinaryIO]:
        """A chunk file, open for reading; raises DocumentError (staged_lost), and ConfigError where it must not be read."""
        data = self.small_chunks([key]).get(key)
        if data is not None:
            yield BytesIO(data)
            return
        with self._opened(key) as file:
            yield file

    def _opened(self, key: str) -> BinaryIO:
        try:
            return (self.root / key).open("rb")
        except PermissionError as error:  # affects every chunk file: no document is at fault
            raise translated(error, key) from error
        except OSError as error:
            raise lost(key) from error

    def scratch(self) -> Path:
        """A new path in the folder's own `tmp/`: a rename from there is atomic."""
        return self._scratch / uuid.uuid4().hex

    def contents(self) -> Iterator[Content]:
        """All copies and chunk files; those that are removed meanwhile are left out. Raises ConfigError, StagingUnavailable."""
        with self._usable():
            for part in ("blobs", "chunks"):
                yield from self._below(part)
            for packs in (self._copies, self._chunks):
                for key, entry in packs.entries():
                    yield Content(key, entry.length, entry.put_at, packed=True)

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
        """Remove files, and overwrite what lies in packs, that were last used before a time; return the keys of those removed.

        Nobody moves a file in meanwhile, and whoever finds one to be there has made it younger before, or finds it gone after.
        What lies in a pack does not become younger: whoever might need it puts it into another one, which stays with its key.
        Raises StagingUnavailable where somebody keeps moving files in.
        """
        removed = []
        with self._alone():
            for key in keys:
                path = self.root / key
                try:
                    if path.stat().st_mtime >= before:
                        continue
                    path.unlink()
                except FileNotFoundError:
                    continue
                removed.append(key)
            for packs in (self._copies, self._chunks):
                removed += packs.empty(keys, before) - set(removed)
        return removed

    def compact(self, on_step: Callable[[], None]) -> None:
        """Remove empty packs, and write those again of which half is gone; raises StagingUnavailable as `discard` does."""
        for packs in (self._copies, self._chunks):
            with self._alone():
                packs.tidy()
            with self._usable():
                groups = packs.groups(on_step, thorough=True)
            for group in groups:  # each under a lock of its own: loads put files in meanwhile
                on_step()
                with self._alone():
                    packs.unite(group)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody moves a file in, or merges packs, meanwhile."""
        lock = FileLock(self._lock)
        with self._usable():
            if not lock.take(time.monotonic() + DISCARD_WAIT_S):
                raise StagingUnavailable(f"{self.root} has been busy for {DISCARD_WAIT_S:g} s; run the command again")
            try:
                yield
            finally:
                lock.release()

    def export(self, key: str, target: Path) -> None:
        """Make `target` another name of the file or, on another file system, a copy; raises FileNotFoundError, NoSpace."""
        try:
            os.link(self.root / key, target)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without links
            shutil.copy2(self.root / key, target)

    def packed(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Those of some contents that lie in packs, whole."""
        keys = list(keys)
        with self._usable():
            return self._copies.read(key for key in keys if not is_chunk_key(key)) | self._chunks.read(filter(is_chunk_key, keys))

    def adopt(self, pack: Path) -> None:
        """Copy a pack in, into the folder of its kind; raises NoSpace, ConfigError."""
        with self._usable(), self._temporary() as temporary:
            shutil.copyfile(pack, temporary)
            move_file(temporary, self.root / "packs" / pack.parent.name / pack.name)

    def abandoned(self) -> list[Content]:
        """Temporary files and folders that a killed process left behind, and damaged packs, by their names in this folder."""
        found = []
        with self._usable():
            torn = [Path(path) for packs in (self._copies, self._chunks) for path in packs.torn()]
            for path in (*self._scratch.iterdir(), *torn):
                try:
                    status = path.lstat()
                except FileNotFoundError:  # its owner is done with it
                    continue
                if time.time() - status.st_mtime > SCRATCH_MAX_AGE_S:
                    found.append(Content(path.relative_to(self.root).as_posix(), status.st_size, status.st_mtime))
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

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"

    def _usable(self) -> AbstractContextManager[None]:
        return translating(self.root, StagingUnavailable)
