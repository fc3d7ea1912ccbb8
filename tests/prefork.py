"""Runs `kb-ingest` as a process of its own without waiting for its imports: a server that has them forks for each command.

    python -m tests.prefork SOCKET      # serves until its stdin ends

The modules a command imports cost it a second, those of a model several; what it does costs milliseconds. A child of the
server has them all from the first moment, so that a test can look at the command's own process, exit status and outputs as
often as it likes. The workers of such a command are forked from it, for the same reason, unless it has
other threads or has used the embedded store, which no process may use after a fork.
Commands that a test starts and lets run (`Cli.start`) and their workers are started the usual way.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

#: What a start of the server and the imports may take on a machine that is busy.
START_S = 180.0

#: Not imported ahead: it runs a command when it is imported.
LEFT_OUT = ("workers.__main__",)

#: Beginnings of variables that the interpreter and libraries read when they start: a command with others cannot be forked.
AT_START = ("HF_", "TRANSFORMERS_", "PYTHON", "LD_", "OMP_", "MKL_", "CUDA_", "TORCH_", "SSL_", "LC_", "LANG", "TZ", "FAKETIME")

#: Threads next to which a command may be forked: one that now and then writes to the ledger that the command has opened.
HARMLESS = ("beat",)


class Prefork:
    """The server of this process, started with the first command and ended with this process."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._place = ""

    @staticmethod
    def serves(environment: Mapping[str, str]) -> bool:
        """Whether a command with this environment can be forked from the server, which has that of the tests."""
        return at_start(environment) == at_start(os.environ)

    def run(
        self, arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path | None = None, timeout_s: float = 480
    ) -> subprocess.CompletedProcess[str]:
        """Run `kb-ingest ARGUMENTS` in a folder to its end; raises TimeoutExpired when it has been killed for taking longer."""
        request = {"arguments": list(arguments), "environment": dict(environment), "folder": str(folder or Path.cwd())}
        out, err = os.pipe(), os.pipe()
        with self._connected() as channel:
            try:
                socket.send_fds(channel, [json.dumps(request).encode() + b"\n"], [out[1], err[1]])
            finally:
                os.close(out[1])
                os.close(err[1])
            with channel.makefile() as answers:
                child = int(answers.readline())
                said = _read((out[0], err[0]), timeout_s)
                if said is None:
                    os.killpg(child, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(list(arguments), timeout_s)
                status = int(answers.readline())
        return subprocess.CompletedProcess(list(arguments), status, *said)

    @contextlib.contextmanager
    def _connected(self) -> Any:
        if self._server is None:
            self._place = tempfile.mkdtemp(prefix="kb-prefork-")
            path = f"{self._place}/socket"
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.prefork", path], cwd=Path(__file__).resolve().parents[1], stdin=subprocess.PIPE
            )
            atexit.register(self._end)
            deadline = time.monotonic() + START_S
            while not os.path.exists(path):
                assert self._server.poll() is None, "the server of commands does not start"
                assert time.monotonic() < deadline, f"the server of commands has not started in {START_S:.0f} s"
                time.sleep(0.02)
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(f"{self._place}/socket")
            yield channel

    def _end(self) -> None:
        if self._server is not None and self._server.stdin is not None:
            self._server.stdin.close()
            self._server.wait()
        with contextlib.suppress(OSError):
            os.unlink(f"{self._place}/socket")
            os.rmdir(self._place)


