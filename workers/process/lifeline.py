"""A process that ends when the one that started it is gone, however that ended."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time

from pipeline.sandbox.confine import prctl

log = logging.getLogger(__name__)

#: Seconds between SIGTERM and SIGKILL. A step that is told to stop hands its documents back as soon as a model call ends.
GRACE_S = 4.0

#: Seconds between two looks at the parent.
LOOK_EVERY_S = 1.0

_PR_SET_PDEATHSIG = 1


class Lifeline:
    """A pipe that nothing is written to and whose writing end only this process holds: its readers see when that is gone.

    It reaches children of children too, and those that start while it happens; a parent's process id does neither.
    """

    def __init__(self) -> None:
        # Neither end survives an exec; the reading end is passed on by name.
        self.reading, self._writing = os.pipe()

    def close(self) -> None:
        """Let go of it; processes that still follow it end."""
        os.close(self._writing)
        os.close(self.reading)


def end_with_parent(lifeline: int, parent: int, *, whole_group: bool = False) -> None:
    """End this process when the lifeline ends or when `parent` is no longer its parent: SIGTERM, and GRACE_S later SIGKILL.

    A thread sees to it, as the main thread may be waiting for a server that is away. `whole_group` kills the processes of its
    group along, also those that are stopped or stuck in a library's call; the group must be the worker's own.
    """
    threading.Thread(target=_follow, args=(lifeline, parent, whole_group), name="lifeline", daemon=True).start()


def resume_when_orphaned() -> None:
    """Have the kernel continue this process when its parent ends, because a stopped one cannot end itself. Linux only."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)


def _follow(lifeline: int, parent: int, whole_group: bool) -> None:
    while os.getppid() == parent and not select.select([lifeline], [], [], LOOK_EVERY_S)[0]:
        pass
    # To the main thread itself: a signal to the process may reach another one, and interrupts no call of that one.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    # By another thread: whoever read our log may be gone too, and a line that cannot be written would keep this one.
    threading.Thread(target=log.warning, args=("the process that started this one is gone: it ends too",), daemon=True).start()
    time.sleep(GRACE_S)
    if whole_group:
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
