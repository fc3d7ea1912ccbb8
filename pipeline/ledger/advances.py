"""How far documents are that a worker has in hand, and how fast the stages are: written with heartbeats and results.

The two tables are here, next to the only code that writes them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, Connection, Float, ForeignKey, Index, Integer, Row, String, Table, func, select

from pipeline.ledger.schema import documents, leases, metadata, upsert
from pipeline.types import Stage

if TYPE_CHECKING:
    from pipeline.ledger.work import Claim

advances = Table(
    "advances",
    metadata,
    # How far a document is in the stage in which a worker has it, where that takes more than a few seconds. A row counts while its
    # lease holds the document, and goes with the lease.
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
    # What a claim came to since it was last reported on; forgotten with the events.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("since", Float, nullable=False),  # the last report, or the start of the claim
    Column("run", Integer, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("documents", Integer, nullable=False),  # that are through the stage
    Column("chunks", Integer, nullable=False),  # parsed; in the embed stage, embedded
    Column("tokens", BigInteger, nullable=False),  # of the chunks that were parsed, or are in the store
    Column("bytes", BigInteger, nullable=False),  # of files, parsed
    Index("throughput_at", "at"),
)


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a document is in its stage."""

    document: str  #: id
    chunks: int  #: made by the parser; in the embed stage, in the store
    tokens: int  #: of these chunks
    embedded: int = 0  #: of these chunks, embedded under this claim; the others were in the store already
    bytes: int = 0  #: of the file, read by the parser; 0 where it does not know


@dataclass(frozen=True, slots=True)
class InWork:
    """A document that is part of the way through a stage."""

    state: str
    parsed_chunks: int  #: of its chunk file; 0, like its tokens, while it is parsed for the first time
    parsed_tokens: int
    chunks: int  #: as in Advance, like the following
    tokens: int
    bytes: int


def reported_at(connection: Connection, lease: str) -> float:
    """When a lease was last reported on, or taken; now where it is gone."""
    at = func.coalesce(leases.c.moved_at, leases.c.started_at)
    return float(connection.execute(select(at).where(leases.c.id == lease)).scalar() or time.time())


def record(connection: Connection, claim: Claim, since: float, reached: Sequence[Advance], *, done: bool = False) -> int:
    """Record how far documents are that the claim holds; return how many of their chunks were embedded since the last record.

    `since` is when the claim was last reported on. With `done` the documents are through the stage; the caller has made sure that
    the claim held them. What was recorded before is taken off, so that nothing counts twice at a document's end.
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

#: Fields of an Advance that only go up.
_GAINED = ("chunks", "tokens", "embedded", "bytes")


def _gained(reached: Advance, before: Row[Any] | None) -> Counter[str]:
    """What came on top of an earlier record; a parser that begins again, after a crash, gains nothing until it is further."""
    return Counter({name: max(0, getattr(reached, name) - (getattr(before, name) if before else 0)) for name in _GAINED})


def _keep(connection: Connection, lease: str, reached: Sequence[Advance]) -> None:
    if not reached:
        return
    statement = upsert(connection, advances)
    values = {name: statement.excluded[name] for name in ("lease", *_GAINED)}
    statement = statement.on_conflict_do_update(index_elements=[advances.c.document], set_=values)
    connection.execute(statement, [{**asdict(one), "lease": lease} for one in reached])


def in_work(connection: Connection, run: int | None = None, collection: str | None = None) -> list[InWork]:
    """Documents that are part of the way through a stage; of a run, of a collection, or all."""
    rows = {row.document: row for row in connection.execute(select(advances))}
    columns = [documents.c[name] for name in ("id", "lease", "state", "run", "collection", "parsed_chunks", "parsed_tokens")]
    # By id alone, and sorted out here: these are few, and SQLite would rather look through all documents of the run.
    there = connection.execute(select(*columns).where(documents.c.id.in_(list(rows)))).all() if rows else []
    found = [(row, rows[row.id]) for row in there if run in (None, row.run) and collection in (None, row.collection)]
    return [
        InWork(row.state, row.parsed_chunks, row.parsed_tokens, reached.chunks, reached.tokens, reached.bytes)
        for row, reached in found
        if row.lease == reached.lease
    ]
