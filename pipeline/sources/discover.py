"""Stream the files below folders, or the objects below URLs; memory use does not grow with their number."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from pipeline.errors import SourceError
from pipeline.sources.objects import client_errors, open_files, told_time, version_of
from pipeline.sources.uris import Root, is_remote, object_path, object_uri, path_of, split_url, uri_of
from pipeline.types import SourceFile


@dataclass(frozen=True, slots=True)
class Patterns:
    """Selects files below a root.

    A pattern is matched against the name and against the path below the root; `*` also matches across folders.
    """

    include: tuple[str, ...] = ()  #: empty: everything
    exclude: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()  #: names of files and folders that are never entered or read
    hidden: bool = False  #: also names that begin with a dot

    def wants_name(self, name: str) -> bool:
        """Whether a file or folder with this name is considered at all."""
        if not self.hidden and name.startswith("."):
            return False
        return not any(fnmatchcase(name, pattern) for pattern in self.ignore)

    def wants_file(self, name: str, below: str) -> bool:
        """Whether a file with this name, at this path below its root, is loaded."""
        if any(fnmatchcase(name, pattern) or fnmatchcase(below, pattern) for pattern in self.exclude):
            return False
        return not self.include or any(fnmatchcase(name, pattern) or fnmatchcase(below, pattern) for pattern in self.include)

    def wants(self, below: str) -> bool:
        """Whether the file at this percent-encoded path below a root is loaded; the names of its folders count, too."""
        plain = os.fsdecode(unquote_to_bytes(below))
        *_, name = parts = plain.split("/")
        return all(self.wants_name(part) for part in parts) and self.wants_file(name, plain)


@dataclass(frozen=True, slots=True)
class Omitted:
    """Something below a root that was left out although no pattern asked for that."""

    name: str  #: path or URI, human-readable
    why: str
    uri: str
    folder: bool = False  #: a folder whose content is unknown


def exists(uri: str) -> bool:
    """Whether a file or object exists at a URI now; where that cannot be determined, it counts as existing."""
    try:
        if uri.startswith("file://"):
            return os.path.lexists(path_of(uri))
        if is_remote(uri):  # what their lists do not name is gone, whether or not it can be read
            return False
        protocol, path = object_path(uri)
        with client_errors():
            return bool(open_files(protocol).exists(path))
    except OSError:
        return True


def look(uri: str) -> SourceFile | None:
    """The object at a URI now; None if there is none. Raises SourceError where its store does not say, ConfigError."""
    protocol, path = object_path(uri)
    files = open_files(protocol)
    try:
        with client_errors():
            status = files.info(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceError(f"cannot read {uri}: {error.strerror or error}") from error
    return _object(protocol, path, status) if status.get("type") == "file" else None


def discover(roots: Sequence[Root], patterns: Patterns) -> Iterator[SourceFile | Omitted]:
    """Yield every wanted regular file below `roots`, each once, and everything that had to be left out.

    A symlink to a file is followed when its target lies below the same root. Folders behind symlinks are never entered, so no
    loop can form. The order is that of the file system.

    Raises SourceError at once when a folder does not exist or cannot be listed, and ConfigError for a URL whose protocol has
    no package installed.
    """
    for url in dict.fromkeys(root for root in roots if isinstance(root, str)):
        yield from _walk_objects(url, patterns)
    resolved = [_resolve(root) for root in roots if isinstance(root, Path)]
    for number, root in enumerate(resolved):
        if any(root == other or other in root.parents for other in resolved[:number]):
            continue
        nested = [other for other in resolved[:number] if root in other.parents]
        if root.is_file():
            yield _source(root, root.stat())
            continue
        yield from _walk(root, nested, patterns)


def check_root(root: Root) -> None:
    """Raise SourceError for a folder that does not exist or cannot be listed, ConfigError for a URL without an installed client."""
    if isinstance(root, str):
        if not is_remote(root):  # these are asked by the first sync
            open_files(split_url(root)[0])
    else:
        _resolve(root)


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
            yield Omitted(str(folder), f"cannot be listed: {error.strerror}", uri_of(folder), folder=True)
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
                    yield Omitted(str(path), f"cannot be read: {error.strerror}", uri_of(path))
                    continue
                yield found


def _entry(root: Path, path: Path, entry: os.DirEntry[str]) -> SourceFile | Omitted:
    if entry.is_symlink():
        target = path.resolve(strict=True)
        if root not in target.parents:
            return Omitted(str(path), "is a symlink that leaves its root", uri_of(path))
        if target.is_dir():
            return Omitted(str(path), "is a symlink to a folder", uri_of(path))
        status = target.stat()
    else:
        status = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        return Omitted(str(path), "is not a regular file", uri_of(path))
    return _source(path, status)


def _walk_objects(url: str, patterns: Patterns) -> Iterator[SourceFile | Omitted]:
    """Every wanted object below a URL, one level of names after the other."""
    protocol, path = object_path(object_uri(*split_url(url)))
    files = open_files(protocol)
    try:
        with client_errors():
            single = files.info(path) if files.isfile(path) else None
        if single is not None:
            yield _object(protocol, path, single)
            return
        # Without on_error="raise", errors are dropped silently, and objects that were not listed would look deleted.
        levels = files.walk(path, detail=True, on_error="raise")
        while True:
            with client_errors():
                folder, folders, found = next(levels, (None, {}, {}))
            if folder is None:
                return
            for name in [name for name in folders if not patterns.wants_name(name)]:
                del folders[name]  # so it is not entered
            for name, status in found.items():
                key = f"{folder}/{name}".strip("/")
                below = key.removeprefix(path).strip("/")
                if name and patterns.wants_name(name) and patterns.wants_file(name, below):
                    yield _object(protocol, key, status)
    except OSError as error:
        raise SourceError(f"cannot list {url}: {error.strerror or error}") from error


def _object(protocol: str, path: str, status: Mapping[str, Any]) -> SourceFile:
    uri, size = object_uri(protocol, path), int(status.get("size") or 0)
    return SourceFile(uri, None, size, version_of(status), modified=told_time(status))


def _source(path: Path, status: os.stat_result) -> SourceFile:
    created = getattr(status, "st_birthtime", None)  # Python tells it on macOS only
    return SourceFile(uri_of(path), path, status.st_size, status.st_mtime_ns, status.st_mtime, created)
