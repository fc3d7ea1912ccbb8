"""The model's process: it has torch and the model, and nothing else; embed workers and the service send it texts over a socket.

A model's thread gives up the interpreter lock after each of its hundreds of operations, and would then wait for threads that read,
write or answer. And importing torch takes as long as all other imports together, which an import cannot share with another one.
A load and a service fork this process before their own imports (`ahead.py`). Other embed workers start it as a new interpreter
(`ownmodel.py`). Those that have none, or whose model's process died while it was being loaded, load the model themselves.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.sandbox.confine import PDEATHSIG, prctl
from pipeline.settings import Settings
from workers import logs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.embed.base import Embedder, EmbedderInfo, Purpose

log = logging.getLogger(__name__)

#: Name of the model's process in log lines, where it serves a whole command.
NAME = "model"


class ModelGone(Exception):
    """The model's process does not exist any more."""


class RemoteEmbedder:
    """An embedder in the model's process; see LocalEmbedder for the errors of its methods."""

    def __init__(
        self, door: int, settings: Settings, device: str, on_death: Callable[[], None], purpose: Purpose = "documents"
    ) -> None:
        """Load a model there; `door` is this side's descriptor of the process's socket.

        Raises ModelGone, ModelError, DeviceError; later, `on_death` is called if the process is gone.
        """
        self._door = door
        self._own = threading.local()  #: a connection for each thread
        self._on_death = on_death
        self._memory_bytes: int  #: after the last call that embedded documents
        self._model, self.info, self._memory_bytes = self._ask("load", settings, device, purpose)
        self.fills: deque[float] = deque()

    @property
    def calls(self) -> int:
        """Finished calls of the model."""
        return int(self._call("calls"))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed documents: (n, dimension) float32, unit length, in the order of `texts`."""
        vectors, fills, self._memory_bytes = self._call("embed", list(texts))
        self.fills.extend(fills)
        found: NDArray[np.float32] = vectors
        return found

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed a question: (dimension,) float32, unit length."""
        vector: NDArray[np.float32] = self.embed_queries([text])[0]
        return vector

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed questions together: (n, dimension) float32, unit length, in the order of `texts`."""
        found: NDArray[np.float32] = self._call("embed_queries", list(texts))
        return found

    def memory_bytes(self) -> int:
        """Memory of the device that the model took after its last call; on the CPU, that of its process.

        It asks nobody: a transaction of the ledger writes it, and must not wait for a process that may hang.
        """
        return self._memory_bytes

    def close(self) -> None:
        """Free the device's memory."""
        self._call("close")

    def _call(self, name: str, *arguments: object) -> Any:
        try:
            return self._ask(name, self._model, *arguments)
        except ModelGone:
            self._on_death()
            raise

    def _ask(self, name: str, *arguments: object) -> Any:
        try:
            connection = getattr(self._own, "connection", None) or _connect(self._door)
            # Only kept once it has answered: after SIGTERM in between, the next question would get this one's answer.
            self._own.connection = None
            connection.send((name, arguments))
            answer, error = connection.recv()
            self._own.connection = connection
        except (EOFError, OSError) as gone:
            raise ModelGone(f"the model's process is gone: {gone}") from gone
        if error is not None:
            raise error
        return answer


def _connect(door: int) -> Connection[Any, Any]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs, socket.socket(fileno=os.dup(door)) as channel:
        socket.send_fds(channel, [b"?"], [theirs.fileno(), _log_file()])
    return Connection(ours.detach())


def _log_file() -> int:
    """The descriptor that takes this process's log lines."""
    streams = [handler.stream for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler)]
    return int(streams[0].fileno()) if streams else 2


# --- in the model's process


