"""Whether a process of this host is alive."""

from __future__ import annotations

import psutil


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs; one that has ended and that its parent has not noticed yet does not.

    Ids are given again, so the answer may be wrong about a process that ended long ago, but never about one that is alive.
    """
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # of another user, and running
        return True
