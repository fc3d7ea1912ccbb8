"""Staging in an object store, through fsspec: for workers on several hosts. Every content is an object: there are no packs."""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import fsspec

from pipeline.errors import ConfigError, StagingUnavailable
from pipeline.sources.objects import client_errors, modified_at
from pipeline.staging.contents import IN_USE_S, Content, Piece
from pipeline.staging.copies import blob_key, check_blob, copy_hashed, lost
from pipeline.staging.packs import contents_of
from pipeline.types import SourceFile, StagedFile

#: Contents that are stored at once: each answer takes a while, and most of that is waiting.
UPLOADS = 16


class ObjectStaging:
    """Copies and chunk files as objects under a URL such as `s3://bucket/prefix`.

    An object appears whole or not at all, so the store needs no temporary object and no rename.
    """

    def __init__(self, url: str) -> None:
        try:
            self._files, self._prefix = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"KB_STAGING_URL: {error}") from error
        self._folder = Path(tempfile.mkdtemp(prefix="kb-staging-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def put(self, source: SourceFile, known: str = "") -> StagedFile:
        """Copy a file in, unless an object with its hash and size exists; raises DocumentError (unreadable, changed)."""
        temporary = self.scratch()
        try:
            content_hash, copied = copy_hashed(source, temporary)
            return self.take(copied, content_hash, temporary)
        finally:
            temporary.unlink(missing_ok=True)

    def take(self, copied: SourceFile, content_hash: str, written: Path, known: str = "") -> StagedFile:
        """Upload a finished copy, unless an object with its hash and size exists."""
        target = self._path(blob_key(content_hash))
        if not self._is_there(target, copied.size):
            self._upload(written, target)
        return StagedFile(copied, content_hash, blob_key(content_hash))

    def put_bytes(self, contents: Mapping[str, bytes], on_tick: Callable[[], None]) -> None:
        """Keep contents under their hashes, several at once; `on_tick` is called for each."""
        with ThreadPoolExecutor(UPLOADS, "upload") as pool:
            for _ in pool.map(self._put_bytes, contents, contents.values()):
                on_tick()

    def _put_bytes(self, content_hash: str, data: bytes) -> None:
        self.keep(blob_key(content_hash), data)

    @contextmanager
    def batch(self) -> Iterator[ObjectStaging]:
        """Itself: each content goes to the store at once."""
        yield self

    def keep(self, key: str, data: bytes) -> None:
        """Keep a content under its key, unless an object of its size exists."""
        target = self._path(key)
        if not self._is_there(target, len(data)):
            with _errors():
                self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
                self._files.pipe_file(target, data)

    def _is_there(self, target: str, size: int) -> bool:
        """Whether an object of this size is there, and so young that nobody removes it before it is recorded.

        An older one is stored again: object stores have no other way to make it younger.
        """
        with _errors():
            try:
                status = self._files.info(target)
            except FileNotFoundError:
                return False
        return status["size"] == size and modified_at(status) > time.time() - IN_USE_S / 2

    @contextmanager
    def blob(self, content_hash: str) -> Iterator[Path]:
        """A checked local copy that lives as long as the context; raises DocumentError (staged_lost)."""
        with self._local(blob_key(content_hash)) as local:
            check_blob(local, content_hash)
            yield local

    def flush(self) -> None:
        """Nothing: see `batch`."""

    @contextmanager
    def pieces(self, hashes: Iterable[str]) -> Iterator[Mapping[str, Piece]]:
        """None: each object is fetched to a file of its own."""
        yield {}

    def with_chunks(self, keys: Iterable[str]) -> set[str]:
        """Those of some chunk files that exist; several are asked for at once."""
        keys = list(keys)
        with _errors(), ThreadPoolExecutor(UPLOADS, "exists") as pool:
            there = pool.map(self._files.exists, map(self._path, keys))
            return {key for key, is_there in zip(keys, there, strict=True) if is_there}

    def put_chunks(self, key: str, written: Path) -> None:
        """Move a finished chunk file in."""
        self._upload(written, self._path(key))
        written.unlink(missing_ok=True)

    def small_chunks(self, keys: Iterable[str]) -> Mapping[str, bytes]:
        """None: each is an object."""
        return {}

    @contextmanager
    def chunks(self, key: str) -> Iterator[BinaryIO]:
        """A local copy of a chunk file that lives as long as the context; raises DocumentError (staged_lost)."""
        with self._local(key) as local, local.open("rb") as file:
            yield file

    def scratch(self) -> Path:
        """A new path in a private temporary folder of this process."""
        return self._folder / uuid.uuid4().hex

    def contents(self) -> Iterator[Content]:
        """All copies and chunk files; raises StagingUnavailable."""
        for part in ("blobs", "chunks"):
            with _errors():
                try:
                    self._files.invalidate_cache()
                    found = self._files.find(self._path(part), detail=True)
                except FileNotFoundError:
                    continue
            for path, status in found.items():
                key = f"{part}/{path.rpartition(f'/{part}/')[2]}"
                yield Content(key, int(status["size"]), modified_at(status))

    def discard(self, keys: Sequence[str], before: float) -> list[str]:
        """Remove objects that were stored before a time, several at once; return the keys of those removed.

        Each is looked at right before: stores cannot do both in one step.
        """
        with ThreadPoolExecutor(UPLOADS, "discard") as pool:
            return [key for key, gone in zip(keys, pool.map(lambda key: self._discard(key, before), keys), strict=True) if gone]

    def _discard(self, key: str, before: float) -> bool:
        target = self._path(key)
        with _errors():
            try:
                if modified_at(self._files.info(target)) >= before:
                    return False
                self._files.rm_file(target)
            except FileNotFoundError:
                return False
        return True

    def export(self, key: str, target: Path) -> None:
        """Fetch an object; raises FileNotFoundError if it is not there."""
        with _errors():
            self._files.get_file(self._path(key), str(target))

    def packed(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Nothing."""
        return {}

    def adopt(self, pack: Path) -> None:
        """Store the contents of a pack as objects, several at once; raises StagingUnavailable."""
        with ThreadPoolExecutor(UPLOADS, "upload") as pool:
            for window in contents_of(pack):
                list(pool.map(self.keep, window, window.values()))

    def compact(self, on_step: Callable[[], None]) -> None:
        """Nothing: a discarded object takes no room."""

    def abandoned(self) -> list[Content]:
        """Nothing: temporary files lie in this process's own folder."""
        return []

    def sweep(self) -> int:
        """Nothing is to be removed."""
        return 0

    def _path(self, key: str) -> str:
        return f"{self._prefix}/{key}"

    def _upload(self, local: Path, target: str) -> None:
        with _errors():
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(local), target)

    @contextmanager
    def _local(self, key: str) -> Iterator[Path]:
        local = self.scratch()
        try:
            try:
                with _errors():
                    self._files.get_file(self._path(key), str(local))
            except FileNotFoundError as error:
                raise lost(key) from error
            yield local
        finally:
            local.unlink(missing_ok=True)


@contextmanager
def _errors() -> Iterator[None]:
    """Turn errors of the store's client into StagingUnavailable; FileNotFoundError for a missing object stays unchanged."""
    try:
        with client_errors():
            yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StagingUnavailable(f"the object store of KB_STAGING_URL does not answer: {error}") from error
