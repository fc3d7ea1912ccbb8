"""Every error that kb-ingest raises on purpose.

    KbError
    ├── TransientError            a retry may help: nothing is charged to the document
    │   ├── BrokerUnavailable     Redis or the broker folder does not answer
    │   ├── StoreUnavailable      Qdrant does not answer, or not completely
    │   ├── StoreLocked           the embedded store is open in another process
    │   ├── EmbedUnavailable      the embedding endpoint does not answer
    │   ├── LedgerUnavailable     the database does not answer, or is locked for too long
    │   ├── StagingUnavailable    the object store of the staged copies does not answer
    │   ├── CollectionReplaced    a re-index has put another generation in the collection's place
    │   ├── SourceBusy            another run loads the same source into the same collection now
    │   ├── LeaseLost             somebody else holds the document now: stop working on it
    │   └── NoSpace               the disk is full
    └── PermanentError            a retry never helps: a person must act
        ├── ConfigError           a setting is wrong or two settings contradict
        ├── ModelError            the model cannot be loaded, or is not what was promised
        ├── DeviceError           the asked-for device is not there
        ├── HostError             this host cannot be changed as asked: Docker Desktop, `.env`
        ├── InstallationError     a module that kb-ingest needs is missing or broken
        ├── OutputError           standard output cannot be written
        ├── CollectionMismatch    the collection was made with another model
        ├── CollectionMissing     no such collection
        ├── LedgerError           the ledger has a schema this version does not know
        ├── SourceError           a root cannot be listed or a file cannot be copied
        ├── TooManyFailures       so many documents of a run fail that the fault is elsewhere
        └── DocumentError         one document cannot become chunks; carries its Reason

Constructors take positional arguments only: errors travel between processes, and unpickling calls `cls(*args)`.
"""

from __future__ import annotations

from pipeline.types import Reason


class KbError(Exception):
    """Root of all errors of kb-ingest; its text is one line that says what to do."""


class TransientError(KbError):
    """A retry may help."""


class BrokerUnavailable(TransientError):
    """The broker does not answer."""


class StoreUnavailable(TransientError):
    """The vector store does not answer, or did not complete an operation."""


class StoreLocked(TransientError):
    """The embedded store is open in another process."""


class EmbedUnavailable(TransientError):
    """The embedding endpoint does not answer."""


class LedgerUnavailable(TransientError):
    """The ledger's database does not answer, or is locked for too long."""


class StagingUnavailable(TransientError):
    """The object store of the staged copies does not answer."""


class CollectionReplaced(TransientError):
    """A re-index has put another generation in the collection's place: begin again with that one."""


class SourceBusy(TransientError):
    """Another run loads the same source into the same collection now; the text says which."""


class LeaseLost(TransientError):
    """Somebody else holds the document now; what was computed for it must not be written."""


class NoSpace(TransientError):
    """The disk that must be written is full."""


class PermanentError(KbError):
    """A retry never helps."""


class ConfigError(PermanentError):
    """A setting is wrong, or two settings contradict each other."""


class ModelError(PermanentError):
    """The model cannot be loaded or is not what was promised."""


class DeviceError(PermanentError):
    """The asked-for device is not there."""


class HostError(PermanentError):
    """This host, its container engine or its `.env` cannot be changed as asked."""


class InstallationError(PermanentError):
    """A module that kb-ingest needs is missing or broken; no document can help it."""


class OutputError(PermanentError):
    """Standard output cannot be written."""


class CollectionMismatch(PermanentError):
    """The collection was made with another model or dimension."""


class CollectionMissing(PermanentError):
    """No collection has this name."""


class LedgerError(PermanentError):
    """The ledger cannot be used by this version."""


class SourceError(PermanentError):
    """A root cannot be listed, or a file cannot be copied."""


class TooManyFailures(PermanentError):
    """So many documents of a run fail that the fault is not theirs."""


class DocumentError(PermanentError):
    """One document cannot become chunks."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)
