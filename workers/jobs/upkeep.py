"""The upkeep of a data folder as whole commands: the removal of what nobody needs, backups, and their restoration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import BackupError, ConfigError
from pipeline.files.lock import FileLock
from pipeline.ledger import Ledger
from pipeline.ledger.schema import SCHEMA_VERSION
from pipeline.settings import Settings
from pipeline.staging import open_staging
from pipeline.staging.contents import IN_USE_S
from pipeline.steps.backup import LEDGER, POINTS, CopyPoints, check, make
from pipeline.steps.garbage import Ages, Collected, Garbage
from pipeline.steps.restore import Restored, check_empty, put_back, settle
from pipeline.store import open_store
from pipeline.text import plural, size
from workers.versions import rules, versions

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
    """Remove what nobody needs, by the ages of the settings.

    `files_s` is an age for staged files, generations and leftovers instead, `runs_s` one for runs.

    `dry_run`: change nothing. `on_step` is called often. Raises ConfigError if another removal or backup is going on.
    """
    own = Ages(
        files_s=settings.staged_days * DAY_S,
        runs_s=settings.runs_days * DAY_S if runs_s is None else runs_s,
        events_s=settings.events_days * DAY_S,
        steps_s=settings.steps_days * DAY_S,
        leftovers_s=settings.gc_days * DAY_S,
        rollback_s=settings.rollback_days * DAY_S,
        earlier_s=IN_USE_S,
    )
    given = own if files_s is None else replace(own, files_s=files_s, leftovers_s=files_s, rollback_s=files_s, earlier_s=files_s)
    staging = open_staging(settings.staging_location)
    with alone(settings), closing(open_store(settings, role="reader")) as store:
        found = Garbage(ledger, staging, store, given, dry_run=dry_run, on_step=on_step).collect()
        for physical in [] if dry_run else store.collections():
            store.build_graph(physical, settings.graph_points, thorough=True)
        return found


def told(found: Collected) -> str:
    """`12 copies (3.4 MB), 2 runs`; `nothing`."""
    parts = []
    for name, kind in found.kinds.items():
        told = PLURALS[name] if name in PLURALS and kind.count != 1 else name
        number = f"{kind.count:,} {told}" if name in PLURALS else plural(kind.count, name)
        parts.append(number + (f" ({size(kind.bytes)})" if kind.bytes else ""))
    return ", ".join(parts) or "nothing"


#: What a manifest and messages say of the points on a Qdrant server.
LEFT_OUT = (
    "left out: they are on a Qdrant server, which has snapshots of its own; after a restoration, "
    "`kb-ingest verify --repair` makes those that are missing from chunk files"
)


def back_up(settings: Settings, folder: Path, on_file: Callable[[int, int], None]) -> dict[str, Any]:
    """Make a backup of the data folder; return what `--json` prints.

    Raises BackupError, and ConfigError for a ledger in PostgreSQL or if another backup or removal is going on.
    """
    folder = folder.expanduser().absolute()
    _check_ledger(settings)
    if not (settings.data_dir / LEDGER).is_file():
        raise BackupError(f"the data folder {settings.data_dir} has no ledger, so there is nothing to back up")
    if folder.is_relative_to(settings.data_dir) or settings.data_dir.is_relative_to(folder):
        raise BackupError(f"{folder} and the data folder {settings.data_dir} lie in each other; name another folder")
    points = "copied" if settings.embedded_store else LEFT_OUT
    about = {
        "versions": versions(),
        "schema": SCHEMA_VERSION,
        "rules": rules(),
        "data_folder": str(settings.data_dir),
        "points": points,
    }
    with Ledger.open(settings.ledger_url) as ledger, alone(settings), _points(settings, folder) as copy_points:
        made = make(folder, ledger, open_staging(settings.staging_location), copy_points, about, on_file)
    return {"folder": str(folder), "files": made.files, "bytes": made.bytes, "lost": made.lost, "points": points}


@contextmanager
def _points(settings: Settings, folder: Path) -> Iterator[CopyPoints | None]:
    """What copies the points; None where a server has them."""
    if not settings.embedded_store:
        yield None
        return
    from pipeline.store.edge import EdgeStore

    with closing(EdgeStore(settings.data_dir / POINTS)) as store:
        yield partial(store.copy, folder / POINTS)


def restore(settings: Settings, folder: Path, on_file: Callable[[int, int], None]) -> dict[str, Any]:
    """Check a backup and restore it into the data folder, which must be empty; return what `--json` prints.

    Raises BackupError, and ConfigError for a ledger in PostgreSQL or if another restoration is going on.
    """
    _check_ledger(settings)
    check_empty(settings.data_dir)
    backup = check(folder.expanduser().absolute(), on_file)
    with alone(settings.prepare()):
        check_empty(settings.data_dir)  # nobody else has restored one meanwhile
        staging = open_staging(settings.staging_location)
        put_back(backup, settings.data_dir, staging, points=settings.embedded_store)
        with Ledger.open(settings.ledger_url) as ledger, closing(open_store(settings, role="owner")) as store:
            collections = settle(settings, ledger, staging, store)
    return {
        "files": backup.files, "bytes": backup.bytes, "points": backup.about.get("points"),
        "collections": [{"name": one.name, "clean": one.found.clean, "again": one.again, **_figures(one)} for one in collections],
    }  # fmt: skip


def _figures(one: Restored) -> dict[str, int]:
    names = ("documents", "expected_points", "actual_points", "missing", "orphans", "zero_vectors")
    return {name: getattr(one.found, name) for name in names}


def _check_ledger(settings: Settings) -> None:
    if settings.database_url:
        raise ConfigError(
            "the ledger is in a database of its own (KB_DATABASE_URL): back it up and restore it with pg_dump and pg_restore, "
            "together with the staged files; this command copies ledgers in SQLite only"
        )
