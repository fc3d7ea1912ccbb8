"""Memory that processes use: pages that they have written to, not the address space that they have reserved."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

_ON_LINUX = sys.platform.startswith("linux")

#: Whether the kernel lists the children of a process (CONFIG_PROC_CHILDREN).
_LISTS_CHILDREN = Path("/proc/thread-self/children").exists()

#: Lines of /proc/PID/status that count. Pages of files are not among them: the kernel takes those back when it needs to.
_USED = ("RssAnon:", "RssShmem:", "VmSwap:")


def used_bytes(process: int) -> int:
    """Memory that one process uses; 0 when it has ended."""
    if not _ON_LINUX:
        return _resident_bytes(process)
    try:
        lines = Path(f"/proc/{process}/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(_USED))


def used_below(process: int) -> int:
    """Memory that all descendants of a process use together."""
    return sum(used_bytes(descendant) for descendant in descendants(process))


def descendants(process: int) -> Iterator[int]:
    """Process ids of everything that a process has started, and of what came from that."""
    if not _LISTS_CHILDREN:
        try:
            yield from (child.pid for child in psutil.Process(process).children(recursive=True))
        except psutil.Error:
            return
        return
    # psutil reads the parents of all processes of the host for this; the guard looks ten times a second.
    for child in _children(process):
        yield child
        yield from descendants(child)


def cap_growth(more_bytes: int) -> bool:
    """Let this process, and each one started from here, have at most so much more private memory to write to.

    Requests beyond it fail at once, so that no document gets far ahead of a watch. Address space that is only reserved, and
    mapped files, are free. False where the kernel counts none of it: macOS takes the limit and ignores it.
    """
    try:
        # Sixth field: data and stacks, in pages; what the limit is compared with.
        has = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
        limit = has + more_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    except (ValueError, OSError):
        return False
    return True


def _children(process: int) -> list[int]:
    """Process ids of the children of a process."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{process}/task"):
            found += map(int, Path(f"/proc/{process}/task/{thread}/children").read_text("ascii").split())
    except OSError:  # it has ended meanwhile
        return found
    return found


def _resident_bytes(process: int) -> int:
    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.Error:
        return 0