class _Models:
    """The loaded models, by number; several threads may use one at the same time."""

    def __init__(self, name: str) -> None:
        self._name = name  #: of this process, in log lines
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._loaded: dict[int, tuple[tuple[Settings, str, Purpose], Embedder]] = {}
        self._logs = False  #: whether log lines go where they belong

    def load(self, settings: Settings, device: str, purpose: Purpose) -> tuple[int, EmbedderInfo, int]:
        from pipeline.embed import make_embedder

        with self._lock:
            self._set_up_logs(settings)
            for number, (known, embedder) in self._loaded.items():
                if known == (settings, device, purpose):  # of a worker that died
                    return number, embedder.info, _memory_bytes(embedder)
            embedder = make_embedder(settings, device=device, purpose=purpose)
            number = next(self._numbers)
            self._loaded[number] = (settings, device, purpose), embedder
        return number, embedder.info, _memory_bytes(embedder)

    def calls(self, model: int) -> int:
        return self._loaded[model][1].calls

    def embed(self, model: int, texts: list[str]) -> tuple[NDArray[np.float32], list[float], int]:
        embedder = self._loaded[model][1]
        vectors = embedder.embed(texts)
        with self._lock:  # whichever call has added them
            return vectors, [embedder.fills.popleft() for _ in range(len(embedder.fills))], _memory_bytes(embedder)

    def embed_queries(self, model: int, texts: list[str]) -> NDArray[np.float32]:
        return self._loaded[model][1].embed_queries(texts)

    def close(self, model: int) -> None:
        with self._lock:
            self._loaded.pop(model)[1].close()

    def _set_up_logs(self, settings: Settings) -> None:
        if not self._logs:
            self._logs = True
            logs.set_up(settings.log_level, log_format=settings.log_format, prefix=self._name)
            if settings.log_level != "debug" or logs.structured():
                logs.divert(settings.data_dir / "logs" / f"{self._name}.log")


def _memory_bytes(embedder: Embedder) -> int:
    """Memory of the device that this process takes; on the CPU, the process's own."""
    import psutil

    return embedder.memory_bytes() or int(psutil.Process().memory_info().rss)


def serve(door: socket.socket, name: str = NAME) -> NoReturn:
    """Import torch, then answer each connection in its own thread, until no process can make new ones."""
    # A service manager may send SIGTERM to all processes of a service: the worker then finishes its step, with this model.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        import pipeline.embed.local  # noqa: F401 - so that it is there when it is needed
    except Exception:  # the worker, which then imports it itself, says why
        os._exit(1)

    models = _Models(name)
    first = True
    while True:
        data, files, _, _ = socket.recv_fds(door, 1, 2)
        if not data:
            os._exit(0)
        connection, output = files
        for number in (1, 2) if first else ():
            os.dup2(output, number)
        os.close(output)
        first = False
        threading.Thread(target=_answer, args=(Connection(connection), models), daemon=True).start()


def _answer(connection: Connection[Any, Any], models: _Models) -> None:
    with connection:
        while True:
            try:
                name, arguments = connection.recv()
            except (EOFError, OSError):  # the thread or process at the other end has ended
                return
            reply: tuple[object, Exception | None]
            try:
                reply = getattr(models, name)(*arguments), None
            except Exception as error:  # raised again at the other end
                reply = None, error
            try:
                _send(connection, reply)
            except OSError:
                return


def _send(connection: Connection[Any, Any], reply: tuple[object, Exception | None]) -> None:
    """Send a reply, or why it cannot be: one that never came would look like the death of this process."""
    try:
        connection.send(reply)
    except OSError:
        raise
    except Exception as error:  # whatever pickle raises, before it has sent anything
        what = reply[1] or error
        connection.send((None, RuntimeError(f"{type(what).__name__}: {what}")))


def main() -> NoReturn:
    """Serve the process that has started this interpreter, and end with it."""
    parser = argparse.ArgumentParser(prog="kb-ingest-model")
    parser.add_argument("--door", type=int, required=True, help="descriptor of the socket to it")
    parser.add_argument("--parent", type=int, required=True, help="its process id")
    parser.add_argument("--name", required=True)
    options = parser.parse_args()
    prctl(PDEATHSIG, signal.SIGKILL)
    if os.getppid() != options.parent:  # it ended before the line above
        os._exit(1)
    serve(socket.socket(fileno=options.door), options.name)


if __name__ == "__main__":
    main()
