"""The restoration of a backup into an empty data folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BackupError
from pipeline.files.copy import copy_file
from pipeline.files.errors import translating
from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.staging import Staging
from pipeline.staging.contents import is_pack
from pipeline.steps.backup import LEDGER, POINTS, STAGED, Checked
from pipeline.steps.move import put_staged
from pipeline.steps.verify import Verified, repair, verify
from pipeline.store.base import VectorStore

#: What may be in a data folder into which a backup is restored: models, mirrors of repositories, and locks.
ALLOWED = ("hf_cache", "git", "upkeep.lock", "staging/files.lock")


@dataclass(frozen=True, slots=True)
class Restored:
    """A collection after the restoration, compared with the ledger."""

    name: str  #: the public name
    found: Verified
    again: int  #: documents that are compared with the store again before they count as indexed


def check_empty(data_dir: Path) -> None:
    """Raise BackupError if the data folder holds anything that a restoration could overwrite or mix with."""
    with translating(data_dir, BackupError):
        taken = next(_files(data_dir), None) if data_dir.is_dir() else None
    if taken is not None:
        raise BackupError(
            f"the data folder {data_dir} is not empty: it holds {taken.relative_to(data_dir)}; set KB_DATA_DIR to a new folder, "
            "or move this one away"
        )


def _files(data_dir: Path) -> Iterator[Path]:
    for path in sorted(data_dir.rglob("*")):
        place = path.relative_to(data_dir).as_posix()
        if path.is_file() and not any(place == one or place.startswith(f"{one}/") for one in ALLOWED):
            yield path


def put_back(backup: Checked, data_dir: Path, staging: Staging, *, points: bool) -> None:
    """Copy the files of a backup to their places, the ledger last; `points`: those of the embedded store, too.

    Raises BackupError, NoSpace.
    """
    with translating(data_dir, BackupError):
        with staging.batch() as batch:
            for path, key in backup.paths(STAGED):
                if is_pack(key):
                    staging.adopt(path)
                else:
                    put_staged(staging, batch, key, path)
        for path, place in backup.paths(POINTS) if points else ():
            target = data_dir / POINTS / place
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_file(path, target)
        arriving = data_dir / f"{LEDGER}.restoring"
        copy_file(backup.folder / LEDGER, arriving)
        arriving.rename(data_dir / LEDGER)


def settle(settings: Settings, ledger: Ledger, staging: Staging, store: VectorStore) -> list[Restored]:
    """Make every live collection answer, and compare it with the ledger as `kb-ingest verify` does.

    Documents that were being worked on wait again. Those whose points are missing are compared again: what the store lacks is
    embedded from their chunk files by the next workers.
    """
    ledger.flow.begin_again()
    found = []
    for one in ledger.collections.live_ones():
        store.create(one.physical, one.dimension, parts=settings.of_collection(one.profile).part_tokens > 0)
        if store.aliases().get(one.public) != one.physical:
            store.set_alias(one.public, one.physical)
        seen = verify(ledger, staging, store, one.name, one.physical)
        again = 0 if seen.clean else repair(ledger, store, one.physical, seen)
        store.flush(one.physical)
        found.append(Restored(one.public, seen, again))
    return found
