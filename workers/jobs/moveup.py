"""A whole deployment moved to other places: database, store, broker and staging area, without processing anything again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial

from pipeline.errors import ConfigError
from pipeline.ledger import Ledger
from pipeline.ledger.schema import BUILDING, LIVE
from pipeline.ledger.transfer import Copied, copy_ledger
from pipeline.settings import Settings
from pipeline.staging import open_staging
from pipeline.steps.move import copy_staged
from pipeline.steps.promote import promote
from pipeline.steps.verify import Verified, verify
from pipeline.store import open_store
from pipeline.text import plural
from pipeline.types import Stage
from workers.broker.app import make_app
from workers.broker.queues import Broker
from workers.process.locks import WorkersLock

#: Settings that name a place which can move.
PLACES = ("redis_url", "staging_location", "qdrant_url", "ledger_url")

#: Told what is being copied, and how much of it so far.
Tell = Callable[[str], None]


@dataclass(slots=True)
class Moved:
    """What a move has copied, and whether the new places agree with each other."""

    staged: int = 0  #: staged files that the ledger needs
    points: dict[str, int] = field(default_factory=dict)  #: by physical collection
    rows: int = 0  #: of the ledger
    collections: dict[str, Verified] = field(default_factory=dict)  #: what `verify` finds in the new places, by name

    @property
    def clean(self) -> bool:
        """Whether every collection is whole."""
        return all(found.clean for found in self.collections.values())


def copy_to(settings: Settings, target_url: str, tell: Tell) -> Copied:
    """Copy the ledger into the database at a SQLAlchemy URL; see `pipeline.ledger.transfer`.

    Raises ConfigError if it is the ledger's own, or if workers run; LedgerError, LedgerUnavailable.
    """
    if target_url == settings.ledger_url:
        raise ConfigError("the ledger is in this database already; name another one")
    with Ledger.open(settings.ledger_url) as ledger, _at_rest(settings, ledger):
        return _copy_rows(ledger, target_url, tell)


def move_up(settings: Settings, target: Settings, tell: Tell) -> Moved:
    """Copy what `target` keeps elsewhere than `settings`; the ledger last, so that a failed move leaves all as it was.

    A move that was interrupted continues. Raises ConfigError if nothing differs, if workers run or a re-index is going on, and the
    errors of the parts.
    """
    moves = {place for place in PLACES if getattr(settings, place) != getattr(target, place)}
    if not moves:
        raise ConfigError("nothing to move: name a database, Qdrant, Redis or staging area other than those in use")
    if "qdrant_url" in moves and target.embedded_store:
        raise ConfigError("points move from the embedded store to a Qdrant server; not back")
    moved = Moved()
    with Ledger.open(settings.ledger_url) as ledger, _at_rest(settings, ledger):
        if "redis_url" in moves:
            broker = Broker(make_app(target))
            for stage in Stage:
                broker.depth(stage)
        if "staging_location" in moves:
            source, place = open_staging(settings.staging_location), open_staging(target.staging_location)
            moved.staged = copy_staged(ledger, source, place, lambda number: tell(f"{plural(number, 'staged file')} copied"))
        if "qdrant_url" in moves:
            moved.points = _copy_points(settings, target, ledger, tell)
        if "ledger_url" in moves:
            moved.rows = _copy_rows(ledger, target.ledger_url, tell).rows
    moved.collections = _verify(target, tell)
    return moved


@contextmanager
def _at_rest(settings: Settings, ledger: Ledger) -> Iterator[None]:
    """Keep workers of a data folder away; raise ConfigError if some run, here or elsewhere."""
    running = [worker.name for worker in ledger.registry.workers()]
    lock = WorkersLock(settings.data_dir / "workers.lock") if settings.embedded_broker else None
    if running or (lock is not None and not lock.acquire()):
        names = ", ".join(running) or (lock.taken_by() if lock else "")
        raise ConfigError(f"workers run ({names}): what they do now would not be copied; stop loads, workers and services first")
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _copy_rows(ledger: Ledger, target_url: str, tell: Tell) -> Copied:
    return copy_ledger(ledger.engine, target_url, lambda table, rows: tell(f"{plural(rows, 'row')} of {table} copied or compared"))


def _copy_points(settings: Settings, target: Settings, ledger: Ledger, tell: Tell) -> dict[str, int]:
    """Copy every generation: a rollback works in the new place, too."""
    generations = ledger.collections.all()
    if building := [one.public for one in generations if one.state == BUILDING]:
        raise ConfigError(
            f"a re-index of {building[0]!r} is not finished; let it end, or drop it with `kb-ingest collections prune --refused`"
        )
    points = {}
    with closing(open_store(settings, role="reader")) as source, closing(open_store(target, role="owner")) as place:
        for one in generations:
            alias = one.public if one.state == LIVE else ""
            report = promote(source, place, one.physical, alias, partial(_tell_points, tell, one.physical))
            points[one.physical] = report.target_count
    return points


def _tell_points(tell: Tell, name: str, done: int, total: int) -> None:
    tell(f"{done} of {plural(total, 'point')} of {name} copied")


def _verify(target: Settings, tell: Tell) -> dict[str, Verified]:
    """Compare the new places with each other, as `kb-ingest verify` does."""
    found = {}
    with Ledger.open(target.ledger_url) as ledger, closing(open_store(target, role="reader")) as store:
        staging = open_staging(target.staging_location)
        for one in ledger.collections.live_ones():
            tell(f"comparing {one.public}")
            found[one.public] = verify(ledger, staging, store, one.name, one.physical)
    return found
