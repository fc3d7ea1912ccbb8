"""Schedules: actions that are repeated at the times of a cron expression, and the leases of their runs."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, select, update

from pipeline.errors import LeaseLost
from pipeline.ledger.schema import leases, reading, runs, schedules, upsert, writing
from pipeline.types import SCHEDULE


@dataclass(frozen=True, slots=True)
class Schedule:
    """An action that is due at the times of a cron expression."""

    name: str
    cron: str
    timezone: str
    source: str
    action: str
    paused: bool
    last_slot: int  #: the latest slot that was run or skipped; seconds since the epoch
    created_at: float  #: seconds since the epoch
    lease: str | None  #: lease of the run in progress; None if there is none


class Schedules:
    """The table of schedules.

    Any number of schedulers may read it: one conditional write decides which of them runs a due slot.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, name: str, cron: str, timezone: str, source: str, action: str, now: float) -> bool:
        """Record a schedule; return whether it is new. Slots before `now` are skipped."""
        row = {
            "name": name, "cron": cron, "timezone": timezone, "source": source, "action": action, "paused": 0,
            "last_slot": int(now), "created_at": time.time(),
        }  # fmt: skip
        with writing(self._engine) as connection:
            statement = upsert(connection, schedules).values(row).on_conflict_do_nothing()
            # Not by the row count, which the Postgres driver does not report for such a statement.
            return connection.execute(statement.returning(schedules.c.name)).first() is not None

    def all(self) -> list[Schedule]:
        """All schedules, by name."""
        columns = [schedules.c[name] for name in Schedule.__dataclass_fields__ if name != "lease"]
        with reading(self._engine) as connection:
            # A lease that no longer exists, because its process died, counts as none.
            joined = schedules.outerjoin(leases, leases.c.id == schedules.c.lease)
            rows = connection.execute(
                select(*columns, leases.c.id.label("lease")).select_from(joined).order_by(schedules.c.name)
            ).all()
        return [Schedule(**{**row._mapping, "paused": bool(row.paused)}) for row in rows]

    def get(self, name: str) -> Schedule | None:
        """The schedule with this name."""
        return next((schedule for schedule in self.all() if schedule.name == name), None)

    def of_lease(self, lease: str) -> Schedule | None:
        """The schedule whose run holds this lease."""
        return next((schedule for schedule in self.all() if schedule.lease == lease), None)

    def remove(self, name: str) -> bool:
        """Remove a schedule, but not its runs; return whether it existed. A run in progress notices and ends."""
        with writing(self._engine) as connection:
            held = select(schedules.c.lease).where(schedules.c.name == name).scalar_subquery()
            connection.execute(delete(leases).where(leases.c.id == held))
            return bool(connection.execute(delete(schedules).where(schedules.c.name == name)).rowcount)

    def pause(self, name: str) -> bool:
        """Skip all slots from now on; return whether the schedule exists. A run in progress continues."""
        with writing(self._engine) as connection:
            return bool(connection.execute(update(schedules).where(schedules.c.name == name).values(paused=1)).rowcount)

    def resume(self, name: str, now: float) -> bool:
        """End a pause; return whether the schedule exists. Slots before `now` are skipped, because they fell into the pause."""
        with writing(self._engine) as connection:
            statement = update(schedules).where(schedules.c.name == name).values(paused=0, last_slot=int(now))
            return bool(connection.execute(statement).rowcount)

    def claim_slot(self, seen: Schedule, slot: int, owner: str) -> str | None:
        """Take the lease for `slot`; None if another scheduler took it, a run is in progress, or `seen` has changed."""
        return self._claim(seen.name, owner, slot, seen)

    def claim_now(self, name: str, owner: str) -> str | None:
        """Take the lease at any time, paused or not; None if a run is in progress."""
        return self._claim(name, owner)

    def _claim(self, name: str, owner: str, slot: int | None = None, seen: Schedule | None = None) -> str | None:
        lease = str(uuid.uuid4())
        ours = schedules.c.name == name
        with writing(self._engine) as connection:
            # Lock first, then read the leases: otherwise Postgres would compare the current row with an older state of leases.
            row = connection.execute(select(schedules).where(ours).with_for_update()).first()
            if row is None or (seen and (row.last_slot, row.cron, row.paused) != (seen.last_slot, seen.cron, 0)):
                return None
            if connection.execute(select(leases.c.id).where(leases.c.id == row.lease)).first() is not None:
                return None
            last_slot = row.last_slot if slot is None else slot
            connection.execute(update(schedules).where(ours).values(lease=lease, last_slot=last_slot))
            connection.execute(leases.insert().values(id=lease, stage=SCHEDULE, owner=owner, beat=0, started_at=time.time()))
            _interrupted(connection, name, "its process ended")  # no lease exists, so the previous run has died
        return lease

    def beat(self, lease: str) -> None:
        """Send a heartbeat of the run's process; raises LeaseLost if the lease was taken back or the schedule removed."""
        with writing(self._engine) as connection:
            moved = connection.execute(update(leases).where(leases.c.id == lease).values(beat=leases.c.beat + 1)).rowcount
        if not moved:
            raise LeaseLost("the run sent no heartbeat for too long, or its schedule was removed")

    def release(self, lease: str, *, missed: bool = False) -> None:
        """End the lease of a run; `missed` makes its slot due again, because the run was told to stop before it was done."""
        with writing(self._engine) as connection:
            ours = schedules.c.lease == lease
            name = connection.execute(select(schedules.c.name).where(ours)).scalar()
            values = {"last_slot": schedules.c.last_slot - 1} if missed else {}
            connection.execute(update(schedules).where(ours).values(lease=None, **values))
            connection.execute(delete(leases).where(leases.c.id == lease))
            if name is not None:
                _interrupted(connection, name, "it was told to stop" if missed else "its process ended")


def _interrupted(connection: Connection, name: str, detail: str) -> None:
    """Set the outcome `interrupted` for a schedule's runs without an outcome."""
    still_open = (runs.c.schedule == name, runs.c.finished_at.is_(None), runs.c.outcome == "")
    connection.execute(update(runs).where(*still_open).values(outcome="interrupted", detail=detail))
