"""Files inside plain text, in uuencode: `begin 644 name`, lines that state their length, and `end`."""

from __future__ import annotations

import binascii
import re

_BEGIN = re.compile(r"begin [0-7]{3,4} (\S[^\r\n]{0,200})$")


def without_files(text: str) -> tuple[str, list[tuple[str, bytes]]]:
    """`text` without the files in it, and their names and contents; what is not a whole file stays text."""
    if "begin " not in text:
        return text, []
    lines = text.replace("\r\n", "\n").split("\n")
    kept: list[str] = []
    files: list[tuple[str, bytes]] = []
    at = 0
    while at < len(lines):
        begin = _BEGIN.match(lines[at])
        if begin is None:
            kept.append(lines[at])
            at += 1
            continue
        data, end = _content(lines, at + 1)
        if end < len(lines) and lines[end].rstrip() == "end" and data:
            files.append((begin.group(1), data))
            at = end + 1
        else:
            kept += lines[at:end]
            at = end
    return "\n".join(kept), files


def _content(lines: list[str], at: int) -> tuple[bytes, int]:
    """The bytes of the lines of a file from `at` on, and the line after them."""
    parts: list[bytes] = []
    while at < len(lines) and lines[at].rstrip() != "end":
        try:
            parts.append(binascii.a2b_uu(lines[at].encode("ascii")))
        except ValueError:
            break
        at += 1
    return b"".join(parts), at
