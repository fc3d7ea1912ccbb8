"""History of documents: every change of their state, from the events that the database records."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sqlalchemy import ColumnElement, Connection, Engine, Row, RowMapping, and_, case, delete, exists, func, or_, select

from pipeline.ledger.advances import throughput
from pipeline.ledger.intake import ID_WINDOW
from pipeline.ledger.schema import LIVE, collections, documents, events, leases, reading, runs, writing
from pipeline.ledger.schema import measures as all_measures
from pipeline.telemetry.counters import CHUNK_LIMIT, CHUNK_TOKENS
from pipeline.text import well_formed
from pipeline.types import DocumentState, Stage, document_id

#: Minimum number of reports or documents for a meaningful rate.
FEW = 3

#: Factor by which the window of a rate is extended if it contains fewer than FEW.
LONGER = 10

#: States in which no work on a document is left.
_ENDS = (DocumentState.INDEXED, DocumentState.QUARANTINED, DocumentState.SKIPPED, DocumentState.DELETED)

#: States on the way to an end.
_STEPS = tuple(DocumentState(one) for stage in Stage for one in (stage.waiting, stage.running))

#: Seconds that the clocks of workers may be ahead.
AHEAD_S = 3600.0

#: Events deleted in one transaction.
FORGET_WINDOW = 10_000


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a document's state."""

    document: str  #: id
    run: int  #: run that brought the version it is about
    at: float  #: seconds since the epoch
    state: str  #: the new one
    owner: str  #: worker process that holds the document or held it until now; empty if none
    reason: str  #: reason code; empty on success
    detail: str  #: human-readable reason
    chunks: int | None  #: of the version that became searchable, like the next fields; None for other states
    embedded: int | None
    tokens: int | None
    parse_s: float | None
    embed_s: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Current state of a document."""

    id: str
    collection: str  #: the generation it belongs to
    uri: str
    title: str
    media_type: str
    size: int
    content_hash: str
    state: str  #: a state, or `forgotten` if its row is gone
    reason: str
    detail: str
    starts: int
    run: int
    chunks: int
    updated_at: float
    worker: str  #: worker that holds it
    beat_s: float | None  #: seconds since its worker last made progress
    properties: str = ""  #: JSON object of the document's own fields; empty where it has none
    parent: str = ""  #: id of the document that this one is a member of
    metadata: str = ""  #: JSON object of the metadata of the indexed version


@dataclass(frozen=True, slots=True)
class Pulse:
    """Time of the last progress of any document."""

    event_at: float | None  #: the last change of any document's state
    beat_at: float | None  #: the last heartbeat of a worker
    event: int = 0  #: id of the last change of state
    beats: frozenset[tuple[str, int]] = frozenset()  #: leases with heartbeats, and the number of their heartbeats

    @property
    def quiet_s(self) -> float | None:
        """Seconds since then; None if there was never any progress."""
        latest = max(self.event_at or 0.0, self.beat_at or 0.0)
        return max(0.0, time.time() - latest) if latest else None

    def moved_since(self, before: Pulse) -> bool:
        """Whether there was progress since an earlier look, independent of clocks. The end of a lease is not progress."""
        return self.event > before.event or not self.beats <= before.beats


@dataclass(frozen=True, slots=True)
class Rates:
    """Recent speed of the work."""

    documents_per_s: float  #: documents that become searchable
    chunks_per_s: float  #: embedded chunks, counted when they are written; chunks that were in the store already take no time
    tokens_per_s: float  #: tokens of chunks that are written, or found in the store
    parsed_bytes_per_s: float = 0.0  #: bytes of files


class Life:
    """Events, and their documents."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, wanted: str, limit: int = 10) -> list[Standing]:
        """Documents with this URI or id, or whose URI ends with it, percent-encoded or not; live generations first."""
        columns = [documents.c[name] for name in Standing.__dataclass_fields__ if name in documents.c]
        plain = well_formed(wanted)  # a name that is not valid text is found only percent-encoded
        exact = or_(documents.c.uri == plain, documents.c.id == plain)
        # Not by LIKE, which ignores case in SQLite.
        endings = {f"/{one.lstrip('/')}" for one in (plain, quote(os.fsencode(wanted)))}
        ends = or_(*(func.substr(documents.c.uri, func.length(documents.c.uri) - len(one) + 1) == one for one in endings))
        base = (
            select(*columns, leases.c.owner.label("worker"), func.coalesce(leases.c.moved_at, leases.c.started_at).label("beat_at"))
            .outerjoin(leases, leases.c.id == documents.c.lease)
            .outerjoin(collections, collections.c.name == documents.c.collection)
            .order_by(case((collections.c.state == LIVE, 0), else_=1), documents.c.uri)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(base.where(exact)).all() or connection.execute(base.where(ends)).all()
        return [_standing(row._mapping) for row in rows]

    def gone(self, wanted: str) -> list[Standing]:
        """Documents with this URI or id that were deleted and have no row left, only events."""
        with reading(self._engine) as connection:
            names = connection.execute(select(collections.c.name)).scalars().all()
            wanted = well_formed(wanted)
            ids = {document_id(name, wanted): name for name in names}
            there = select(documents.c.id).where(documents.c.id == events.c.document)
            statement = select(events.c.document, func.max(events.c.run), func.max(events.c.at)).where(
                events.c.document.in_([*ids, wanted]), ~there.exists()
            )
            rows = connection.execute(statement.group_by(events.c.document)).all()
        return [
            Standing(
                id=key, collection=ids.get(key, ""), uri=wanted, title="", media_type="", size=0, content_hash="",
                state="forgotten", reason="", detail="", starts=0, run=run, chunks=0, updated_at=at, worker="", beat_s=None,
            )
            for key, run, at in rows
        ]  # fmt: skip

    def of(self, document: str) -> list[Event]:
        """A document's events, in order."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(events).where(events.c.document == document).order_by(events.c.id))
            return [_event(row) for row in rows]

    def rates(self, window_s: float, run: int | None = None, now: float | None = None) -> Rates:
        """Rates of the last `window_s` seconds before `now`, or of a window LONGER times as long if it has too few reports.

        The window never begins before the work that the reports are about.
        """
        now = time.time() if now is None else now
        with reading(self._engine) as connection:
            short, long = (_done_since(connection, run, now - length) for length in (window_s, LONGER * window_s))

        def per_s(stage: Stage, name: str, *enough: str) -> float:
            done = short if any(short[stage][one] >= FEW for one in enough) else long
            return done[stage][name] / max(1.0, now - done[stage]["since"])

        return Rates(
            per_s(Stage.EMBED, "documents", "documents"),
            per_s(Stage.EMBED, "chunks", "documents", "reports"),
            per_s(Stage.EMBED, "tokens", "documents", "reports"),
            per_s(Stage.PARSE, "bytes", "documents", "reports"),
        )

    def pulse(self) -> Pulse:
        """Time of the last progress: a document advanced, or a worker sent a heartbeat.

        Claims, and documents released with a reason, are not progress: they continue while a server is down.
        """
        with reading(self._engine) as connection:
            further = or_(
                events.c.state.in_(_ENDS), and_(events.c.state.in_(("pending", "parsed")), events.c.detail.is_(None))
            )  # fmt: skip
            last = connection.execute(select(events.c.id, events.c.at).where(further).order_by(events.c.id.desc()).limit(1)).first()
            # A run's heartbeat comes from a thread: it shows that the process lives, not that documents make progress.
            columns = (leases.c.id, leases.c.beat, leases.c.moved_at)
            beats = connection.execute(select(*columns).where(leases.c.stage.in_(Stage), leases.c.beat > 0)).all()
        beat_at = max((beat.moved_at for beat in beats if beat.moved_at is not None), default=None)
        shown = frozenset((beat.id, beat.beat) for beat in beats)
        return Pulse(last.at if last else None, beat_at, last.id if last else 0, shown)

    def old_events(self, older_s: float) -> int:
        """How many events are older than `older_s` seconds."""
        with reading(self._engine) as connection:
            old = _old(connection, older_s)
            return int(connection.execute(select(func.count()).select_from(events).where(*old)).scalar_one())

    def old_steps(self, older_s: float, younger_s: float) -> int:
        """How many events `forget_steps` would delete that are younger than `younger_s` seconds."""
        with reading(self._engine) as connection:
            wanted = (events.c.id >= _first_young(connection, younger_s), *_old(connection, older_s), _is_over())
            return int(connection.execute(select(func.count()).select_from(events).where(*wanted)).scalar_one())

    def forget_steps(self, older_s: float) -> int:
        """Delete the steps of documents that have reached an end since, if they are older than `older_s` seconds; return how many.

        The ends stay, and so does a step with a reason: why a document went back.
        """
        with reading(self._engine) as connection:
            wanted = (*_old(connection, older_s), _is_over())
        return self._delete(wanted)

    def forget(self, older_s: float) -> int:
        """Delete events older than `older_s` seconds, and the throughput and counts of that time; return how many events."""
        before = time.time() - older_s
        with reading(self._engine) as connection:
            old = _old(connection, older_s)
        dropped = self._delete(old)
        with writing(self._engine) as connection:
            connection.execute(delete(throughput).where(throughput.c.at < before))
            ended = select(runs.c.id).where(func.coalesce(runs.c.finished_at, runs.c.started_at) < before)
            labels = [str(number) for number in connection.execute(ended).scalars()]
            of_runs = all_measures.c.metric.in_((CHUNK_TOKENS, CHUNK_LIMIT))
            for start in range(0, len(labels), ID_WINDOW):
                window = labels[start : start + ID_WINDOW]
                connection.execute(delete(all_measures).where(of_runs, all_measures.c.label.in_(window)))
        return dropped

    def _delete(self, wanted: Sequence[ColumnElement[bool]]) -> int:
        """Delete events, the oldest first and in short transactions; return how many."""
        dropped, last = 0, 0
        while True:
            with reading(self._engine) as connection:
                found = select(events.c.id).where(events.c.id > last, *wanted).order_by(events.c.id).limit(FORGET_WINDOW)
                ids = connection.execute(found).scalars().all()
            if not ids:
                return dropped
            with writing(self._engine) as connection:
                for start in range(0, len(ids), ID_WINDOW):
                    connection.execute(delete(events).where(events.c.id.in_(ids[start : start + ID_WINDOW])))
            dropped, last = dropped + len(ids), ids[-1]


def _old(connection: Connection, older_s: float) -> tuple[ColumnElement[bool], ...]:
    """Conditions on events: they are older than `older_s` seconds."""
    return events.c.id < _first_young(connection, older_s), events.c.at < time.time() - older_s


def _first_young(connection: Connection, older_s: float) -> int:
    """The id below which events are older than `older_s` seconds: ids increase with time, and there is no index of times.

    Times in the future, of a clock that was wrong, say nothing about the events before them.
    """
    now = time.time()
    young = select(events.c.id).where(events.c.at.between(now - older_s, now + AHEAD_S)).order_by(events.c.id).limit(1)
    first = connection.execute(young).scalar()
    return connection.execute(select(func.coalesce(func.max(events.c.id), 0) + 1)).scalar_one() if first is None else int(first)


def _is_over() -> ColumnElement[bool]:
    """Condition on events: steps without a reason of documents that have reached an end since."""
    later = events.alias()
    end = exists().where(later.c.document == events.c.document, later.c.id > events.c.id, later.c.state.in_(_ENDS))
    told = or_(events.c.reason.is_not(None), events.c.detail.is_not(None))
    return and_(events.c.state.in_(_STEPS), ~told, end)


def _done_since(connection: Connection, run: int | None, start: float) -> dict[str, dict[str, float]]:
    """Work of each stage since `start`: sums, the number of reports, and when the reported work began."""
    names = ("documents", "chunks", "tokens", "bytes")
    columns = [throughput.c.stage, func.count(), func.min(throughput.c.since), *(func.sum(throughput.c[name]) for name in names)]
    wanted = [throughput.c.at > start, *([throughput.c.run == run] if run is not None else [])]
    found: dict[str, dict[str, float]] = {stage: {"since": start, **dict.fromkeys(("reports", *names), 0)} for stage in Stage}
    for stage, reports, since, *sums in connection.execute(select(*columns).where(*wanted).group_by(throughput.c.stage)):
        values = (float(value) for value in sums)
        found[stage] = {"since": max(start, since), "reports": reports, **dict(zip(names, values, strict=True))}
    return found


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
