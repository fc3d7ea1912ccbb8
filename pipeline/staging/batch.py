"""Contents that come into a staging folder together."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.staging.contents import PACKED_BYTES
from pipeline.staging.copies import blob_key, read_hashed
from pipeline.types import SourceFile, StagedFile

if TYPE_CHECKING:
    from pipeline.staging.local import LocalStaging

#: Bytes, and number, of the contents that a batch holds in memory until they are written as a pack.
BATCH_BYTES, BATCH_CONTENTS = 8 << 20, 4096


class LocalBatch:
    """Contents that come into a folder together; for any thread."""

    def __init__(self, staging: LocalStaging) -> None:
        self._staging = staging
        self._contents: dict[str, bytes] = {}
        self._known: set[str] = set()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, source: SourceFile, known: str = "") -> StagedFile:
        """Copy a file in; see `Batch.put`."""
        found = read_hashed(source, PACKED_BYTES)
        if found is None:
            return self._staging.put(source)
        content_hash, copied, data = found
        return self._kept(copied, content_hash, data, known)

    def take(self, copied: SourceFile, content_hash: str, written: Path, known: str = "") -> StagedFile:
        """Move a finished copy in; see `Batch.take`."""
        if copied.size > PACKED_BYTES:
            return self._staging.take(copied, content_hash, written)
        return self._kept(copied, content_hash, written.read_bytes(), known)

    def _kept(self, copied: SourceFile, content_hash: str, data: bytes, known: str) -> StagedFile:
        key = blob_key(content_hash)
        if content_hash == known:
            self._known.add(key)
        self.keep(key, data)
        return StagedFile(copied, content_hash, key)

    def keep(self, key: str, data: bytes) -> None:
        """Keep a content under its key."""
        if len(data) > PACKED_BYTES:
            self._staging.put_alone(key, data)
            return
        with self._lock:
            self._contents[key] = data
            self._bytes += len(data)
            if self._bytes < BATCH_BYTES and len(self._contents) < BATCH_CONTENTS:
                return
        self.flush()

    def put_chunks(self, key: str, written: Path) -> None:
        """Move a finished chunk file in."""
        if os.lstat(written).st_size > PACKED_BYTES:
            self._staging.put_chunks(key, written)
            return
        # A parser's child made it, and may have made a link, or a pipe that nobody writes to.
        descriptor = os.open(written, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb", buffering=0) as file:
            self.keep(key, file.read())
        os.unlink(written)

    def flush(self) -> None:
        """Write what is in memory."""
        with self._lock:
            contents, self._contents, self._bytes = self._contents, {}, 0
        if contents:
            self._staging.add(contents, self._known)
