"""The folder broker: kombu's file system transport, with files that are written atomically.

kombu 5.7 creates a file and then writes it. A process that reads it in between, such as a starting worker or the reader of a
queue, finds it empty and ends with an error. This transport writes a file under another name and renames it.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from time import monotonic
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem

from pipeline.files.lock import FileLock
from pipeline.files.replace import replace_file

#: The scheme of the broker's URL.
SCHEME = "folder"

TRANSPORT_ALIASES[SCHEME] = "workers.broker.folder:Transport"


class Channel(filesystem.Channel):
    """Messages as files `TIME_ID.QUEUE.msg`, bindings of an exchange as one file."""

    def get_table(self, exchange: str) -> list[Any]:
        """The bindings of an exchange."""
        try:
            rows = json.loads(self._bindings(exchange).read_text("utf-8"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ChannelError(f"cannot read the bindings of {exchange!r}: {error}") from error
        return [filesystem.exchange_queue_t(*row) for row in rows]

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        binding = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        self._change(exchange, lambda table: table if binding in table else [binding, *table])

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str, *args: object, **kwargs: object) -> None:
        super(filesystem.Channel, self)._delete(queue, exchange, routing_key, pattern, *args, **kwargs)  # type: ignore[no-untyped-call]
        binding = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        self._change(exchange, lambda table: [one for one in table if one != binding])

    def _change(self, exchange: str, change: Callable[[list[Any]], list[Any]]) -> None:
        file = self._bindings(exchange)
        try:
            with self._alone():
                before = self.get_table(exchange)
                after = change(before)
                if after != before:
                    replace_file(file, json.dumps(after).encode())
        except OSError as error:
            raise ChannelError(f"cannot write the bindings of {exchange!r}: {error}") from error

    def _bindings(self, exchange: str) -> Path:
        return Path(self._exchange_file(exchange))  # type: ignore[no-untyped-call]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from changing bindings; the lock ends with the process that holds it."""
        self.control_folder.mkdir(exist_ok=True)
        with FileLock(self.control_folder / "bindings.lock"):
            yield

    def _put(self, queue: str, payload: object, **kwargs: object) -> None:  # type: ignore[override]
        name = f"{round(monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        try:
            replace_file(Path(self.data_folder_out) / name, json.dumps(payload).encode())
        except OSError as error:
            raise ChannelError(f"cannot add a message to the {queue} queue: {error}") from error

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        for name in sorted(os.listdir(self.data_folder_in)):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            path = Path(self.data_folder_in) / name
            try:
                payload = path.read_bytes()
                path.unlink()  # only one of several readers succeeds
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ChannelError(f"cannot take a message from the {queue} queue: {error}") from error
            return json.loads(payload)
        raise Empty


class Transport(filesystem.Transport):
    """The transport that uses this channel. It polls less often once a whole drain has found no message."""

    Channel = Channel

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)  # type: ignore[no-untyped-call]
        self._busy_s = self.polling_interval
        self._idle_s = client.transport_options.get("idle_polling_interval", self.polling_interval)

    def drain_events(self, connection: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Deliver one message; raises TimeoutError where none has come in time."""
        try:
            super().drain_events(connection, **kwargs)  # type: ignore[no-untyped-call]
        except TimeoutError:
            self.polling_interval = self._idle_s
            raise
        self.polling_interval = self._busy_s
