"""The properties of an office file from before 2007, and the first bytes of its streams."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import olefile

from pipeline.parse.parsed import squeeze
from pipeline.parse.properties import properties

_TEXTS = {"author": "author", "subject": "subject", "keywords": "keywords"}
_TIMES = {"create_time": "created", "last_saved_time": "modified"}
_UTF_8 = 65001
#: Times before Windows existed stand for none.
_FIRST_YEAR = 1985


def read_properties(path: Path) -> tuple[str, dict[str, str]]:
    """The title of the file at `path`, and its other properties; none for a file that is no container."""
    if not olefile.isOleFile(path):
        return "", {}
    with olefile.OleFileIO(path) as container:
        found = container.get_metadata()
    page = found.codepage if isinstance(found.codepage, int) else 1252
    return _text(found.title, page), properties(_found(found, page))


def _found(found: olefile.OleMetadata, page: int) -> Iterator[tuple[str, str]]:
    for name, ours in _TEXTS.items():
        yield ours, _text(getattr(found, name), page)
    for name, ours in _TIMES.items():
        moment = getattr(found, name)
        if isinstance(moment, datetime) and moment.year >= _FIRST_YEAR:
            yield ours, moment.replace(microsecond=0, tzinfo=UTC).isoformat()


def _text(value: object, page: int) -> str:
    if not isinstance(value, bytes):
        return squeeze(value) if isinstance(value, str) else ""
    name = "utf-8" if page == _UTF_8 else f"cp{page & 0xFFFF}"
    try:
        codecs.lookup(name)
    except LookupError:
        name = "cp1252"
    return squeeze(value.decode(name, "replace").partition("\0")[0])
