"""The processes that a command starts ahead of its own work: the model's process, and the server that forks its workers."""

from __future__ import annotations

import logging
from types import TracebackType

from pipeline.settings import Settings
from workers.process.forking import can_fork
from workers.process.forkserver import ForkServer
from workers.process.modelserver import ModelServer

log = logging.getLogger(__name__)


class Ahead:
    """What a command has started ahead; a context manager that ends it. Where nothing can be started, nothing is missing.

    Call its methods before anything that does not survive a fork: threads, an open ledger or store, the use of a device.
    """

    def __init__(self) -> None:
        self.forks: ForkServer | None = None
        self.model: ModelServer | None = None

    def load_model(self, settings: Settings) -> None:
        """Begin to load the model, if this command may embed by itself; call it before the command's own imports."""
        if settings.embedded_broker and settings.embedded_store and not settings.embed_url and can_fork():
            try:
                self.model = ModelServer()
            except OSError as error:  # no memory, or too many processes
                log.debug("cannot fork the model's process: %s", error)

    def fork_workers(self) -> None:
        """Have workers forked instead of started; call it after the command's own imports, which the workers share."""
        if can_fork():
            try:
                self.forks = ForkServer()
            except OSError as error:
                log.debug("cannot fork a server for workers: %s", error)

    def close(self) -> None:
        """End the processes; workers that still exist end too."""
        for process in (self.forks, self.model):
            if process is not None:
                process.close()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
