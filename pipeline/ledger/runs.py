"""Runs: opened, counted and closed; and how they compare with the runs before."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Engine, func, select, update

from pipeline.ledger.generations import live_name
from pipeline.ledger.schema import documents, leases, reading, runs, schedules, upsert, writing
from pipeline.ledger.schema import totals as all_totals
from pipeline.types import DocumentState


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that begins."""

    collection: str
    action: str = "load"
    source: str = ""
    schedule: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One load, sync, re-index or check."""

    id: int
    collection: str
    started_at: float
    finished_at: float | None
    discovered: int
    unchanged: int
    bytes: int
    action: str  #: load, sync, delete, verify, reindex, gc
    source: str
    schedule: str
    outcome: str  #: done, partly, refused, failed, interrupted; empty while it is running, or if its process was killed
    detail: str
    added: int
    changed: int
    deleted: int
    indexed: int
    quarantined: int
    chunks: int
    embedded: int
    token: str = ""  #: name of the token that the service was asked with
    staged_at: float | None = None  #: when everything was staged, of a load that did not wait for its end


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What a run left behind, and how fast it was."""

    documents: int  #: of the collection
    chunks: int  #: points of them
    failures: int  #: quarantined documents; of a check, points that are not as they should be
    chunks_per_s: float  #: embedded by the run; of a check, compared

    def since(self, before: RunFigures) -> RunFigures:
        """What has changed since `before`."""
        return RunFigures(
            self.documents - before.documents, self.chunks - before.chunks, self.failures - before.failures,
            round(self.chunks_per_s - before.chunks_per_s, 1),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Past:
    """One run, for people."""

    run: RunRow
    outcome: str  #: as in the ledger; where that has none `going on`, or `interrupted` for a schedule's, or `not finished`
    seconds: float | None  #: until its end, or until now; None where nobody saw it end
    figures: RunFigures | None  #: None before its end
    before: int | None  #: the latest earlier run of this action, source and collection that has figures
    difference: RunFigures | None  #: from that one


class Runs:
    """Runs and how they compare."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def start(self, collection: str, action: str = "load", source: str = "", schedule: str = "", token: str = "") -> int:
        """Open a run; return its number."""
        with writing(self._engine) as connection:
            return open_run(connection, NewRun(collection, action, source, schedule, token))

    def unfinished(self) -> list[RunRow]:
        """Loads that the service was asked for and that have no outcome yet."""
        wanted = (runs.c.token != "", runs.c.finished_at.is_(None), runs.c.action == "load")
        with reading(self._engine) as connection:
            return [RunRow(**row._mapping) for row in connection.execute(select(runs).where(*wanted).order_by(runs.c.id))]

    def staged(self, run: int) -> None:
        """Record that everything of a run is staged: what is left of it needs nobody but workers."""
        with writing(self._engine) as connection:
            connection.execute(update(runs).where(runs.c.id == run).values(staged_at=time.time()))

    def update(self, run: int, **counts: int) -> None:
        """Write some of a run's counts, by the names of their columns."""
        with writing(self._engine) as connection:
            connection.execute(update(runs).where(runs.c.id == run).values(counts))

    def end(self, run: int, outcome: str, detail: str = "", totals: tuple[int, int, int] | None = None) -> None:
        """Close a run: `done`, `partly` (some documents are quarantined), `refused` (deletions were refused), `failed`.

        `totals` are documents, chunks and failures as the run leaves them; without, they are counted in the ledger.
        """
        # Counted before the write lock is taken: a collection may have a million rows.
        left = self._totals(run) if totals is None else totals
        with writing(self._engine) as connection:
            statement = upsert(connection, all_totals).values(run=run, documents=left[0], chunks=left[1], failures=left[2])
            values = {name: statement.excluded[name] for name in ("documents", "chunks", "failures")}
            connection.execute(statement.on_conflict_do_update(index_elements=[all_totals.c.run], set_=values))
            counted = connection.execute(
                select(documents.c.state, func.count(), func.sum(documents.c.chunks), func.sum(documents.c.embedded))
                .where(documents.c.run == run)
                .group_by(documents.c.state)
            ).all()
            states = {row[0]: row[1:] for row in counted}
            indexed, chunks, embedded = states.get(DocumentState.INDEXED, (0, 0, 0))
            connection.execute(
                update(runs)
                .where(runs.c.id == run)
                .values(
                    finished_at=time.time(), outcome=outcome, detail=detail[:2000], indexed=indexed, chunks=chunks,
                    embedded=embedded, quarantined=states.get(DocumentState.QUARANTINED, (0,))[0],
                )
            )  # fmt: skip

    def _totals(self, run: int) -> tuple[int, int, int]:
        """Documents, chunks and quarantined documents of a run's collection."""
        with reading(self._engine) as connection:
            public = select(runs.c.collection).where(runs.c.id == run).scalar_subquery()
            rows = connection.execute(
                select(documents.c.state, func.count(), func.sum(documents.c.chunks))
                .where(documents.c.collection == live_name(public), documents.c.state != DocumentState.DELETED)
                .group_by(documents.c.state)
            ).all()
        quarantined = sum(row[1] for row in rows if row[0] == DocumentState.QUARANTINED)
        return sum(row[1] for row in rows), sum(int(row[2] or 0) for row in rows), quarantined

    def get(self, number: int) -> RunRow | None:
        """One run by its number."""
        with reading(self._engine) as connection:
            row = connection.execute(select(runs).where(runs.c.id == number)).first()
        return RunRow(**row._mapping) if row else None

    def latest(self, limit: int = 20, schedule: str | None = None, source: str | None = None) -> list[RunRow]:
        """The last runs, the newest first."""
        with reading(self._engine) as connection:
            return last_runs(connection, limit, schedule, source)

    def asked(self, limit: int) -> list[RunRow]:
        """The last loads that the service was asked for, the newest first."""
        wanted = (runs.c.token != "", runs.c.action == "load")
        with reading(self._engine) as connection:
            rows = connection.execute(select(runs).where(*wanted).order_by(runs.c.id.desc()).limit(limit))
            return [RunRow(**row._mapping) for row in rows]

    def outcomes(self) -> dict[tuple[str, str], int]:
        """Runs that have ended, by action and outcome."""
        columns = (runs.c.action, runs.c.outcome)
        with reading(self._engine) as connection:
            rows = connection.execute(select(*columns, func.count()).where(runs.c.outcome != "").group_by(*columns))
            return {(row[0], row[1]): int(row[2]) for row in rows}

    def past(self, number: int) -> Past | None:
        """One run by its number."""
        with reading(self._engine) as connection:
            row = connection.execute(select(runs).where(runs.c.id == number)).first()
            return _past(connection, RunRow(**row._mapping)) if row else None

    def history(self, limit: int = 20, schedule: str | None = None, source: str | None = None) -> list[Past]:
        """The last runs, the newest first."""
        with reading(self._engine) as connection:
            return [_past(connection, run) for run in last_runs(connection, limit, schedule, source)]


def open_run(connection: Connection, new: NewRun) -> int:
    """Write a run down; return its number."""
    key = connection.execute(runs.insert().values(**asdict(new), started_at=time.time())).inserted_primary_key
    assert key is not None
    return int(key[0])


def last_runs(connection: Connection, limit: int, schedule: str | None, source: str | None) -> list[RunRow]:
    """The last runs, of a schedule or a source where one is given, the newest first."""
    wanted = [column == value for column, value in ((runs.c.schedule, schedule), (runs.c.source, source)) if value is not None]
    rows = connection.execute(select(runs).where(*wanted).order_by(runs.c.id.desc()).limit(limit))
    return [RunRow(**row._mapping) for row in rows]


def _past(connection: Connection, run: RunRow) -> Past:
    figures = _figures(connection, run)
    before = None if figures is None else _before(connection, run)
    compared = None if before is None else _figures(connection, before)
    difference = None if figures is None or compared is None else figures.since(compared)
    outcome = run.outcome or _open_outcome(connection, run)
    end = run.finished_at if run.finished_at is not None or outcome != "going on" else time.time()
    seconds = None if end is None else max(0.0, round(end - run.started_at, 3))
    return Past(
        run=run, outcome=outcome, seconds=seconds, figures=figures, before=before.id if before else None, difference=difference
    )


def _open_outcome(connection: Connection, run: RunRow) -> str:
    """Human-readable state of a run without an outcome."""
    if not run.schedule:
        held = connection.execute(select(leases.c.id).where(leases.c.run == run.id)).first() is not None
        return "going on" if held else "not finished"  # which was not waited for, or its command died
    alive = select(leases.c.id).join(schedules, schedules.c.lease == leases.c.id).where(schedules.c.name == run.schedule)
    newest = select(runs.c.id).where(runs.c.schedule == run.schedule).order_by(runs.c.id.desc()).limit(1)
    goes_on = connection.execute(alive).first() is not None and connection.execute(newest).scalar() == run.id
    return "going on" if goes_on else "interrupted"


def _figures(connection: Connection, run: RunRow) -> RunFigures | None:
    left = connection.execute(select(all_totals).where(all_totals.c.run == run.id)).first()
    if left is None or run.finished_at is None:
        return None
    seconds = run.finished_at - run.started_at
    worked = left.chunks if run.action == "verify" else run.embedded
    return RunFigures(left.documents, left.chunks, left.failures, round(worked / seconds, 1) if seconds > 0 else 0.0)


def _before(connection: Connection, run: RunRow) -> RunRow | None:
    row = connection.execute(
        select(runs)
        .join(all_totals, all_totals.c.run == runs.c.id)
        .where(
            runs.c.id < run.id, runs.c.action == run.action, runs.c.source == run.source, runs.c.collection == run.collection,
            runs.c.finished_at.is_not(None), runs.c.outcome != "interrupted",
        )
        .order_by(runs.c.id.desc())
        .limit(1)
    ).first()  # fmt: skip
    return RunRow(**row._mapping) if row else None
