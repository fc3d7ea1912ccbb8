"""Writes a page to a file, to the target of a link, or to a pipe."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.files.private import mode_for_users
from pipeline.files.replace import replace_file


def write_page(text: str, file: Path) -> None:
    """Write a page to a file atomically; raises ConfigError.

    For a symbolic link, the target file is replaced and the link stays. An existing file keeps its permissions. A file that
    is not a regular one, such as a pipe or a device, is written to directly.
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
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else mode_for_users()
    replace_file(target, text.encode(), mode=mode)
