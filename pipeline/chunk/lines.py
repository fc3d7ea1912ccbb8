"""Compressed JSON lines; `gzip` reads and writes the same format, and takes several times as long for small files."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Protocol

#: zlib's numbers of the format of gzip, which has a checksum: with the usual window of 32 KB, and with one of 4 KB, which takes a
#: fifth of the time to make.
_GZIP, _SMALL_GZIP = 31, 28
#: What fits into the small window is compressed no better with the usual one.
SMALL_BYTES = 4 << 10
#: Bytes that are read at once, and max bytes that they are unpacked to at once.
READ_BYTES, UNPACKED_BYTES = 64 << 10, 1 << 20

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


class _Packer(Protocol):
    """A compressor of zlib, whose class has no name."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Output(Protocol):
    """Takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Append bytes; raises OSError."""


class LineWriter:
    """Writes objects, one a line; the same objects give the same bytes."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._waiting = b""  #: while everything is small
        self._packer: _Packer | None = None

    def write(self, fields: Mapping[str, Any]) -> None:
        """Append an object; raises OSError."""
        line = _encode(fields).encode("ascii") + b"\n"
        if self._packer is None:
            self._waiting += line
            if len(self._waiting) <= SMALL_BYTES:
                return
            self._packer, line = zlib.compressobj(1, wbits=_GZIP), self._waiting
        if packed := self._packer.compress(line):
            self._output.write(packed)

    def finish(self) -> None:
        """Write what is left, and the checksum; raises OSError."""
        if self._packer is None:
            self._packer = zlib.compressobj(1, wbits=_SMALL_GZIP)
            self._output.write(self._packer.compress(self._waiting))
        self._output.write(self._packer.flush())


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of an open file; memory is bounded by the longest. Raises OSError, zlib.error, EOFError for one that is cut."""
    unpacker = zlib.decompressobj(_GZIP)
    rest = b""
    while packed := file.read(READ_BYTES):
        while packed:
            *lines, rest = (rest + unpacker.decompress(packed, UNPACKED_BYTES)).split(b"\n")
            yield from lines
            packed = unpacker.unconsumed_tail
    if not unpacker.eof or unpacker.unused_data:
        raise EOFError("it is cut, or more follows its end")
    if rest:
        yield rest
