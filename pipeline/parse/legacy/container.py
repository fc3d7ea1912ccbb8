"""The properties of an office file from before 2007: the property set of [MS-OLEPS] that all of them have.

olefile reads it, too, but follows whatever counts a damaged one gives, for hours.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import olefile

from pipeline.parse.parsed import squeeze
from pipeline.parse.properties import properties

_STREAM = "\x05SummaryInformation"
_CODE_PAGE, _TITLE = 1, 2
#: Numbers of properties, and our names of them.
_NAMES = {3: "subject", 4: "author", 5: "keywords", 12: "created", 13: "modified"}
_INT16, _STRING, _WIDE, _TIME = 2, 30, 31, 64
#: Code pages of Unicode, and names of others where Python's differ.
_UTF_16, _UTF_8, _MAC_ROMAN = 1200, 65001, 10000
#: The place of the first set's offset, and maximum numbers of bytes and properties that are read.
_SET, _MAX_BYTES, _MAX_PROPERTIES = 44, 1 << 20, 200
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
#: Times before Windows existed stand for none.
_FIRST_YEAR = 1985


def read_properties(path: Path) -> tuple[str, dict[str, str]]:
    """The title of the file at `path`, and its other properties; none for a damaged set, or a file that is no container."""
    if not olefile.isOleFile(path):
        return "", {}
    with olefile.OleFileIO(path) as container:
        data = container.openstream(_STREAM).read(_MAX_BYTES) if container.exists(_STREAM) else b""
    try:
        found = dict(_values(data))
    except (struct.error, OverflowError):
        return "", {}
    return squeeze(found.get(_TITLE, "")), properties((_NAMES[key], value) for key, value in found.items() if key in _NAMES)


def _values(data: bytes) -> Iterator[tuple[int, str]]:
    """The texts and times of a set by their numbers, times as ISO 8601."""
    if len(data) < _SET + 4:
        return
    start = struct.unpack_from("<I", data, _SET)[0]
    count = min(struct.unpack_from("<I", data, start + 4)[0], _MAX_PROPERTIES)
    places = [struct.unpack_from("<II", data, start + 8 + 8 * number) for number in range(count)]
    page = 1252
    for key, offset in sorted(places):  # the code page is the first one
        kind, value = struct.unpack_from("<II", data, start + offset)
        content = data[start + offset + 8 :]
        if key == _CODE_PAGE and kind == _INT16:
            page = value & 0xFFFF
        elif kind == _STRING:
            yield key, _decoded(content[:value], page)
        elif kind == _WIDE:
            yield key, content[: 2 * value].decode("utf-16-le", "replace").partition("\0")[0]
        elif kind == _TIME:
            ticks = value | struct.unpack_from("<I", content)[0] << 32
            moment = _EPOCH + timedelta(seconds=ticks // 10_000_000)
            if moment.year >= _FIRST_YEAR:
                yield key, moment.isoformat()


def _decoded(text: bytes, page: int) -> str:
    name = {_UTF_16: "utf-16-le", _UTF_8: "utf-8", _MAC_ROMAN: "mac-roman"}.get(page, f"cp{page}")
    try:
        codecs.lookup(name)
    except LookupError:
        name = "cp1252"
    return text.decode(name, "replace").partition("\0")[0]