def at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a process must have when it starts."""
    return {name: value for name, value in environment.items() if name.startswith(AT_START)}


def _read(pipes: Sequence[int], timeout_s: float) -> list[str] | None:
    """All that comes out of some pipes until nobody holds them any more, and close them; None after the timeout."""
    with contextlib.ExitStack() as stack:
        read = {stack.enter_context(open(pipe, "rb", buffering=0)): b"" for pipe in pipes}
        open_ones, deadline = list(read), time.monotonic() + timeout_s
        while open_ones:
            ready, _, _ = select.select(open_ones, [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            for file in ready:
                data = file.read(1 << 16)
                read[file] += data
                if not data:
                    open_ones.remove(file)
        return [data.decode() for data in read.values()]


def serve(path: str) -> None:
    """Fork for each connection until stdin ends; returns in the children, each of which is to run a command then."""
    _import_all()
    gc.collect()
    gc.freeze()  # so that a child's collector does not touch, and copy, every page
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}.new")
        listener.listen(16)
        os.rename(f"{path}.new", path)
        while True:
            ready, _, _ = select.select([listener.fileno(), 0], [], [])
            if 0 in ready:
                os._exit(0)
            channel, _ = listener.accept()
            if os.fork() == 0:
                break
            channel.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _answer(channel)


def _import_all() -> None:
    import pipeline
    import workers

    for package in (pipeline, workers):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name not in LEFT_OUT:
                importlib.import_module(found.name)


def _answer(channel: socket.socket) -> None:
    """Fork the command and tell its process and its status; returns in the command's process only."""
    data, files, _, _ = socket.recv_fds(channel, 1 << 16, 2)
    while not data.endswith(b"\n"):
        data += channel.recv(1 << 16)
    child = os.fork()
    if child == 0:
        channel.close()
        _become(json.loads(data), files)
        return
    for file in files:
        os.close(file)
    _wait(channel, child)


def _wait(channel: socket.socket, child: int) -> NoReturn:
    with contextlib.suppress(OSError):  # nobody listens any more
        channel.sendall(f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        channel.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Make this process what `subprocess` would have made it."""
    os.setsid()
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    for number, file in enumerate(files, 1):
        os.dup2(file, number)
        os.close(file)
    # The interpreter's own are of the files that it started with.
    standard: Any = sys  # mypy thinks that these are never replaced
    sys.stdout = standard.__stdout__ = open(1, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors, closefd=False)  # noqa: SIM115
    sys.stderr = standard.__stderr__ = open(2, "w", 1, encoding=sys.stderr.encoding, errors=sys.stderr.errors, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = ["kb-ingest", *request["arguments"]]
    from workers.process import supervisor

    vars(supervisor)["subprocess"] = _Subprocess


class _Forked(subprocess.Popen[bytes]):
    """A process `python -m MODULE ...` that is forked where it can be, and has this process's imports then."""

    def _execute_child(self, args: Sequence[str], *more: Any) -> None:
        execute: Any = super()
        names = "executable preexec_fn close_fds pass_fds cwd env startupinfo creationflags shell p2cread p2cwrite c2pread c2pwrite"
        known = dict(zip((*names.split(), "errread", "errwrite"), more, strict=False))
        from pipeline.store import edge_engine

        others = {thread.name for thread in threading.enumerate()} - {threading.main_thread().name, *HARMLESS}
        if others or edge_engine._engine_pid is not None or not Prefork.serves(known["env"]):
            execute._execute_child(args, *more)
            return
        assert (args[1], known["cwd"]) == ("-m", None)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid:
            self._child_created = True
            return
        status: object = 1
        try:
            _enter(known, (known["p2cread"], known["c2pwrite"], known["errwrite"]))
            sys.argv = list(args[2:])
            status = importlib.import_module(args[2]).main(list(args[3:]))
        except SystemExit as ended:
            status = ended.code
        except BaseException:
            traceback.print_exc()
        _leave(status)


class _Subprocess:
    """What the supervisor uses of the module `subprocess`."""

    Popen = _Forked
    DEVNULL = subprocess.DEVNULL
    TimeoutExpired = subprocess.TimeoutExpired


def _enter(known: Mapping[str, Any], standard: Sequence[int]) -> None:
    """Make this process, forked from a command, what `subprocess` would have made it."""
    os.setsid()
    kept = set(known["pass_fds"])
    for number, file in enumerate(standard):
        # -1: inherited. Over a copy, as one of them may be the file that another one shall become.
        os.dup2(os.dup(file if file >= 0 else number), number)
    for file in (int(name) for name in os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd")):
        if file > 2 and file not in kept:
            with contextlib.suppress(OSError):
                os.close(file)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(known["env"])
    gc.freeze()  # objects of the command, such as open databases, are left as they are


def _leave(code: object) -> NoReturn:
    """End as an interpreter does, but without taking apart all modules, of which most are not the command's."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve(sys.argv[1])
    from workers.cli import main

    try:
        main()
    except SystemExit as ended:
        _leave(ended.code)
    _leave(0)
