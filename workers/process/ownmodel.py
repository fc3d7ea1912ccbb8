"""The model's process of one embed worker that nobody has started one for, as those of `up` and `worker`."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from workers import health
from workers.process.modelserver import NAME
from workers.process.modelserver import __name__ as MODULE

log = logging.getLogger(__name__)


class OwnModel:
    """A model's process that this process has started; it ends with this one, however that ends.

    A new interpreter, because a worker has threads when it needs its model, and none of them survives a fork. It sees the devices
    that the worker sees, and stays in the worker's group, so that it also ends where the supervisor ends the group.
    """

    def __init__(self, worker: str, locks: Sequence[int] = ()) -> None:
        """Start it for a worker of this name. `locks`: descriptors of locks that must outlive the use of a device.

        Call it in the main thread: Linux ends the process with the thread that has started it. Raises OSError.
        """
        door, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        name = NAME + health.file_of(worker).removeprefix("embed")
        arguments = ["--door", str(there.fileno()), "--parent", str(os.getpid()), "--name", name]
        try:
            with there:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", MODULE, *arguments], stdin=subprocess.DEVNULL, pass_fds=[there.fileno(), *locks]
                )
        except OSError:
            door.close()
            raise
        self._door = door

    @property
    def door(self) -> int:
        """This side's descriptor of the process's socket, as RemoteEmbedder wants it."""
        return self._door.fileno()

    def close(self) -> None:
        """End it at once; it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        self._door.close()


def start(worker: str, locks: Sequence[int] = ()) -> OwnModel | None:
    """Start the model's process of a worker; None where there can be none, and the worker loads the model itself.

    Only Linux ends a process with the one that has started it: elsewhere a worker that is killed could leave its model behind.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        return OwnModel(worker, locks)
    except OSError as error:
        log.warning("cannot start a process for the model: %s; this process loads it", error)
        return None
