"""Writes a page to where somebody wants it: a file, what a link leads to, or a pipe."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.files.replace import replace_file


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
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    replace_file(target, text.encode(), mode=mode)
