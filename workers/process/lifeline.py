"""Ends a process when its parent is gone, however the parent ended."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time

from pipeline.sandbox.confine import PDEATHSIG, prctl

log = logging.getLogger(__name__)

#: Seconds between SIGTERM and SIGKILL. A step that is told to stop returns its documents as soon as its model call ends.
GRACE_S = 6.0

#: Seconds between two checks of the parent.
LOOK_EVERY_S = 1.0


class Lifeline:
    """A pipe without data whose writing end only this process holds: its readers notice when this process is gone.

    Unlike a parent's process id, it also reaches grandchildren, and children that start at that moment.
    """

    def __init__(self) -> None:
        # Neither end survives an exec; the reading end is passed on explicitly.
        self.reading, self._writing = os.pipe()

    def close(self) -> None:
        """Close the pipe; processes that still follow it end."""
        os.close(self._writing)
        os.close(self.reading)


def end_with_parent(lifeline: int, parent: int, *, whole_group: bool = False) -> None:
    """End this process when the lifeline ends or when `parent` is no longer its parent: SIGTERM, and GRACE_S later SIGKILL.

    A thread does this, because the main thread may be waiting for an unreachable server. `whole_group` also kills the other
    processes of its group, even stopped ones and those stuck in a library call; the group must be the worker's own.
    """
    threading.Thread(target=_follow, args=(lifeline, parent, whole_group), name="lifeline", daemon=True).start()


def resume_when_orphaned() -> None:
    """Have the kernel resume this process when its parent ends, because a stopped process cannot end itself. Linux only."""
    prctl(PDEATHSIG, signal.SIGCONT)


def _follow(lifeline: int, parent: int, whole_group: bool) -> None:
    while os.getppid() == parent and not select.select([lifeline], [], [], LOOK_EVERY_S)[0]:
        pass
    # To the main thread: a signal to the process may reach another thread, and would not interrupt a call of the main thread.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    # In another thread: the reader of our log may be gone too, and a blocked write must not stop this thread.
    threading.Thread(target=log.warning, args=("the parent process is gone; this process ends too",), daemon=True).start()
    time.sleep(GRACE_S)
    if whole_group:
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
