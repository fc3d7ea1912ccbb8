"""Processes that are forked from a command and go their own way."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from pipeline.sandbox.confine import NAME, PDEATHSIG, prctl

#: Program name of forked processes, as in `ps`.
PROGRAM = "kb-ingest"


def can_fork() -> bool:
    """Whether a fork of this process can go on safely: on macOS system libraries cannot, and no thread survives a fork.

    Threads of native libraries count too, which Python does not know.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


class Companion:
    """A process forked from this one, with a socket between the two. It ends with this process, however that ends."""

    def __init__(self, name: str, serve: Callable[[socket.socket], NoReturn]) -> None:
        """Fork it where `can_fork`; it runs `serve` with its end of the socket. `name` is for people who list processes.

        Raises OSError where there is no memory, or where there are too many processes.
        """
        self.socket, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        for stream in (sys.stdout, sys.stderr):  # otherwise text that waits in them is written twice
            if stream is not None:
                stream.flush()
        self._pid = os.fork()
        if self._pid == 0:
            with ending():
                _begin_anew(parent, there.fileno(), [PROGRAM, name])
                serve(there)
        there.close()

    def close(self) -> None:
        """End it at once; it has nothing to lose."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0
            self.socket.close()


@contextmanager
def ending() -> Iterator[None]:
    """The whole life of a forked process: never returns to the code that forked it, whose blocks and exits are not its own."""
    status: object = 0
    try:
        yield
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(status if isinstance(status, int) else int(status is not None))


def _begin_anew(parent: int, file: int, words: Sequence[str]) -> None:
    """Make a forked process independent of the process `parent`, except that it ends with it.

    It keeps its standard streams and `file`, has a session of its own, so that Ctrl-C does not reach it, and `words` as its
    command line.
    """
    os.setsid()
    prctl(PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)
    close_all_but({file})
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rename(words)


def close_all_but(kept: set[int]) -> None:
    """Close all files but `kept` and the standard streams."""
    for file in [int(name) for name in os.listdir("/proc/self/fd")]:
        if file > 2 and file not in kept:
            with contextlib.suppress(OSError):  # the one that listed the folder
                os.close(file)


def rename(words: Sequence[str]) -> None:
    """Show `words` as this process's command line, as far as there is room, and the first one as its name; best effort.

    The kernel reads a command line from the memory where it has put the arguments.
    """
    prctl(NAME, ctypes.create_string_buffer(words[0].encode()))
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, fields 48 and 49 in proc(5)
        if 0 < begin < end:
            text = b"\0".join(word.encode() for word in words)[: end - begin - 1]
            ctypes.memmove(begin, text.ljust(end - begin, b"\0"), end - begin)
