"""A pack: a file with many small contents and an index of them, written once by one process and then only emptied in place.

Its parts: the contents; a record for each, in the order of their hashes; the first bytes of these hashes; labels and the names of
packs that it replaces, as JSON; a footer. A file without a whole footer that fits its size is no pack.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from types import TracebackType
from typing import NamedTuple

from pipeline.errors import ConfigError

#: Hash, number of the label, length, offset, CRC-32 of the content, time of its arrival, whether it is gone.
_RECORD = struct.Struct("<32sIIQIIB3x")
_GONE_AT = _RECORD.size - 4  #: place of the last field in a record

#: Start of the records, their number, bytes of the JSON, CRC-32 of what follows the records, and what the file is: the last byte
#: is the version.
_FOOTER = struct.Struct("<QIII8s")
_MAGIC = b"kbpack\x00\x01"

#: Records that are read at once.
_WINDOW = 4096


class NotAPack(Exception):
    """A file that is cut short, or something else."""


def has_vanished(error: OSError) -> bool:
    """Whether a file is gone; ESTALE: another host has removed it on NFS while it was open here."""
    return error.errno in (errno.ENOENT, errno.ESTALE)


class Entry(NamedTuple):
    """A content of a pack. A tuple: millions of them are read."""

    digest: bytes  #: sha256 of the document's bytes
    label: str  #: tells contents with the same digest apart; see `copies.split_key`
    length: int
    offset: int
    crc: int
    put_at: int  #: when it came into staging, in seconds since the epoch
    number: int  #: of its record


class Wanted(NamedTuple):
    """A content that is looked for."""

    prefix: int  #: the first four bytes of the digest
    digest: bytes
    label: str

    @classmethod
    def of(cls, digest: bytes, label: str) -> Wanted:
        """That with this digest and label."""
        return cls(int.from_bytes(digest[:4]), digest, label)


class PackWriter:
    """Writes a pack; a context manager that leaves no file behind where it is left by an error."""

    def __init__(self, path: str, replaces: Sequence[str] = ()) -> None:
        self.path = path
        self._replaces = list(replaces)
        self._labels: dict[str, int] = {}
        self._records: list[tuple[bytes, int, int, int, int, int, int]] = []
        self.bytes = 0  #: of the contents so far
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb", buffering=1 << 18)

    def __len__(self) -> int:
        return len(self._records)

    def add(self, digest: bytes, label: str, data: bytes, put_at: int) -> None:
        """Append a content. Raises OSError."""
        number = self._labels.setdefault(label, len(self._labels))
        self._records.append((digest, number, len(data), self.bytes, zlib.crc32(data), put_at, 0))
        self._file.write(data)
        self.bytes += len(data)

    def finish(self) -> None:
        """Write the index, and wait until the disk has all of it. Raises OSError."""
        self._records.sort()
        prefixes = array("I", [int.from_bytes(record[0][:4]) for record in self._records])
        if sys.byteorder == "big":
            prefixes.byteswap()
        about = json.dumps({"labels": list(self._labels), "replaces": self._replaces}).encode()
        tail = prefixes.tobytes() + about
        self._file.write(b"".join([_RECORD.pack(*record) for record in self._records]))
        self._file.write(tail + _FOOTER.pack(self.bytes, len(self._records), len(about), zlib.crc32(tail), _MAGIC))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            try:
                self._file.close()
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(self.path)


@dataclass(frozen=True, slots=True)
class Pack:
    """The index of a pack, of which four bytes for each content are in memory."""

    path: str
    records_at: int
    size: int  #: of the file
    labels: list[str]
    replaces: list[str]  #: names of packs whose contents it has
    prefixes: array[int]  #: the first four bytes of each digest, as numbers, sorted

    @classmethod
    def open(cls, path: str) -> Pack:
        """Read the index; raises NotAPack, OSError, and ConfigError for one of a later version."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            footer = os.pread(descriptor, _FOOTER.size, max(0, size - _FOOTER.size))
            if len(footer) < _FOOTER.size:
                raise NotAPack(path)
            records_at, count, about_size, crc, magic = _FOOTER.unpack(footer)
            tail_at = records_at + count * _RECORD.size
            if magic != _MAGIC and magic.startswith(_MAGIC[:-1]):
                raise ConfigError(f"{path} was written by a later version of kb-ingest; use that version")
            if magic != _MAGIC or tail_at + 4 * count + about_size + _FOOTER.size != size:
                raise NotAPack(path)
            tail = os.pread(descriptor, 4 * count + about_size, tail_at)
        finally:
            os.close(descriptor)
        if zlib.crc32(tail) != crc:
            raise NotAPack(path)
        prefixes = array("I")
        prefixes.frombytes(tail[: 4 * count])
        if sys.byteorder == "big":
            prefixes.byteswap()
        about = json.loads(tail[4 * count :])
        return cls(path, records_at, size, about["labels"], about["replaces"], prefixes)

    def __len__(self) -> int:
        return len(self.prefixes)

    def search(self, wanted: Mapping[str, Wanted]) -> dict[str, Entry]:
        """Those of the wanted contents that are here and not gone, by the same keys. Raises OSError."""
        prefixes, count = self.prefixes, len(self.prefixes)
        maybe = [
            (key, one, number)
            for key, one in wanted.items()
            if (number := bisect_left(prefixes, one.prefix)) < count and prefixes[number] == one.prefix
        ]
        found: dict[str, Entry] = {}
        if not maybe:
            return found
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            for key, one, first in maybe:
                for number in range(first, count):
                    if prefixes[number] != one.prefix:
                        break
                    raw = os.pread(descriptor, _RECORD.size, self.records_at + number * _RECORD.size)
                    entry = self._entry(raw, number) if raw.startswith(one.digest) else None
                    if entry is not None and entry.label == one.label:
                        found[key] = entry
        finally:
            os.close(descriptor)
        return found

    def _entry(self, raw: bytes, number: int) -> Entry | None:
        digest, label, length, offset, crc, put_at, gone = _RECORD.unpack(raw)
        return None if gone else Entry(digest, self.labels[label], length, offset, crc, put_at, number)

    def entries(self) -> Iterator[Entry]:
        """All contents but those that are gone, in the order of their digests. Raises OSError."""
        with open(self.path, "rb", buffering=0) as file:
            for start in range(0, len(self.prefixes), _WINDOW):
                count = min(_WINDOW, len(self.prefixes) - start)
                raw = os.pread(file.fileno(), count * _RECORD.size, self.records_at + start * _RECORD.size)
                for number, (digest, label, length, offset, crc, put_at, gone) in enumerate(_RECORD.iter_unpack(raw), start):
                    if not gone:
                        yield Entry(digest, self.labels[label], length, offset, crc, put_at, number)

    def read(self, entries: Sequence[Entry]) -> list[bytes | None]:
        """The bytes of some contents; None for one that is damaged. Raises OSError."""
        found: list[bytes | None] = []
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            for entry in entries:
                data = os.pread(descriptor, entry.length, entry.offset)
                whole = len(data) == entry.length and zlib.crc32(data) == entry.crc
                found.append(data if whole and (entry.label or sha256(data).digest() == entry.digest) else None)
        finally:
            os.close(descriptor)
        return found

    def empty(self, entries: Sequence[Entry]) -> None:
        """Overwrite contents with zeros and mark them as gone, in this order: a kill in between leaves none that only looks gone.

        Raises OSError.
        """
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            for entry in entries:
                os.pwrite(descriptor, bytes(entry.length), entry.offset)
            os.fsync(descriptor)
            for entry in entries:
                os.pwrite(descriptor, b"\x01", self.records_at + entry.number * _RECORD.size + _GONE_AT)
        finally:
            os.close(descriptor)
