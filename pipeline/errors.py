"""Every error that kb-ingest raises on purpose, and the retry of calls whose error may be temporary.

    KbError
    ├── TransientError            a retry may help: it does not count as an attempt of the document
    │   ├── BrokerUnavailable     Redis does not answer, or the broker folder cannot be used
    │   ├── StoreUnavailable      Qdrant does not answer, or answers incompletely
    │   ├── StoreLocked           the embedded store is open in another process
    │   ├── EmbedUnavailable      the embedding endpoint does not answer
    │   ├── RerankUnavailable     the reranker does not answer in time
    │   ├── LedgerUnavailable     the database does not answer, or is locked for too long
    │   ├── StagingUnavailable    the object store of the staged copies does not answer
    │   ├── CollectionReplaced    a re-index has replaced the collection with another generation
    │   ├── SourceBusy            another run is loading the same source into the same collection
    │   ├── LeaseLost             another worker holds the document now: stop working on it
    │   ├── ServiceUnavailable    `kb-ingest serve` does not answer, or has too much to do
    │   └── NoSpace               the disk is full
    └── PermanentError            a retry never helps: someone must act
        ├── ConfigError           a setting is wrong, or two settings contradict each other
        │   └── FilterError       a filter cannot be read, or does not fit the fields of the collection
        ├── ModelError            the model cannot be loaded, or differs from the configured one
        ├── DeviceError           the requested device does not exist
        ├── HostError             this host cannot be changed as requested: Docker Desktop, `.env`
        ├── InstallationError     a module that kb-ingest needs is missing or broken
        ├── OutputError           standard output cannot be written
        ├── CollectionMismatch    the collection was made with another model
        ├── CollectionMissing     the collection does not exist
        ├── LedgerError           the ledger has a schema that this version does not know
        ├── BackupError           a backup is incomplete or damaged, or its place is taken
        ├── SourceError           a root cannot be listed or a file cannot be copied
        ├── ServiceRefused        `kb-ingest serve` refuses what it was asked for
        ├── TooManyFailures       too many documents of a run fail: the fault lies elsewhere
        └── DocumentError         one document cannot become chunks; carries its Reason
            └── FileGone          its source lists the file, and says that it does not exist

Constructors take positional arguments only: errors travel between processes, and unpickling calls `cls(*args)`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.types import Reason

T = TypeVar("T")

log = logging.getLogger(__name__)

#: First and maximum pause between two attempts of a call, in seconds; each varies at random by up to a half.
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0


class KbError(Exception):
    """Base class of all errors of kb-ingest; the text is one line that says what to do."""


class TransientError(KbError):
    """A retry may help."""

    after_s: float = 0.0  #: the pause that a server asks for before the next attempt, in seconds


class BrokerUnavailable(TransientError):
    """The broker does not answer."""


class StoreUnavailable(TransientError):
    """The vector store does not answer, or did not complete an operation."""


class StoreLocked(TransientError):
    """The embedded store is open in another process."""


class EmbedUnavailable(TransientError):
    """The embedding endpoint does not answer."""


class RerankUnavailable(TransientError):
    """The reranker does not answer in time."""


class LedgerUnavailable(TransientError):
    """The ledger's database does not answer, or is locked for too long."""


class StagingUnavailable(TransientError):
    """The object store of the staged copies does not answer."""


class CollectionReplaced(TransientError):
    """A re-index has replaced the collection with another generation: start again with the new one."""


class SourceBusy(TransientError):
    """Another run is loading the same source into the same collection; the text names it."""


class LeaseLost(TransientError):
    """Another worker holds the document now; results computed for it must not be written."""


class ServiceUnavailable(TransientError):
    """`kb-ingest serve` does not answer, or has too much to do."""


class NoSpace(TransientError):
    """The disk to write to is full."""


class PermanentError(KbError):
    """A retry never helps."""


class ConfigError(PermanentError):
    """A setting is wrong, or two settings contradict each other."""


class FilterError(ConfigError):
    """A filter cannot be read, names a field that does not exist, or compares one with a value of another type."""


class ModelError(PermanentError):
    """The model cannot be loaded, or differs from the configured one."""


class DeviceError(PermanentError):
    """The requested device does not exist."""


class HostError(PermanentError):
    """This host, its container engine or its `.env` cannot be changed as requested."""


class InstallationError(PermanentError):
    """A module that kb-ingest needs is missing or broken; no document is at fault."""


class OutputError(PermanentError):
    """Standard output cannot be written."""


class CollectionMismatch(PermanentError):
    """The collection was made with another model or dimension."""


class CollectionMissing(PermanentError):
    """No collection with this name exists."""


class LedgerError(PermanentError):
    """This version cannot use the ledger."""


class BackupError(PermanentError):
    """A backup is incomplete or damaged, or there is something in the place of a backup or of what it would restore."""


class SourceError(PermanentError):
    """A root cannot be listed, or a file cannot be copied."""


class ServiceRefused(PermanentError):
    """`kb-ingest serve` refuses what it was asked for; the text is its own."""


class TooManyFailures(PermanentError):
    """Too many documents of a run fail: the fault lies elsewhere."""


class DocumentError(PermanentError):
    """One document cannot become chunks."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)


class FileGone(DocumentError):
    """The source lists a file, and says that it does not exist, or that it is another one."""


def retried(call: Callable[[], T], for_s: float) -> T:
    """Repeat `call` with growing pauses while it raises TransientError; raise the last one once `for_s` seconds have passed."""
    deadline, pause_s = time.monotonic() + for_s, FIRST_PAUSE_S
    while True:
        try:
            return call()
        except TransientError as error:
            wait_s = max(error.after_s, pause_s * random.uniform(0.5, 1.5))
            if time.monotonic() + wait_s >= deadline:
                raise
            log.info("%s; next attempt in %.1f s", error, wait_s)
        time.sleep(wait_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)
