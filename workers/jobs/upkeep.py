"""The upkeep of a data folder as whole commands: the removal of what nobody needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from pipeline.errors import ConfigError
from pipeline.files.lock import FileLock
from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.staging import open_staging
from pipeline.steps.garbage import Ages, Collected, Garbage
from pipeline.store import open_store
from pipeline.text import plural, size

DAY_S = 86_400.0

#: Plurals that do not just end in s.
PLURALS = {
    "copy": "copies",
    "collection of the store": "collections of the store",
    "key of a request": "keys of requests",
    "loss": "losses",
}


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Keep other removals and backups of this data folder out; raises ConfigError if one is going on."""
    lock = FileLock(settings.data_dir / "upkeep.lock")
    if not lock.take():
        raise ConfigError(
            f"another `gc`, `backup` or `restore` of {settings.data_dir} is going on; run this one again when that is done"
        )
    try:
        yield
    finally:
        lock.release()


def collect(
    settings: Settings,
    ledger: Ledger,
    *,
    files_s: float | None = None,
    runs_s: float | None = None,
    dry_run: bool = False,
    on_step: Callable[[], None] = lambda: None,
) -> Collected:
    """Remove what nobody needs and nobody has used for `files_s` seconds, and runs older than `runs_s`; by default as configured.

    `dry_run`: change nothing. `on_step` is called often. Raises ConfigError if another removal or backup is going on.
    """
    ages = Ages(
        settings.gc_days * DAY_S if files_s is None else files_s,
        settings.runs_days * DAY_S if runs_s is None else runs_s,
        settings.events_days * DAY_S,
    )
    staging = open_staging(settings.staging_location)
    with alone(settings), closing(open_store(settings, role="reader")) as store:
        return Garbage(ledger, staging, store, ages, dry_run=dry_run, on_step=on_step).collect()


def told(found: Collected) -> str:
    """`12 copies (3.4 MB), 2 runs`; `nothing`."""
    parts = []
    for name, kind in found.kinds.items():
        told = PLURALS[name] if name in PLURALS and kind.count != 1 else name
        number = f"{kind.count:,} {told}" if name in PLURALS else plural(kind.count, name)
        parts.append(number + (f" ({size(kind.bytes)})" if kind.bytes else ""))
    return ", ".join(parts) or "nothing"
