"""A socket in the folder of a shard, at which the process that has it open answers the others.

The owner first says which messages it reads, and the asker leaves if its own are others. Requests are answered one after the
other on a connection, each of which has a thread; a process that asks keeps its connections. Whatever goes wrong ends the
connection, and the asker opens the shard itself: requests may be repeated.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import stat
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.errors import KbError
from pipeline.files.lock import FileLock

_log = logging.getLogger(__name__)

#: Name of the socket. It has no meaning without its owner, which removes it; one that was killed leaves it to the next owner.
SOCKET = "owner.sock"

#: Name of the lock of the process that has the shard open.
OPEN_LOCK = "open.lock"

#: To be counted up when messages or their meaning change: processes with other messages take turns at the store.
MESSAGES = 1

#: Length of a path that every system takes as the address of a socket: macOS 103 bytes, Linux 107.
_ADDRESS_BYTES = 100

#: Connections that wait to be accepted. Linux refuses further ones at once.
_BACKLOG = 128

#: Seconds in which a process that answers greets, even one that is busy.
_GREETING_S = 1.0

#: Seconds after a connection that could not be accepted.
_PAUSE_S = 0.1

_LENGTH = struct.Struct("!I")


class NobodyAnswers(Exception):
    """No process has the shard open, or the one that had it is gone."""


class NotAnswered(Exception):
    """The process that has the shard open writes other messages, belongs to another user, or could not answer."""


class Door:
    """The side of the process that has the shard in `folder` open."""

    def __init__(self, folder: Path, answer: Callable[[bytes, Callable[[], bool]], bytes]) -> None:
        """`answer` gets a request, and what tells whether the asker still waits, in several threads.

        NobodyAnswers ends the connection, another exception is NotAnswered there. Only a process that has the lock of the shard
        may call it. Raises OSError where the file system has no sockets, and RuntimeError if no thread can be started.
        """
        self._path = folder / SOCKET
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)
            with _address(self._path) as address:
                self._listener.bind(address)
            self._path.chmod(0o660 if _is_shared(folder) else 0o600)  # nobody can connect before listen()
            self._listener.listen(_BACKLOG)
            self._stop, self._stopped = socket.socketpair()
            self._lock = threading.Lock()
            self._connections: set[socket.socket] = set()
            threading.Thread(target=self._accept, name="kb-edge-door", daemon=True).start()
        except BaseException:
            self._listener.close()
            raise

    def close(self) -> None:
        """Answer nobody any more. Does not wait for answers that are being given."""
        with suppress(OSError):  # a file system that has become read-only, say
            self._path.unlink(missing_ok=True)
        self._stop.close()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # the other side was first
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with self._listener, self._stopped, selectors.DefaultSelector() as waiting:
            for one in (self._listener, self._stopped):
                waiting.register(one, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in waiting.select()]
                if self._stopped in ready:
                    return
                try:
                    connection, _ = self._listener.accept()
                    threading.Thread(target=self._converse, args=(connection,), name="kb-edge-answer", daemon=True).start()
                except (OSError, RuntimeError) as error:  # the asker has gone, or there are too many open files or threads
                    _log.debug("a connection failed: %s", error)
                    time.sleep(_PAUSE_S)

    def _converse(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError):
            with self._lock:
                self._connections.add(connection)
            try:
                if not _is_trusted(connection, self._path.parent):
                    return
                _send(connection, _greeting())
                while True:
                    request = _receive(connection)
                    try:
                        answer = self._answer(request, partial(_still_waits, connection))
                    except NobodyAnswers:
                        return
                    except Exception as error:  # the asker does it itself, and then says what is wrong
                        _log.debug("cannot answer another process: %s", error)
                        answer = b""
                    _send(connection, answer)
            finally:
                with self._lock:
                    self._connections.discard(connection)


class Askers:
    """The side of a process that asks others; for several threads."""

    def __init__(self, timeout_s: float) -> None:
        """`timeout_s`: for an answer."""
        self.timeout_s = timeout_s
        self._pid = os.getpid()
        self._kept: dict[Path, deque[socket.socket]] = {}

    def ask(self, folder: Path, request: bytes) -> bytes:
        """The answer of the process that has the shard in `folder` open.

        Raises NobodyAnswers, NotAnswered, and TimeoutError for a process that is there but does not answer in time.
        """
        kept = self._of(folder)
        try:
            return self._ask(kept, kept.pop(), request)
        except IndexError:  # none is kept
            pass
        except NobodyAnswers:  # the process that answered before is gone, and another one may be there
            _close(kept)
        return self._ask(kept, self._connect(folder, self.timeout_s), request)

    def find(self, folder: Path) -> bool:
        """Whether some process answers for the shard in `folder`; one that does not greet within a second does not."""
        try:
            self._connect(folder, min(self.timeout_s, _GREETING_S)).close()
        except (NobodyAnswers, NotAnswered, TimeoutError):
            return False
        return True

    def close(self) -> None:
        """Close the connections that are kept."""
        for kept in self._kept.values():
            _close(kept)

    def _of(self, folder: Path) -> deque[socket.socket]:
        if self._pid != os.getpid():  # a forked child shares the parent's connections, and would get its answers
            self.close()
            self._pid = os.getpid()
        return self._kept.setdefault(folder, deque())

    def _ask(self, kept: deque[socket.socket], connection: socket.socket, request: bytes) -> bytes:
        # Only kept once it has answered: after an error, the next request would get this one's answer.
        try:
            with _ends():
                _send(connection, request)
                answer = _receive(connection)
        except BaseException:
            connection.close()
            raise
        kept.append(connection)
        if not answer:
            raise NotAnswered("it has failed")
        return answer

    def _connect(self, folder: Path, timeout_s: float) -> socket.socket:
        with _ends():
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            with _ends():
                with _address(folder / SOCKET) as address:
                    connection.connect(address)
                if not _is_trusted(connection, folder):
                    raise NotAnswered("it belongs to another user")
                if (greeting := _receive(connection)) != _greeting():
                    raise NotAnswered(f"it says {greeting[:100]!r}")
        except BaseException:
            connection.close()
            raise
        return connection


def _close(kept: deque[socket.socket]) -> None:
    with suppress(IndexError):  # other threads use it too
        while True:
            kept.pop().close()


def tidy(folder: Path, timeout_s: float = 1.0) -> None:
    """Remove sockets that killed processes have left in a store: not every program can copy a folder that has some."""
    askers = Askers(timeout_s)
    for path in folder.glob(f"*/{SOCKET}"):
        lock = FileLock(path.parent / OPEN_LOCK)
        with suppress(OSError, KbError):  # one whose collection is dropped meanwhile, for example
            if not askers.find(path.parent) and lock.take(time.monotonic() + timeout_s):  # the end of a process takes a moment
                path.unlink(missing_ok=True)
        lock.release()
    askers.close()


def _still_waits(connection: socket.socket) -> bool:
    """Whether the other side has not closed the connection, nor this one."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


