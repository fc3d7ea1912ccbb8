"""Atomic replacement of a file: readers find either the old file or the new one, even after a kill."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int | None = None, durable: bool = False) -> None:
    """Write `content` to a temporary file in the same folder and rename it to `path`; leave nothing behind on failure.

    `mode` is set before the first byte is written; by default the umask decides. With `durable` the file survives a power loss
    once this function has returned. Raises OSError.
    """
    # Hidden, and not named after `path`: that name may already have the maximum length.
    temporary = path.with_name(f".{uuid.uuid4().hex}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        with open(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)  # exactly this mode: open() has applied the umask
            file.write(content)
            if durable:
                file.flush()
                os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def move_file(written: Path, target: Path) -> None:
    """Rename a finished file to `target` on the same file system; create the folder of `target`. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written.replace(target)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power loss. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
