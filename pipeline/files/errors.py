"""Errors of the operating system, translated so that each names the file, the reason and the action to take."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import ConfigError, KbError, NoSpace

#: Errors that remain until someone acts, and the action to take.
_TO_DO = {
    errno.EACCES: "give this user read and write permission, or set KB_DATA_DIR to another folder",
    errno.EPERM: "give this user read and write permission, or set KB_DATA_DIR to another folder",
    errno.EROFS: "mount its file system as writable, or set KB_DATA_DIR to another folder",
    errno.EISDIR: "move away the folder that takes the place of a file",
    errno.ENOTDIR: "move away the file that takes the place of a folder",
    errno.EEXIST: "move away the file that takes the place of a folder",
    errno.ENOLCK: "set KB_DATA_DIR to a folder on a file system with locks, such as a local disk",
    errno.EOPNOTSUPP: "set KB_DATA_DIR to a folder on a file system with locks, such as a local disk",
}


def disk_is_full(error: OSError) -> bool:
    """Whether the disk or the quota is exhausted."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def translated(error: OSError, path: Path | str, other: type[KbError] = ConfigError) -> KbError:
    """NoSpace for a full disk, ConfigError where someone must act, and `other` for everything else.

    The text names `path` where the error itself names no file.
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
    """Raise the `translated` error instead of OSError."""
    try:
        yield
    except OSError as error:
        raise translated(error, path, other) from error
