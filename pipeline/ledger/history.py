"""What became of each run, beside the run before it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, select

from pipeline.ledger.report import RunRow, last_runs
from pipeline.ledger.schema import leases, reading, runs, schedules, totals


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run left behind, and how fast it was."""

    documents: int  #: of the collection
    chunks: int  #: points of them
    failures: int  #: quarantined documents; of a check, points that are not as they should be
    chunks_per_s: float  #: embedded by the run; of a check, compared

    def since(self, before: Figures) -> Figures:
        """What has changed since `before`."""
        return Figures(
            self.documents - before.documents, self.chunks - before.chunks, self.failures - before.failures,
            round(self.chunks_per_s - before.chunks_per_s, 1),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Past:
    """One run, for people."""

    run: RunRow
    outcome: str  #: as in the ledger; where that has none `going on`, or `interrupted` for a schedule's, or `not finished`
    seconds: float | None  #: until its end, or until now; None where nobody saw it end
    figures: Figures | None  #: None before its end
    before: int | None  #: the latest earlier run of this action, source and collection that has figures
    difference: Figures | None  #: from that one


class History:
    """Runs and how they compare."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def runs(self, limit: int = 20, schedule: str | None = None, source: str | None = None) -> list[Past]:
        """The last runs, the newest first."""
        with reading(self._engine) as connection:
            return [_past(connection, run) for run in last_runs(connection, limit, schedule, source)]

    def run(self, number: int) -> Past | None:
        """One run by its number."""
        with reading(self._engine) as connection:
            row = connection.execute(select(runs).where(runs.c.id == number)).first()
            return _past(connection, RunRow(**row._mapping)) if row else None


def _past(connection: Connection, run: RunRow) -> Past:
    figures = _figures(connection, run)
    before = None if figures is None else _before(connection, run)
    compared = None if before is None else _figures(connection, before)
    difference = None if figures is None or compared is None else figures.since(compared)
    outcome = run.outcome or _open_outcome(connection, run)
    end = run.finished_at if run.finished_at is not None or outcome != "going on" else time.time()
    seconds = None if end is None else max(0.0, round(end - run.started_at, 3))
    return Past(run, outcome, seconds, figures, before.id if before else None, difference)


def _open_outcome(connection: Connection, run: RunRow) -> str:
    """In words, what is true of a run without an outcome."""
    if not run.schedule:
        held = connection.execute(select(leases.c.id).where(leases.c.run == run.id)).first() is not None
        return "going on" if held else "not finished"  # which was not waited for, or its command died
    alive = select(leases.c.id).join(schedules, schedules.c.lease == leases.c.id).where(schedules.c.name == run.schedule)
    newest = select(runs.c.id).where(runs.c.schedule == run.schedule).order_by(runs.c.id.desc()).limit(1)
    goes_on = connection.execute(alive).first() is not None and connection.execute(newest).scalar() == run.id
    return "going on" if goes_on else "interrupted"


def _figures(connection: Connection, run: RunRow) -> Figures | None:
    left = connection.execute(select(totals).where(totals.c.run == run.id)).first()
    if left is None or run.finished_at is None:
        return None
    seconds = run.finished_at - run.started_at
    worked = left.chunks if run.action == "verify" else run.embedded
    return Figures(left.documents, left.chunks, left.failures, round(worked / seconds, 1) if seconds > 0 else 0.0)


def _before(connection: Connection, run: RunRow) -> RunRow | None:
    row = connection.execute(
        select(runs)
        .join(totals, totals.c.run == runs.c.id)
        .where(
            runs.c.id < run.id, runs.c.action == run.action, runs.c.source == run.source, runs.c.collection == run.collection,
            runs.c.finished_at.is_not(None),
        )
        .order_by(runs.c.id.desc())
        .limit(1)
    ).first()  # fmt: skip
    return RunRow(**row._mapping) if row else None
