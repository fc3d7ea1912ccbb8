"""What is drawn on the sheets of an old workbook: the words of text boxes, and the number of pictures, charts and objects.

xlrd reads cells and comments alone. The records are those of [MS-XLS]: BoundSheet8, Obj, TxO and Continue.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import olefile

_BOUND_SHEET, _OBJ, _TXO, _CONTINUE, _BOF, _EOF = 0x85, 0x5D, 0x1B6, 0x3C, 0x809, 0x0A
_CHART, _PICTURE, _NOTE = 5, 8, 25
#: The part of an Obj record of pictures that stand for an object of another program.
_FORMULA = 0x09
_FILE_HEADER = 8


@dataclass(slots=True)
class Drawn:
    """What is drawn on a sheet."""

    texts: list[str] = field(default_factory=list)
    pictures: int = 0
    charts: int = 0
    objects: int = 0


def read_drawn(path: Path) -> dict[str, Drawn]:
    """What is drawn on each sheet of the workbook at `path`, by its name; nothing for files from before Excel 97."""
    if not olefile.isOleFile(path):
        return {}
    with olefile.OleFileIO(path) as container:
        if not container.exists("Workbook"):
            return {}
        data = container.openstream("Workbook").read()
    sheets = {at: name for kind, start, size in _records(data, 0) if kind == _BOUND_SHEET for at, name in _sheet(data, start, size)}
    return {name: _drawn(data, at) for at, name in sheets.items()}


def _records(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Kind, start and size of the records from `at` to the end of their part; parts inside it are passed over."""
    depth = 0
    while at + 4 <= len(data):
        kind, size = struct.unpack_from("<HH", data, at)
        at += 4
        if kind == _BOF:
            depth += 1
        elif kind == _EOF:
            depth -= 1
            if depth <= 0:
                return
        elif depth == 1:
            yield kind, at, size
        at += size


def _sheet(data: bytes, start: int, size: int) -> Iterator[tuple[int, str]]:
    if size < _FILE_HEADER:
        return
    place, count, wide = struct.unpack_from("<I", data, start)[0], data[start + 6], data[start + 7] & 1
    raw = data[start + 8 : start + 8 + count * (1 + wide)]
    yield place, raw.decode("utf-16-le" if wide else "latin-1", "replace")


def _drawn(data: bytes, at: int) -> Drawn:
    found, of_note, awaited = Drawn(), False, 0
    for kind, start, size in _records(data, at):
        if kind == _OBJ and size >= 10:
            what = struct.unpack_from("<H", data, start + 4)[0]
            of_note = what == _NOTE
            found.charts += what == _CHART
            if what == _PICTURE:
                is_object = _FORMULA in _parts(data, start, size)
                found.objects, found.pictures = found.objects + is_object, found.pictures + (not is_object)
        elif kind == _TXO and size >= 12:
            awaited = 0 if of_note else struct.unpack_from("<H", data, start + 10)[0]
            if awaited:
                found.texts.append("")
        elif kind == _CONTINUE and awaited and size > 1:
            wide = data[start] & 1
            text = data[start + 1 : start + size].decode("utf-16-le" if wide else "latin-1", "replace")[:awaited]
            found.texts[-1] += text
            awaited -= len(text)
    return found


def _parts(data: bytes, start: int, size: int) -> Iterator[int]:
    """The kinds of the parts of an Obj record."""
    at, end = start, min(start + size, len(data))
    while at + 4 <= end:
        kind, length = struct.unpack_from("<HH", data, at)
        yield kind
        at += 4 + length
