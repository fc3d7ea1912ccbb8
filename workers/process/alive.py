"""Whether a process of this host is alive."""

from __future__ import annotations

import psutil


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs; a zombie, which has ended, does not.

    Ids are reused, so the answer may be wrong about a process that ended long ago, but never about a live one.
    """
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # running, as another user
        return True
