"""Metadata in files beside documents: `report.pdf.meta.json` for one document, and `metadata.csv` for those of a folder."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.filters import Bare, field_name
from pipeline.metadata import Raw, why_not
from pipeline.types import SourceFile

#: Ending of a file with the metadata of the document whose name precedes it, and the name of a folder's table.
ENDING, TABLE = ".meta.json", "metadata.csv"

#: Headings of a table's first column, which has the names of the files; a table without one is an ordinary document.
HEADINGS = ("file", "filename", "file_name", "name")

#: Maximum sizes in bytes.
MAX_SIDECAR, MAX_TABLE = 256 << 10, 32 << 20

#: Folders that are remembered: a listing goes through one after the other.
FOLDERS = 8

_Fields = Mapping[str, Raw]


@dataclass(frozen=True, slots=True)
class _Folder:
    sidecars: frozenset[str]  #: names of the documents that have one
    rows: Mapping[str, _Fields] | None  #: of the table, by the name of the file; None: there is no table
    wrong: tuple[str, ...] = ()  #: why the table could not be read


@dataclass(slots=True)
class Sidecars:
    """Reads the metadata beside files, the table of each folder once. Objects of object stores have none."""

    _folders: OrderedDict[Path, _Folder] = field(default_factory=OrderedDict)

    def is_one(self, file: SourceFile) -> bool:
        """Whether a file has metadata of others, and is no document itself."""
        if file.path is None or not file.uri.startswith("file://"):
            return False
        name = file.path.name
        if name == TABLE:
            return self._of(file.path.parent).rows is not None
        return name.endswith(ENDING) and name.removesuffix(ENDING) in self._of(file.path.parent).sidecars

    def of(self, file: SourceFile) -> tuple[dict[str, Raw], tuple[str, ...]]:
        """The metadata beside a file, that of its own file before that of the table; and what of it could not be read."""
        if file.path is None or not file.uri.startswith("file://"):
            return {}, ()
        folder, name = self._of(file.path.parent), file.path.name
        found = dict((folder.rows or {}).get(name, {}))
        wrong = list(folder.wrong)
        if name in folder.sidecars:
            own, why = _sidecar(file.path.with_name(name + ENDING))
            found |= own
            wrong += why
        return found, tuple(wrong)

    def _of(self, path: Path) -> _Folder:
        if path not in self._folders:
            self._folders[path] = _folder(path)
            if len(self._folders) > FOLDERS:
                self._folders.popitem(last=False)
        self._folders.move_to_end(path)
        return self._folders[path]


def _folder(path: Path) -> _Folder:
    try:
        names = set(os.listdir(path))
    except OSError:
        return _Folder(frozenset(), None)
    having = (name.removesuffix(ENDING) for name in names if name.endswith(ENDING))
    rows, wrong = _table(path / TABLE) if TABLE in names else (None, ())
    return _Folder(frozenset(name for name in having if name in names), rows, wrong)


def _table(path: Path) -> tuple[Mapping[str, _Fields] | None, tuple[str, ...]]:
    try:
        text = _text(path, MAX_TABLE)
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [field_name(one) for one in next(reader, [])]
        if not header or header[0] not in HEADINGS:
            return None, ()
        rows = {}
        for row in reader:
            if row:
                cells = zip(header[1:], row[1:], strict=False)
                rows[row[0].strip()] = {name: Bare(cell.strip()) for name, cell in cells if name and cell.strip()}
        return rows, ()
    except (OSError, ValueError, csv.Error) as error:
        return {}, (f"{TABLE}: {_said(error)}",)


def _sidecar(path: Path) -> tuple[dict[str, Raw], list[str]]:
    try:
        kept = json.loads(_text(path, MAX_SIDECAR))
        if not isinstance(kept, dict):
            return {}, [f"{path.name}: is not one JSON object"]
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"{path.name}: {_said(error)}"]
    found: dict[str, Raw] = {}
    wrong = []
    for key, value in kept.items():
        name = field_name(key)
        why = why_not(name) or ("" if _is_raw(value) else "only texts, numbers, truth values and lists of them can be stored")
        if why:
            wrong.append(f"{path.name}: {key[:64]}: {why}")
        else:
            found[name] = value
    return found, wrong


def _is_raw(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, (str, int, float)) for one in value)
    return value is None or isinstance(value, (str, int, float))


def _text(path: Path, most: int) -> str:
    """The text of a file in UTF-8. Raises OSError and ValueError."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"is larger than {most:,} bytes")
    return data.decode("utf-8-sig")


def _said(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return f"cannot be read: {error}"
