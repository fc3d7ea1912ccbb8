"""The `.env` file: values are set line by line, everything else stays as it is, and the previous file is kept."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dotenv import dotenv_values

from pipeline.errors import HostError
from pipeline.files.replace import replace_file

#: Mode of a file that holds secrets.
PRIVATE = 0o600

_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)$")


def read(path: Path) -> dict[str, str]:
    """The values of the file, without quotes, as the settings read them; empty if the file does not exist."""
    values = dotenv_values(path, interpolate=False, encoding="utf-8")
    return {name: value for name, value in values.items() if value is not None}


def update(path: Path, values: Mapping[str, str], *, comment: str) -> Path | None:
    """Set values in their existing lines, even commented-out ones, else at the end below `comment`.

    The file is readable only by its owner, because it holds secrets. Returns the backup of the previous file, if there was
    one. Raises HostError if the file cannot be written.
    """
    try:
        before = path.read_text("utf-8") if path.is_file() else ""
        lines = before.splitlines()
        added = [f"# {comment}"]
        for name, value in values.items():
            line, place = f"{name}={_quoted(value)}", _place(lines, name)
            if place is None:
                added.append(line)
            else:
                lines[place] = line
        if len(added) > 1:
            lines += ["", *added] if lines else added
        backup = None
        if before:
            backup = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}.bak")
            replace_file(backup, before.encode(), mode=PRIVATE)
        replace_file(path, ("\n".join(lines) + "\n").encode(), mode=PRIVATE)
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}") from error
    return backup


def _place(lines: Sequence[str], name: str) -> int | None:
    """The line that sets a value: the last active one, else the last commented-out one."""
    for prefix in ("", "#"):
        for number in reversed(range(len(lines))):
            line = lines[number].strip()
            match = _LINE.match(line.removeprefix(prefix)) if line.startswith(prefix) else None
            if match and match[1] == name:
                return number
    return None


def _quoted(value: str) -> str:
    """`value` in single quotes, which compose and kb-ingest read literally; a plain word needs none."""
    return value if re.fullmatch(r"[\w./:@%+,=-]*", value) else "'" + value.replace("'", "\\'") + "'"
