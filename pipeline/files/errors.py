"""Errors of the operating system, translated so that each names the file, the reason and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import ConfigError, KbError, NoSpace

#: Errors that remain until a person acts, and the action.
_TO_DO = {
    errno.EACCES: "give this user the right to read and write it, or set KB_DATA_DIR to another folder",
    errno.EPERM: "give this user the right to read and write it, or set KB_DATA_DIR to another folder",
    errno.EROFS: "mount its file system writable, or set KB_DATA_DIR to another folder",
    errno.EISDIR: "move the folder away that is in the place of a file",
    errno.ENOTDIR: "move the file away that is in the place of a folder",
    errno.EEXIST: "move the file away that is in the place of a folder",
    errno.ENOLCK: "set KB_DATA_DIR to a file system that has locks, such as a local disk",
    errno.EOPNOTSUPP: "set KB_DATA_DIR to a file system that has locks, such as a local disk",
}


def disk_is_full(error: OSError) -> bool:
    """Whether the disk or the quota is exhausted."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def translated(error: OSError, path: Path | str, other: type[KbError] = ConfigError) -> KbError:
    """NoSpace for a full disk, ConfigError where a person must act, and `other` for everything else.

    `path` is named where the error itself names no file.
    """
    file = error.filename or path
    if disk_is_full(error):
        return NoSpace(f"no room for {file}: free some disk space and run the command again")
    reason = error.strerror or str(error)
    if error.errno in _TO_DO:
        return ConfigError(f"cannot use {file}: {reason}; {_TO_DO[error.errno]}")
    return other(f"cannot use {file}: {reason}; check the disk, then run the command again")


@contextmanager
def translating(path: Path | str, other: type[KbError] = ConfigError) -> Iterator[None]:
    """Raise `translated` instead of OSError."""
    try:
        yield
    except OSError as error:
        raise translated(error, path, other) from error
