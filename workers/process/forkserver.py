"""The fork server: a process that has imported what workers import, and forks them on request.

A new interpreter spends two seconds on the imports of a worker. A load therefore forks a server before it opens the ledger,
starts threads or touches a device, so that nothing unsafe is inherited. The server imports the remaining modules while the
load continues, and has no second thread either. Without it, as on macOS or after its death, workers are new interpreters.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from workers.process.forking import PROGRAM, Companion, close_all_but, ending, rename

log = logging.getLogger(__name__)

#: The program that serves documents; fork servers import it, and run its `main` in their children.
WORKER = "workers.process.worker"

#: What a server imports. Not torch: the model has a process of its own, or is loaded by a worker that may not need it.
MODULES = (
    WORKER,
    "celery.apps.worker",
    "celery.concurrency.prefork",
    "celery.worker.consumer",
    "pipeline.steps.index",
    "pipeline.steps.parse",
)

#: Exit status of workers whose server has died. Not a signal's, because no document of theirs is to blame.
SERVER_LOST = 1

#: Max size of a request: the arguments and the environment of a worker.
REQUEST_BYTES = 1 << 18

#: Max number of file descriptors that a worker inherits, standard streams not counted.
FILES_MAX = 16


class Forked:
    """A worker that a fork server has forked or is going to fork; the part of Popen's interface that the supervisor uses."""

    def __init__(self, server: ForkServer) -> None:
        self._server = server
        self.pid: int | None = None  #: None until the server has done its imports and forked
        self.returncode: int | None = None  #: negative: the signal that killed it

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        if self.returncode is None:
            self._server.hear(0)
        return self.returncode

    def wait(self) -> int:
        """Wait until it has ended; returns the exit status."""
        while self.returncode is None:
            self._server.hear(None)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, or make sure that it is never forked."""
        if self.poll() is not None:
            return
        if self.pid is None:
            self._server.close()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class ForkServer:
    """A fork server of this process. It ends with this process, and its workers end with it."""

    def __init__(self) -> None:
        """Fork the server. Raises what Companion raises."""
        self._unforked: list[Forked] = []  #: in the order of their requests
        self._workers: dict[int, Forked] = {}  #: running, by process id
        self._server = Companion(__name__, _serve)
        self.alive = True

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], output: int, files: Sequence[int]) -> Forked | None:
        """Have a worker forked, as `python -m WORKER ARGUMENTS` in its own session; None where the server is dead.

        It reads nothing, writes to `output`, and inherits `files` under the same numbers.
        """
        request = json.dumps({"arguments": list(arguments), "environment": dict(environment), "files": list(files)})
        try:
            socket.send_fds(self._server.socket, [request.encode()], [output, *files])
        except OSError as error:
            log.debug("the fork server of %s does not answer: %s", WORKER, error)
            self.close()
            return None
        worker = Forked(self)
        self._unforked.append(worker)
        return worker

    def hear(self, timeout_s: float | None) -> None:
        """Handle the server's messages: all that are there or, if there are none, the first that comes within `timeout_s`."""
        while self.alive and select.select([self._server.socket], [], [], timeout_s)[0]:
            timeout_s = 0
            try:
                message = self._server.socket.recv(REQUEST_BYTES)
            except OSError:
                message = b""
            if not message:
                self.close()
                return
            said = json.loads(message)
            if "forked" in said:
                worker = self._unforked.pop(0)
                worker.pid = said["forked"]
                self._workers[said["forked"]] = worker
            else:
                self._workers.pop(said["ended"]).returncode = said["status"]

    def close(self) -> None:
        """End the server. What it has not forked is never forked; its workers end by themselves, and count as ended."""
        self.alive = False
        self._server.close()
        for worker in (*self._unforked, *self._workers.values()):
            worker.returncode = SERVER_LOST
        self._unforked.clear()
        self._workers.clear()


# --- in the server and its children


def _serve(channel: socket.socket) -> NoReturn:
    """Fork a worker for each request until the channel ends, and report how workers end."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy would start threads, and none survives a fork
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()  # so that the collector of a worker does not touch, and copy, every page
    ended, wakeup = os.pipe()
    for end in (ended, wakeup):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([channel.fileno(), ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            _reap(channel)
        if channel.fileno() in ready:
            data, files, _, _ = socket.recv_fds(channel, REQUEST_BYTES, FILES_MAX + 1)
            if not data:
                os._exit(0)
            pid = os.fork()
            if pid == 0:
                with ending():
                    signal.set_wakeup_fd(-1)
                    _work(json.loads(data), files)
            for file in files:
                os.close(file)
            _tell(channel, {"forked": pid})


def _reap(channel: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            _tell(channel, {"ended": ended[0], "status": os.waitstatus_to_exitcode(ended[1])})


def _tell(channel: socket.socket, said: Mapping[str, int]) -> None:
    try:
        channel.send(json.dumps(said).encode())
    except OSError:  # the command is gone
        os._exit(1)


def _work(request: Mapping[str, Any], files: Sequence[int]) -> None:
    """Become a new process that runs a worker, and run it."""
    os.setsid()
    output, *received = files
    # Above all numbers in use first, as one of them may be a number that another one shall have.
    high = [_above(file, max([2, *request["files"], *files]) + 1) for file in received]
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for file, number in zip(high, request["files"], strict=True):
        os.dup2(file, number, inheritable=False)
    close_all_but(set(request["files"]))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [WORKER, *request["arguments"]]
    sys.stdout, sys.stderr = _text(1), _text(2)
    rename([PROGRAM, WORKER, *request["arguments"]])
    status = importlib.import_module(WORKER).main(list(request["arguments"]))
    atexit._run_exitfuncs()  # nobody else runs them, as `ending` ends the process
    sys.exit(status)


def _text(descriptor: int) -> Any:
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)


def _above(file: int, least: int) -> int:
    return int(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, least))
