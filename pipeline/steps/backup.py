"""Backups of a data folder, made while loads run: the ledger, the staged files that it needs, and the points of the embedded store.

The ledger is copied while no process can write points, and the points directly after it. Staged files are collected last, by what
the copied ledger names: nothing removes staged files while a backup is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from pipeline.errors import BackupError
from pipeline.files.copy import copy_file
from pipeline.files.errors import translating
from pipeline.files.replace import replace_file
from pipeline.ledger import Ledger
from pipeline.ledger.intake import ID_WINDOW
from pipeline.ledger.schema import SCHEMA_VERSION
from pipeline.staging import Staging
from pipeline.staging.contents import Content
from pipeline.staging.packs import PackFolder

#: The parts of a backup. The manifest is written last: a folder without one is not a backup.
MANIFEST, FILES, LEDGER, STAGED, POINTS = "manifest.json", "files.jsonl", "kb.db", "staging", "qdrant"

#: In a backup's folder while it is being made, and after that was interrupted.
UNFINISHED = "unfinished"

#: Raise it with every change of the layout. Those of format 1 have no packs.
FORMAT = 2
READABLE = (1, FORMAT)

#: Bytes of one read.
WINDOW = 1 << 20

#: Copies points: calls the first argument while no process can write any, then copies each file with the second one.
CopyPoints = Callable[[Callable[[], None], Callable[[Path, Path], None]], None]


@dataclass(frozen=True, slots=True)
class Made:
    """A finished backup."""

    files: int
    bytes: int
    lost: int  #: staged files that vanished while they were collected: damaged ones, which a worker removed


def make(
    folder: Path,
    ledger: Ledger,
    staging: Staging,
    copy_points: CopyPoints | None,
    about: Mapping[str, Any],
    on_file: Callable[[int, int], None] = lambda files, size: None,
) -> Made:
    """Make a backup in `folder`, which must be new, empty, or hold one that was interrupted: that one starts again.

    `copy_points`: None leaves the points out. `about` is written to the manifest. `on_file` gets the numbers of files and bytes so
    far. Raises BackupError for a folder that holds something else, StoreLocked, LedgerUnavailable, NoSpace.
    """
    with translating(folder, BackupError):
        _begin(folder)
        with (folder / FILES).open("w", encoding="ascii") as listing:
            files = _Files(folder, listing, on_file)
            copied = folder / LEDGER
            if copy_points is None:
                ledger.copy(copied)
            else:
                copy_points(lambda: ledger.copy(copied), files.copy)
            lost = _stage(files, copied, staging)
            files.add(copied)
        manifest = {
            "format": FORMAT, "made_at": time.time(), **about, "files": files.count, "bytes": files.bytes,
            "listing": _digest(folder / FILES)[0],
        }  # fmt: skip
        os.sync()
        replace_file(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode(), durable=True)
        (folder / UNFINISHED).unlink()
    return Made(files.count, files.bytes, lost)


class _Files:
    """Files that a backup has so far, listed with size and hash."""

    def __init__(self, folder: Path, listing: TextIO, on_file: Callable[[int, int], None]) -> None:
        self.folder = folder
        self._listing = listing
        self._on_file = on_file
        self.count = self.bytes = 0

    def copy(self, source: Path, target: Path) -> None:
        """Copy a file that nobody writes to now."""
        digest = hashlib.sha256()
        size = copy_file(source, target, digest.update)
        self._list(target, digest.hexdigest(), size)

    def add(self, path: Path) -> None:
        """List a file that is there already."""
        self._list(path, *_digest(path))

    def _list(self, path: Path, digest: str, size: int) -> None:
        name = path.relative_to(self.folder).as_posix()
        self._listing.write(json.dumps({"path": name, "bytes": size, "sha256": digest}) + "\n")
        self.count, self.bytes = self.count + 1, self.bytes + size
        self._on_file(self.count, self.bytes)


def _begin(folder: Path) -> None:
    """Make the folder ready; see `make`."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).exists():
        if not (folder / UNFINISHED).exists():
            raise BackupError(f"{folder} holds a complete backup, which stays as it is; name another folder")
        (folder / MANIFEST).unlink()
    if (folder / UNFINISHED).exists():
        for part in (STAGED, POINTS):
            shutil.rmtree(folder / part, ignore_errors=True)
        for name in (LEDGER, f"{LEDGER}-journal", f"{LEDGER}-wal", f"{LEDGER}-shm", FILES):
            (folder / name).unlink(missing_ok=True)
    elif found := next(folder.iterdir(), None):
        raise BackupError(f"{folder} is not empty: it holds {found.name!r}, which is no part of a backup; name another folder")
    (folder / UNFINISHED).write_text("This backup has no manifest: it is being made, or that was interrupted.\n")


