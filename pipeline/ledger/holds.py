"""Leases of runs: each holds the roots that its run loads into a collection, so that one run at a time loads them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, select, update

from pipeline.errors import LeaseLost
from pipeline.ledger.runs import NewRun, open_run
from pipeline.ledger.schema import leases, reading, runs, writing
from pipeline.types import RUN

#: Key of the advisory lock for taking roots in Postgres, any unused number. SQLite has one writer at a time.
HOLDS_LOCK = 5_113_522


@dataclass(frozen=True, slots=True)
class Hold:
    """A run's lease, and the roots that the run holds."""

    lease: str
    beat: int  #: changes between two looks while the run's process lives
    owner: str  #: `sync-PLACE@host/4711`: the process
    run: int
    action: str  #: load, sync
    source: str  #: empty if its roots were named by path
    collection: str  #: the public name
    roots: tuple[str, ...]  #: URIs
    since: float  #: seconds since the epoch


class Holds:
    """Leases of runs.

    The run ends its lease itself; any dispatcher takes back a lease without heartbeat, as with leases of documents.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, new: NewRun, roots: Sequence[str], owner: str) -> tuple[Hold, bool]:
        """Open a run that holds these roots and return its hold and True; if another run holds one of them, that hold and False."""
        now = time.time()
        with writing(self._engine) as connection:
            other = _holder(connection, new.collection, roots)
            if other is not None:
                return other, False
            run = open_run(connection, new)
            ours = Hold(
                lease=str(uuid.uuid4()),
                beat=0,
                owner=owner,
                run=run,
                action=new.action,
                source=new.source,
                collection=new.collection,
                roots=tuple(roots),
                since=now,
            )
            _insert(connection, ours)
        return ours, True

    def holder(self, collection: str, roots: Sequence[str]) -> Hold | None:
        """The hold on any of these roots."""
        with reading(self._engine) as connection:
            return _find(connection, collection, roots)

    def is_held(self, run: int) -> bool:
        """Whether a run still has a lease; that of a dead process is taken back by a dispatcher."""
        with reading(self._engine) as connection:
            return connection.execute(select(leases.c.id).where(leases.c.stage == RUN, leases.c.run == run)).first() is not None

    def beat(self, ours: Hold) -> None:
        """Send a heartbeat; raises LeaseLost if another run has taken over the roots.

        A lease that was taken back, as from a suspended process, is taken again if the roots are still free.
        """
        with writing(self._engine) as connection:
            if connection.execute(update(leases).where(leases.c.id == ours.lease).values(beat=leases.c.beat + 1)).rowcount:
                return
            other = _holder(connection, ours.collection, ours.roots)
            if other is not None:
                raise LeaseLost(f"run {ours.run} sent no heartbeat for too long, and run {other.run} has taken its place")
            _insert(connection, ours)

    def end(self, lease: str) -> None:
        """End a run's lease."""
        with writing(self._engine) as connection:
            connection.execute(delete(leases).where(leases.c.id == lease))

    def take_back(self, seen: Hold) -> None:
        """End the lease of a run whose process is dead, unless it has sent a heartbeat since `seen`."""
        with writing(self._engine) as connection:
            connection.execute(delete(leases).where(leases.c.id == seen.lease, leases.c.beat == seen.beat))


def _holder(connection: Connection, collection: str, roots: Sequence[str]) -> Hold | None:
    """The hold on any of these roots; no other process takes one until the transaction ends."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({HOLDS_LOCK})")
    return _find(connection, collection, roots)


def _find(connection: Connection, collection: str, roots: Sequence[str]) -> Hold | None:
    columns = (leases.c.id, leases.c.beat, leases.c.owner, leases.c.run, runs.c.action, runs.c.source, runs.c.collection)
    rows = connection.execute(
        select(*columns, leases.c.roots, leases.c.started_at)
        .join(runs, runs.c.id == leases.c.run)
        .where(leases.c.stage == RUN, runs.c.collection == collection)
        .order_by(leases.c.run)
    ).all()
    found = (Hold(*row[:7], tuple(json.loads(row.roots)), row.started_at) for row in rows)
    return next((hold for hold in found if not set(roots).isdisjoint(hold.roots)), None)


def _insert(connection: Connection, hold: Hold) -> None:
    connection.execute(
        leases.insert().values(
            id=hold.lease,
            stage=RUN,
            owner=hold.owner,
            beat=0,
            started_at=hold.since,
            run=hold.run,
            roots=json.dumps(hold.roots),
        )
    )