@contextmanager
def _ends() -> Iterator[None]:
    """Convert the ends of a connection to NobodyAnswers."""
    try:
        yield
    except TimeoutError:
        raise
    except (OSError, EOFError) as error:
        raise NobodyAnswers(str(error)) from error


def _send(connection: socket.socket, message: bytes) -> None:
    connection.sendall(_LENGTH.pack(len(message)) + message)


def _receive(connection: socket.socket) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return bytes(_exactly(connection, length))


def _exactly(connection: socket.socket, length: int) -> bytearray:
    received = bytearray()
    while len(received) < length:
        some = connection.recv(min(length - len(received), 1 << 20))
        if not some:
            raise EOFError("the other side has closed the connection")
        received += some
    return received


@cache
def _greeting() -> bytes:
    try:
        version = metadata.version("kb-ingest")
    except metadata.PackageNotFoundError:
        version = "not installed"
    return f"kb-ingest {version}, messages {MESSAGES}".encode()


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """The path of a socket, or a short one that leads there."""
    if len(os.fsencode(path)) <= _ADDRESS_BYTES:
        yield str(path)
        return
    with TemporaryDirectory(prefix="kb-") as folder:  # which only this user can change
        short = Path(folder, "s")
        short.symlink_to(path.parent.absolute(), target_is_directory=True)
        yield str(short / path.name)


def _is_shared(folder: Path) -> bool:
    """Whether the group can write to the store, and so to its locks (KB_DATA_SHARED)."""
    return bool(folder.stat().st_mode & stat.S_IWGRP)


def _is_trusted(connection: socket.socket, folder: Path) -> bool:
    """Whether the other side is this user or root; in a store that a group shares, the mode of the socket has said so."""
    return _user(connection) in (None, os.geteuid(), 0) or _is_shared(folder)


def _user(connection: socket.socket) -> int | None:
    """The user of the process at the other end; None where the system does not tell."""
    system: str = sys.platform
    if system == "linux":
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[1])
    if system == "darwin":
        credentials = connection.getsockopt(0, 1, 128)  # SOL_LOCAL, LOCAL_PEERCRED: a version, the user, groups
        return int(struct.unpack_from("=II", credentials)[1])
    return None
