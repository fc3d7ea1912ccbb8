"""Progress of the documents that workers hold, and throughput of the stages, written with heartbeats and results.

The two tables are here, next to the only code that writes them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Float, ForeignKey, Index, Integer, Row, String, Table, func, select

from pipeline.ledger.claims import Claim
from pipeline.ledger.schema import documents, leases, metadata, upsert
from pipeline.types import Stage

advances = Table(
    "advances",
    metadata,
    # Progress of a document in the stage in which a worker holds it, if that takes more than a few seconds. A row is valid while
    # its lease holds the document, and is deleted with the lease.
    Column("document", String(36), primary_key=True),
    Column("lease", String(36), ForeignKey("leases.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("chunks", Integer, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("embedded", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)

throughput = Table(
    "throughput",
    metadata,
    # Progress of a claim since it was last reported on; deleted together with the events.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("since", Float, nullable=False),  # the last report, or the start of the claim
    Column("run", Integer, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("documents", Integer, nullable=False),  # documents that completed the stage
    Column("chunks", Integer, nullable=False),  # parsed; in the embed stage, embedded
    Column("tokens", BigInteger, nullable=False),  # tokens of the chunks that were parsed, or are in the store
    Column("bytes", BigInteger, nullable=False),  # bytes of files that were parsed
    Index("throughput_at", "at"),
)


@dataclass(frozen=True, slots=True)
class Advance:
    """Progress of a document in its stage."""

    document: str  #: id
    chunks: int  #: made by the parser; in the embed stage, in the store
    tokens: int  #: tokens of these chunks
    embedded: int = 0  #: chunks embedded under this claim; the others were in the store already
    bytes: int = 0  #: bytes of the file read by the parser; 0 if unknown


@dataclass(frozen=True, slots=True)
class InWork:
    """A document in progress in a stage."""

    state: str
    parsed_chunks: int  #: chunks of its chunk file; 0, like its tokens, while it is parsed for the first time
    parsed_tokens: int
    chunks: int  #: as in Advance; so are the next fields
    tokens: int
    bytes: int


def reported_at(connection: Connection, lease: str) -> float:
    """Time at which a lease was last reported on, or taken; the current time if the lease is gone."""
    at = func.coalesce(leases.c.moved_at, leases.c.started_at)
    return float(connection.execute(select(at).where(leases.c.id == lease)).scalar() or time.time())


def record(connection: Connection, claim: Claim, since: float, reached: Sequence[Advance], *, done: bool = False) -> int:
    """Record the progress of the claim's documents; return how many of their chunks were embedded since the last record.

    `since` is when the claim was last reported on. With `done`, the documents have completed the stage, and the caller has made
    sure that the claim held them. Earlier records are subtracted, so that nothing counts twice when a document is finished.
    """
    ids = [one.document for one in reached]
    mine = (advances.c.document.in_(ids), advances.c.lease == claim.lease)
    before = {row.document: row for row in connection.execute(select(advances).where(*mine))}
    if not done:
        held = select(documents.c.id).where(documents.c.id.in_(ids), documents.c.lease == claim.lease)
        ours = set(connection.execute(held).scalars())
        reached = [one for one in reached if one.document in ours]
        _keep(connection, claim.lease, reached)
    runs = {document.id: document.run for document in claim.documents}
    sums: dict[int, Counter[str]] = {}
    embedded = 0
    for one in reached:
        gained = _gained(one, before.get(one.document))
        embedded += gained["embedded"]
        if claim.stage is Stage.EMBED:  # chunks that were in the store already take no time
            gained["chunks"] = gained["embedded"]
        sums.setdefault(runs[one.document], Counter(documents=0)).update(gained, documents=int(done))
    now = time.time()
    rows = [
        {"at": now, "since": since, "run": run, "stage": claim.stage, **{name: total[name] for name in _SUMMED}}
        for run, total in sorted(sums.items())
    ]
    if rows:
        connection.execute(throughput.insert(), rows)
    return embedded


#: Columns of `throughput` that are sums.
_SUMMED = ("documents", "chunks", "tokens", "bytes")

#: Fields of an Advance that only increase.
_GAINED = ("chunks", "tokens", "embedded", "bytes")


def _gained(reached: Advance, before: Row[Any] | None) -> Counter[str]:
    """Gain since an earlier record; a parser that starts over after a crash gains nothing until it passes that record."""
    return Counter({name: max(0, getattr(reached, name) - (getattr(before, name) if before else 0)) for name in _GAINED})


def _keep(connection: Connection, lease: str, reached: Sequence[Advance]) -> None:
    if not reached:
        return
    statement = upsert(connection, advances)
    values = {name: statement.excluded[name] for name in ("lease", *_GAINED)}
    statement = statement.on_conflict_do_update(index_elements=[advances.c.document], set_=values)
    connection.execute(statement, [{**asdict(one), "lease": lease} for one in reached])


def in_work(connection: Connection, run: int | None = None, collection: str | None = None) -> list[InWork]:
    """Documents in progress in a stage: of a run, of a collection, or all."""
    rows = {row.document: row for row in connection.execute(select(advances))}
    columns = [documents.c[name] for name in ("id", "lease", "state", "run", "collection", "parsed_chunks", "parsed_tokens")]
    # Selected by id and filtered here: these are few, and with more conditions SQLite would scan all documents of the run.
    there = connection.execute(select(*columns).where(documents.c.id.in_(list(rows)))).all() if rows else []
    found = [(row, rows[row.id]) for row in there if run in (None, row.run) and collection in (None, row.collection)]
    return [
        InWork(
            state=row.state,
            parsed_chunks=row.parsed_chunks,
            parsed_tokens=row.parsed_tokens,
            chunks=reached.chunks,
            tokens=reached.tokens,
            bytes=reached.bytes,
        )
        for row, reached in found
        if row.lease == reached.lease
    ]