def _stage(files: _Files, copied: Path, staging: Staging) -> int:
    """Collect the staged files that the copied ledger names; return how many of them vanished meanwhile."""
    lost, contents = 0, staging.contents()
    folders = [files.folder / STAGED / "packs" / kind for kind in ("blobs", "chunks")]
    with Ledger.open(f"sqlite:///{copied}") as ledger, ExitStack() as stack:
        copies, chunk_files = (stack.enter_context(PackFolder(folder, files.add)) for folder in folders)
        while window := list(islice(contents, ID_WINDOW)):
            idle = {one.key for one in ledger.upkeep.unneeded(window)}
            needed = [one for one in window if one.key not in idle]
            # Packs are not linked: what is removed from one is overwritten.
            packed = staging.packed(one.key for one in needed if one.packed)
            for one in needed:
                if not one.packed:
                    lost += not _export(files, one, staging)
                elif one.key in packed:
                    (chunk_files if one.is_chunk_file else copies).add(one.key, packed[one.key], one.used_at)
                else:
                    lost += 1
        ledger.become_one_file()
    return lost


def _export(files: _Files, one: Content, staging: Staging) -> bool:
    target = files.folder / STAGED / one.key
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        staging.export(one.key, target)
    except FileNotFoundError:
        return False
    files.add(target)
    return True


def _digest(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as reader:
        while window := reader.read(WINDOW):
            digest.update(window)
            size += len(window)
    return digest.hexdigest(), size


@dataclass(frozen=True, slots=True)
class Checked:
    """A backup whose files are all as they were when it was made."""

    folder: Path
    about: dict[str, Any]  #: its manifest
    files: int
    bytes: int

    def paths(self, part: str) -> Iterator[tuple[Path, str]]:
        """The files of a part, with their places below it."""
        for entry in _entries(self.folder):
            name = PurePosixPath(entry["path"])
            if name.parts[0] == part and len(name.parts) > 1:
                yield self.folder / name, str(PurePosixPath(*name.parts[1:]))


def check(folder: Path, on_file: Callable[[int, int], None] = lambda files, size: None) -> Checked:
    """Compare every file of a backup with its hash; changes nothing. `on_file` as in `make`.

    Raises BackupError where the backup is incomplete, damaged, or of a later version.
    """
    with translating(folder, BackupError):
        about = _manifest(folder)
        if _digest(folder / FILES)[0] != about.get("listing"):
            raise BackupError(f"{folder / FILES} is damaged: nothing was restored; use another backup")
        count = total = 0
        wrong: list[str] = []
        for entry in _entries(folder):
            path = folder / entry["path"]
            if not path.is_file():
                wrong.append(f"{entry['path']} is missing")
            elif _digest(path) != (entry["sha256"], entry["bytes"]):
                wrong.append(f"{entry['path']} has other contents than when the backup was made")
            count, total = count + 1, total + int(entry["bytes"])
            on_file(count, total)
    if wrong:
        more = f", and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
        raise BackupError(f"the backup {folder} is damaged: {wrong[0]}{more}; nothing was restored, use another backup")
    return Checked(folder, about, count, total)


def _manifest(folder: Path) -> dict[str, Any]:
    if (folder / UNFINISHED).exists():
        raise BackupError(
            f"the backup in {folder} was not finished: it has no manifest; make it again with `kb-ingest backup {folder}`, "
            "or use another one"
        )
    if not (folder / MANIFEST).exists():
        raise BackupError(f"{folder} holds no backup: it has no {MANIFEST}")
    try:
        about = json.loads((folder / MANIFEST).read_bytes())
    except ValueError as error:
        raise BackupError(f"{folder / MANIFEST} is damaged: {error}; use another backup") from error
    if not isinstance(about, dict) or about.get("format") not in READABLE:
        raise BackupError(f"{folder / MANIFEST} has a format that this version does not know; use the version that made it")
    if int(about.get("schema", 0)) > SCHEMA_VERSION:
        raise BackupError(
            f"the ledger in {folder} has schema {about['schema']}, later than this version's; use the version that made it"
        )
    return about


def _entries(folder: Path) -> Iterator[dict[str, Any]]:
    with (folder / FILES).open(encoding="ascii") as listing:
        for line in listing:
            entry = json.loads(line)
            name = PurePosixPath(entry["path"])
            if name.is_absolute() or ".." in name.parts or name.parts[0] not in (LEDGER, STAGED, POINTS):
                raise BackupError(f"{folder / FILES} names {entry['path']!r}, which is no part of a backup; nothing was restored")
            yield entry
