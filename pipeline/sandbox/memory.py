"""Memory that processes use: pages they have written to, not address space they have reserved."""

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

#: Lines of /proc/PID/status that count. Pages of files are left out: the kernel reclaims them when it needs to.
_USED = ("RssAnon:", "RssShmem:", "VmSwap:")


def used_bytes(process: int) -> int:
    """Memory that a process uses; 0 when it has ended."""
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
    """Process ids of the children of a process, and of their descendants."""
    if not _LISTS_CHILDREN:
        try:
            yield from (child.pid for child in psutil.Process(process).children(recursive=True))
        except psutil.Error:
            return
        return
    # psutil would read the parents of all processes of the host; the guard looks ten times a second.
    for child in _children(process):
        yield child
        yield from descendants(child)


def cap_growth(more_bytes: int) -> bool:
    """Allow this process, and each process that it starts, only `more_bytes` of additional private writable memory.

    Requests beyond the limit fail at once, so that no document gets far ahead of the watching process. Reserved address space
    and mapped files do not count. False where the kernel counts nothing: macOS accepts the limit and ignores it.
    """
    try:
        # Sixth field: data and stacks, in pages; the kernel compares the limit with it.
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
    except OSError:  # the process has ended meanwhile
        return found
    return found


def _resident_bytes(process: int) -> int:
    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.Error:
        return 0
