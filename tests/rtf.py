"""RTF files for tests: a body behind a head with fonts."""

from __future__ import annotations

from pathlib import Path

from tests.reading import Read, read_bytes

PICTURE = r"{\pict\pngblip\picw1\pich1 89504e470d0a1a0a}"
FONTS = r"{\fonttbl{\f0\froman\fcharset0 Times New Roman;}{\f1\fmodern\fcharset0 Courier New;}{\f2\froman\fcharset2 Symbol;}}"


def of(folder: Path, body: str | bytes, head: str = r"\ansi\ansicpg1252\deff0" + FONTS) -> Read:
    """Read a file with this body."""
    raw = body if isinstance(body, bytes) else body.encode("ascii")
    return read_bytes(folder, "a.rtf", b"{\\rtf1" + head.encode("ascii") + b"\n" + raw + b"}")
