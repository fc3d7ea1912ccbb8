"""Find the files below some roots, in a stream: memory does not grow with their number."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pipeline.errors import SourceError
from pipeline.types import SourceFile


@dataclass(frozen=True, slots=True)
class Patterns:
    """Which files of a root are wanted.

    A pattern is matched against the name and against the path below the root, with `*` crossing folders.
    """

    include: tuple[str, ...] = ()  #: empty: everything
    exclude: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()  #: names of files and folders that are never entered or read
    hidden: bool = False  #: also names that begin with a dot

    def wants_name(self, name: str) -> bool:
        """Whether a file or folder of this name is looked at at all."""
        if not self.hidden and name.startswith("."):
            return False
        return not any(fnmatchcase(name, pattern) for pattern in self.ignore)

    def wants_file(self, name: str, below: str) -> bool:
        """Whether a file of this name, at this path below its root, is loaded."""
        if any(fnmatchcase(name, pattern) or fnmatchcase(below, pattern) for pattern in self.exclude):
            return False
        return not self.include or any(fnmatchcase(name, pattern) or fnmatchcase(below, pattern) for pattern in self.include)


@dataclass(frozen=True, slots=True)
class Omitted:
    """Something below a root that was left out although nobody asked for that."""

    path: Path
    why: str


def uri_of(path: Path) -> str:
    """The `file://` URI of an absolute path; names that are not valid text survive, percent-encoded byte by byte."""
    return "file://" + quote_from_bytes(os.fsencode(path))


def path_of(uri: str) -> Path:
    """The path of a `file://` URI."""
    return Path(os.fsdecode(unquote_to_bytes(uri.removeprefix("file://"))))


def discover(roots: Sequence[Path], patterns: Patterns) -> Iterator[SourceFile | Omitted]:
    """Yield every wanted regular file below `roots`, each once, and what had to be left out.

    A symlink to a file is followed when it stays below its root; folders behind symlinks are never entered, so no loop
    can form. The order is the file system's.

    Raises SourceError at once when a root does not exist or cannot be listed.
    """
    resolved = [_resolve(root) for root in roots]
    for number, root in enumerate(resolved):
        if any(root == other or other in root.parents for other in resolved[:number]):
            continue
        nested = [other for other in resolved[:number] if root in other.parents]
        if root.is_file():
            yield _source(root, root.stat())
            continue
        yield from _walk(root, nested, patterns)


def _resolve(root: Path) -> Path:
    try:
        resolved = root.expanduser().resolve(strict=True)
        if resolved.is_dir():
            os.scandir(resolved).close()
        elif not resolved.is_file():
            raise SourceError(f"{root} is neither a folder nor a regular file")
    except OSError as error:
        raise SourceError(f"cannot read {root}: {error.strerror}") from error
    return resolved


def _walk(root: Path, nested: Sequence[Path], patterns: Patterns) -> Iterator[SourceFile | Omitted]:
    pending = [root]
    while pending:
        folder = pending.pop()
        if folder in nested:
            continue  # an earlier root, already yielded
        try:
            entries = os.scandir(folder)
        except OSError as error:
            yield Omitted(folder, f"cannot be listed: {error.strerror}")
            continue
        with entries:
            for entry in entries:
                if not patterns.wants_name(entry.name):
                    continue
                path = Path(entry.path)
                try:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(path)
                        continue
                    if not patterns.wants_file(entry.name, path.relative_to(root).as_posix()):
                        continue
                    found = _entry(root, path, entry)
                except OSError as error:
                    yield Omitted(path, f"cannot be read: {error.strerror}")
                    continue
                yield found


def _entry(root: Path, path: Path, entry: os.DirEntry[str]) -> SourceFile | Omitted:
    if entry.is_symlink():
        target = path.resolve(strict=True)
        if root not in target.parents:
            return Omitted(path, "is a symlink that leaves its root")
        if target.is_dir():
            return Omitted(path, "is a symlink to a folder")
        status = target.stat()
    else:
        status = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        return Omitted(path, "is not a regular file")
    return _source(path, status)


def _source(path: Path, status: os.stat_result) -> SourceFile:
    return SourceFile(uri_of(path), path, status.st_size, status.st_mtime_ns)
