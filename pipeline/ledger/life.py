"""What happened to documents: every change of their state, from the events that the database writes down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row, RowMapping, case, delete, func, or_, select

from pipeline.ledger.flow import SCHEDULE
from pipeline.ledger.schema import collections, documents, events, leases, reading, runs, writing
from pipeline.ledger.schema import measures as all_measures
from pipeline.measure import CHUNK_LIMIT, CHUNK_TOKENS
from pipeline.types import DocumentState, document_id

#: Most events that a rate is made from.
RATE_EVENTS = 5000

#: Events that are dropped in one transaction.
FORGET_WINDOW = 10_000


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a document's state."""

    document: str  #: id
    run: int  #: that brought the version it is about
    at: float  #: seconds since the epoch
    state: str  #: the new one
    owner: str  #: the worker's process that holds it now or held it until now; empty: nobody
    reason: str  #: why it is there, as a code; empty where it is what everybody hopes for
    detail: str  #: the same in words
    chunks: int | None  #: of the version that became searchable, as are the following; None for other states
    embedded: int | None
    tokens: int | None
    parse_s: float | None
    embed_s: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A document as it stands now."""

    id: str
    collection: str  #: the generation it belongs to
    uri: str
    title: str
    media_type: str
    size: int
    content_hash: str
    state: str  #: or `forgotten`, where its row is gone
    reason: str
    detail: str
    starts: int
    run: int
    chunks: int
    updated_at: float
    worker: str  #: who holds it
    beat_s: float | None  #: seconds since its worker showed progress


@dataclass(frozen=True, slots=True)
class Pulse:
    """When something moved last."""

    event_at: float | None  #: the last change of any document's state
    beat_at: float | None  #: the last progress that a worker has shown

    @property
    def quiet_s(self) -> float | None:
        """Seconds since then; None where nothing ever moved."""
        latest = max(self.event_at or 0.0, self.beat_at or 0.0)
        return max(0.0, time.time() - latest) if latest else None


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast documents become searchable, as it was lately."""

    documents_per_s: float
    chunks_per_s: float  #: embedded; those that were there already take no time
    tokens_per_s: float


