"""Records of one run: the events of its documents, their names, and the lengths of its chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row, func, select

from pipeline.ledger.intake import ID_WINDOW
from pipeline.ledger.schema import documents, events, measures, reading
from pipeline.telemetry.counters import CHUNK_LIMIT, CHUNK_TOKENS
from pipeline.types import DocumentState

#: Rows fetched at a time: a run may have a million events.
FETCH = 5000


@dataclass(frozen=True, slots=True)
class EventRange:
    """Period covered by events."""

    oldest: float | None  #: time of the oldest event that still exists, of any run
    last: float | None  #: time of this run's last event
    events: int  #: number of this run's events


@dataclass(frozen=True, slots=True)
class Step:
    """The fields of an event that the report of a run needs."""

    document: str  #: id
    at: float
    state: str
    reason: str
    detail: str
    size: int  #: bytes; this and the following are 0 unless the document became searchable
    chunks: int
    embedded: int
    tokens: int
    parse_s: float
    embed_s: float


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """A document's names and its current state."""

    id: str
    uri: str
    title: str
    state: str
    reason: str
    detail: str
    updated_at: float


class Retrospect:
    """Queries about one run."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def span(self, run: int) -> EventRange:
        """Period covered by events."""
        with reading(self._engine) as connection:
            oldest = connection.execute(select(events.c.at).order_by(events.c.id).limit(1)).scalar()
            # Counted from the index alone; then one row is read, because the time of an event is in its row.
            newest, count = connection.execute(select(func.max(events.c.id), func.count()).where(events.c.run == run)).one()
            last = connection.execute(select(events.c.at).where(events.c.id == newest)).scalar()
        return EventRange(oldest, last, count)

    def steps(self, run: int, until: float = float("inf")) -> Iterator[Step]:
        """A run's events, or those up to a time, by document and in order; memory does not grow with their number."""
        names = list(Step.__dataclass_fields__)
        statement = (
            select(*(events.c[name] for name in names))
            .where(events.c.run == run, events.c.at <= until)
            .order_by(events.c.document, events.c.id)
            .execution_options(yield_per=FETCH)
        )
        with reading(self._engine) as connection:
            for row in connection.execute(statement):
                yield Step(row[0], row[1], row[2], row[3] or "", row[4] or "", *(value or 0 for value in row[5:]))

    def names(self, ids: Sequence[str]) -> dict[str, DocumentRecord]:
        """Documents by id; those that are no longer in the ledger are left out."""
        found: dict[str, DocumentRecord] = {}
        columns = [documents.c[name] for name in DocumentRecord.__dataclass_fields__]
        with reading(self._engine) as connection:
            for start in range(0, len(ids), ID_WINDOW):
                window = ids[start : start + ID_WINDOW]
                for row in connection.execute(select(*columns).where(documents.c.id.in_(window))):
                    found[row.id] = _named(row)
        return found

    def refused(self, run: int, until: float) -> Iterator[DocumentRecord]:
        """Documents of a run that were quarantined or skipped by `until`, including those it found in that state."""
        columns = [documents.c[name] for name in DocumentRecord.__dataclass_fields__]
        statement = (
            select(*columns)
            .where(
                documents.c.run == run, documents.c.state.in_((DocumentState.QUARANTINED, DocumentState.SKIPPED)),
                documents.c.updated_at <= until,
            )
            .execution_options(yield_per=FETCH)
        )  # fmt: skip
        with reading(self._engine) as connection:
            for row in connection.execute(statement):
                yield _named(row)

    def lengths(self, run: int) -> tuple[dict[str, int], int]:
        """Chunks of a run by upper bound of their number of tokens, and the model's limit, 0 if unknown."""
        wanted = (measures.c.metric.in_((CHUNK_TOKENS, CHUNK_LIMIT)), measures.c.label == str(run))
        columns = (measures.c.metric, measures.c.bound, measures.c.value)
        with reading(self._engine) as connection:
            rows = connection.execute(select(*columns).where(*wanted)).all()
        limits = [int(bound) for metric, bound, _ in rows if metric == CHUNK_LIMIT]
        return {bound: int(value) for metric, bound, value in rows if metric == CHUNK_TOKENS}, max(limits, default=0)


def _named(row: Row[Any]) -> DocumentRecord:
    return DocumentRecord(
        id=row.id,
        uri=row.uri,
        title=row.title,
        state=row.state,
        reason=row.reason or "",
        detail=row.detail or "",
        updated_at=row.updated_at,
    )
