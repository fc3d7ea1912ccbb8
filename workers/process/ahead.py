"""The processes that a load or a service starts ahead of its own work: the model's, and the server that forks workers."""

from __future__ import annotations

import logging
from types import TracebackType

from pipeline.settings import Settings
from workers.process import modelserver
from workers.process.forking import Companion, can_fork
from workers.process.forkserver import ForkServer

log = logging.getLogger(__name__)


class Ahead:
    """What a command has started ahead; a context manager that ends it. Where nothing can be started, nothing is missing.

    Call its methods before anything that does not survive a fork: threads, an open ledger or store, the use of a device.
    """

    def __init__(self) -> None:
        self.model: Companion | None = None  #: see modelserver
        self.forks: ForkServer | None = None

    def load_model(self, settings: Settings) -> None:
        """Begin to load the model, if this process embeds by itself; call it before all other imports."""
        if settings.embedded_broker and settings.embedded_store:
            self.load_model_of_questions(settings)

    def load_model_of_questions(self, settings: Settings) -> None:
        """Begin to load the model, unless an endpoint embeds; call it before all other imports."""
        if self.model is None and not settings.embed_url and can_fork():
            try:
                self.model = Companion(modelserver.__name__, modelserver.serve)
            except OSError as error:
                log.debug("cannot fork the model's process: %s", error)

    def fork_workers(self, settings: Settings) -> None:
        """Have workers forked instead of started, if this process has any; call it after the imports that they share."""
        if settings.embedded_broker and can_fork():
            try:
                self.forks = ForkServer()
            except OSError as error:
                log.debug("cannot fork a server for workers: %s", error)

    def close(self) -> None:
        """End the processes; workers that still exist end too."""
        for process in (self.forks, self.model):
            if process is not None:
                process.close()
        self.forks = self.model = None

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
