"""Compressed JSON lines; `gzip` reads and writes the same format, and takes several times as long for small files."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

#: zlib's numbers of the format of gzip, which has a checksum: with the usual window of 32 KB, and with one of 4 KB, which takes a
#: fifth of the time to make.
_GZIP, _SMALL_GZIP = 31, 28
#: What fits into the small window is compressed no better with the usual one.
SMALL_BYTES = 4 << 10
#: Bytes that are read at once, and max bytes that they are unpacked to at once.
READ_BYTES, UNPACKED_BYTES = 64 << 10, 1 << 20

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


class LineWriter:
    """Writes objects, one a line; the same objects give the same bytes."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """`write` appends to the file; raises OSError."""
        self._write = write
        self._waiting = b""  #: while everything is small
        self._packer: zlib._Compress | None = None

    def write(self, fields: Mapping[str, Any]) -> None:
        """Append an object; raises OSError."""
        line = _encode(fields).encode("ascii") + b"\n"
        if self._packer is None:
            self._waiting += line
            if len(self._waiting) <= SMALL_BYTES:
                return
            self._packer, line = zlib.compressobj(1, wbits=_GZIP), self._waiting
        if packed := self._packer.compress(line):
            self._write(packed)

    def finish(self) -> None:
        """Write what is left, and the checksum; raises OSError."""
        if self._packer is None:
            self._packer = zlib.compressobj(1, wbits=_SMALL_GZIP)
            self._write(self._packer.compress(self._waiting))
        self._write(self._packer.flush())


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of an open file; memory is bounded by the longest. Raises OSError, zlib.error, EOFError for one that is cut."""
    unpacker = zlib.decompressobj(_GZIP)
    begun: list[bytes] = []  # of the current line
    while packed := file.read(READ_BYTES):
        while packed:
            first, *further = unpacker.decompress(packed, UNPACKED_BYTES).split(b"\n")
            begun.append(first)
            if further:
                yield b"".join(begun)
                yield from further[:-1]
                begun = [further[-1]]
            packed = unpacker.unconsumed_tail
    if not unpacker.eof or unpacker.unused_data:
        raise EOFError("it is cut, or more follows its end")
    if last := b"".join(begun):
        yield last
