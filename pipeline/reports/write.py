"""Writes a page to where somebody wants it: a file, what a link leads to, or a pipe."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from pipeline.errors import ConfigError


def write_page(text: str, file: Path) -> None:
    """Write a page to a file, which is never seen half-written; raises ConfigError.

    Behind a symbolic link the file that it leads to is replaced, and the link stays. Who may read a file that was there
    stays as it was. What is no regular file, such as a pipe or a device, is written to.
    """
    try:
        _write(text, file)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error


def _write(text: str, file: Path) -> None:
    if file.exists() and not file.is_file():
        with file.open("w", encoding="utf-8") as out:
            out.write(text)
        return
    target = Path(os.path.realpath(file))
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".kb-page-")
    try:
        with open(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(temporary, _mode(target))
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _mode(target: Path) -> int:
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask  # as any other new file