class Life:
    """Events, and the documents they happened to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, wanted: str, limit: int = 10) -> list[Standing]:
        """Documents with this URI or id, or whose URI ends with it, in every generation that is kept; the live ones first."""
        columns = [documents.c[name] for name in Standing.__dataclass_fields__ if name in documents.c]
        exact, ending = or_(documents.c.uri == wanted, documents.c.id == wanted), f"/{wanted.lstrip('/')}"
        # Compared as text, as LIKE takes small letters for capitals in SQLite.
        ends = func.substr(documents.c.uri, func.length(documents.c.uri) - len(ending) + 1) == ending
        base = (
            select(*columns, leases.c.owner.label("worker"), func.coalesce(leases.c.moved_at, leases.c.started_at).label("beat_at"))
            .outerjoin(leases, leases.c.id == documents.c.lease)
            .outerjoin(collections, collections.c.name == documents.c.collection)
            .order_by(collections.c.state, documents.c.uri)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(base.where(exact)).all() or connection.execute(base.where(ends)).all()
        return [_standing(row._mapping) for row in rows]

    def gone(self, uri: str) -> list[Standing]:
        """The same for a document that was deleted and that has no row any more: only its events are left."""
        with reading(self._engine) as connection:
            names = connection.execute(select(collections.c.name)).scalars().all()
            ids = {document_id(name, uri): name for name in names}
            statement = select(events.c.document, func.max(events.c.run), func.max(events.c.at)).where(events.c.document.in_(ids))
            rows = connection.execute(statement.group_by(events.c.document)).all()
        return [
            Standing(key, ids[key], uri, "", "", 0, "", "forgotten", "", "", 0, run, 0, at, "", None) for key, run, at in rows
        ]  # fmt: skip

    def of(self, document: str) -> list[Event]:
        """A document's events, in their order."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(events).where(events.c.document == document).order_by(events.c.id))
            return [_event(row) for row in rows]

    def indexed_by(self, run: int) -> Iterator[tuple[float, int, int]]:
        """(time, chunks embedded, bytes) of each document that a run made searchable, in their order."""
        wanted = (events.c.run == run, events.c.state == DocumentState.INDEXED)
        statement = select(events.c.at, events.c.embedded, events.c.size).where(*wanted).order_by(events.c.id)
        with reading(self._engine) as connection:
            for row in connection.execute(statement):
                yield float(row[0]), int(row[1] or 0), int(row[2] or 0)

    def rates(self, window_s: float, run: int | None = None) -> Rates:
        """Of the last `window_s` seconds, or of the time since the run's first event where that is less."""
        now = time.time()
        # By id, which goes up with time: however long the table, few rows are read.
        latest = select(events).order_by(events.c.id.desc()).limit(RATE_EVENTS).subquery()
        wanted = [latest.c.at >= now - window_s, *([latest.c.run == run] if run is not None else [])]
        done = case((latest.c.state == DocumentState.INDEXED, 1), else_=0)
        statement = select(
            func.min(latest.c.at), func.sum(done), func.sum(latest.c.embedded), func.sum(latest.c.tokens)
        ).where(*wanted)  # fmt: skip
        with reading(self._engine) as connection:
            began, *sums = connection.execute(statement).one()
        if began is None:
            return Rates(0.0, 0.0, 0.0)
        return Rates(*(float(value or 0) / max(1.0, now - began) for value in sums))

    def pulse(self) -> Pulse:
        """When something moved last."""
        with reading(self._engine) as connection:
            event_at = connection.execute(select(events.c.at).order_by(events.c.id.desc()).limit(1)).scalar()
            # A scheduled run shows that its process lives, from a thread, and not that documents move.
            works = leases.c.stage != SCHEDULE
            beat_at = connection.execute(select(func.max(func.coalesce(leases.c.moved_at, leases.c.started_at))).where(works)).scalar()
        return Pulse(event_at, beat_at)

    def forget(self, older_s: float) -> int:
        """Drop events of more than `older_s` seconds ago, and what was counted for their runs; return how many events."""
        before, dropped = time.time() - older_s, 0
        while True:
            with writing(self._engine) as connection:
                # Ids go up with time, so the oldest ones are first and few rows are looked at.
                oldest = connection.execute(select(events.c.id, events.c.at).order_by(events.c.id).limit(FORGET_WINDOW)).all()
                gone = [row.id for row in oldest if row.at < before]
                if gone:
                    connection.execute(delete(events).where(events.c.id >= gone[0], events.c.id <= gone[-1], events.c.at < before))
                    dropped += len(gone)
                if len(gone) < FORGET_WINDOW:
                    old = connection.execute(select(runs.c.id).where(runs.c.finished_at < before)).scalars()
                    labels = [str(number) for number in old]
                    for start in range(0, len(labels), 500):
                        window = labels[start : start + 500]
                        of_runs = all_measures.c.metric.in_((CHUNK_TOKENS, CHUNK_LIMIT))
                        connection.execute(delete(all_measures).where(of_runs, all_measures.c.label.in_(window)))
                    return dropped


def _standing(row: RowMapping) -> Standing:
    fields = {name: row[name] for name in Standing.__dataclass_fields__ if name in row}
    for name in ("reason", "detail", "worker"):
        fields[name] = fields[name] or ""
    return Standing(**fields, beat_s=None if row["beat_at"] is None else max(0.0, time.time() - row["beat_at"]))


def _event(row: Row[Any]) -> Event:
    fields = {name: row._mapping[name] for name in Event.__dataclass_fields__}
    for name in ("owner", "reason", "detail"):
        fields[name] = fields[name] or ""
    return Event(**fields)
