"""A copy of a file that takes no more room than the file: files of the embedded store reserve more than they fill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

#: Bytes that are read at once. A window of zeros is not written: most file systems keep no blocks for it.
WINDOW = 1 << 16


def copy_file(source: Path, target: Path, seen: Callable[[bytes], object] = lambda _: None) -> int:
    """Copy the bytes of a file, each of which `seen` gets; return their number. Raises OSError."""
    size = 0
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        while window := reader.read(WINDOW):
            seen(window)
            size += len(window)
            if window.count(0) == len(window):
                writer.seek(size)
                continue
            left = memoryview(window)
            while left:
                left = left[writer.write(left) :]
        writer.truncate(size)
    return size


def copy_folder(source: Path, target: Path) -> None:
    """Copy the files of a folder and of those below it into a new one. Raises OSError."""
    target.mkdir()
    for one in source.iterdir():
        if one.is_dir():
            copy_folder(one, target / one.name)
        else:
            copy_file(one, target / one.name)
