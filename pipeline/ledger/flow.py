"""The dispatcher's part of the ledger: forms batches of documents, and takes back lost batches and dead leases."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, and_, case, delete, func, or_, select, update

from pipeline.ledger.measures import QUARANTINES, count
from pipeline.ledger.schema import documents, leases, reading, workers, writing
from pipeline.telemetry.counters import COUNT, Key
from pipeline.types import OPEN_STATES, RUN, SCHEDULE, DocumentState, Reason, Stage

#: Documents in the first batch for the parse stage while nothing is in flight; each of the next ones has up to twice as many.
FIRST_DOCUMENTS = 4


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents in one message."""

    id: str
    stage: Stage
    document_ids: tuple[str, ...]
    runs: tuple[int, ...] = ()  #: runs that brought them, in order; only for people

    def __str__(self) -> str:
        """The work, human-readable: `parse 64 documents of run 12`."""
        count = len(self.document_ids)
        text = f"{self.stage} {count} {'document' if count == 1 else 'documents'}"
        if not self.runs:
            return text
        return f"{text} of {'run' if len(self.runs) == 1 else 'runs'} {', '.join(map(str, self.runs))}"


#: The measure of leases that were taken back because their owners did not end them, by stage.
EXPIRIES = "lease_expiries"


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim as the dispatcher sees it."""

    id: str
    beat: int  #: changes between two looks while its owner makes progress
    owner: str
    stage: str  #: a Stage, SCHEDULE or RUN

    @property
    def of_documents(self) -> bool:
        """Whether it holds documents."""
        return self.stage not in (SCHEDULE, RUN)


class Flow:
    """Batches and leases."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def in_flight(self, enough: int) -> int:
        """Number of documents that are queued, in progress, or parsed and not embedded yet; of the last, at most `enough`."""
        # Each by its own index: a million rows may be waiting to be parsed, and none of them is read.
        queued = select(documents.c.id).where(documents.c.state.in_(OPEN_STATES), documents.c.batch.is_not(None))
        held = select(documents.c.id).where(documents.c.lease.is_not(None), documents.c.batch.is_(None))
        parsed = select(documents.c.id).where(
            documents.c.state == DocumentState.PARSED, documents.c.batch.is_(None), documents.c.lease.is_(None)
        )
        counted = [select(func.count()).select_from(rows.subquery()) for rows in (queued, held, parsed.limit(enough))]
        with reading(self._engine) as connection:
            return sum(int(connection.execute(number).scalar_one()) for number in counted)

    def unqueued(self, stage: Stage) -> int:
        """Number of documents that wait for a stage and are in no message."""
        statement = select(func.count()).where(
            documents.c.state == stage.waiting, documents.c.batch.is_(None), documents.c.lease.is_(None)
        )
        with reading(self._engine) as connection:
            return int(connection.execute(statement).scalar_one())

    def take(
        self, stage: Stage, *, documents_max: int, batch_documents: int, batch_bytes: int, spread: int = 1, in_flight: int = 0
    ) -> list[Batch]:
        """Form batches of up to `documents_max` waiting documents and mark them as queued; return the batches to send.

        Small documents of a collection share a batch; there are at least `spread` batches if there are enough documents. The
        first batches for the parse stage are smaller while little is `in_flight`, so that the embed stage does not wait long
        for its first work. A document whose worker died before gets its own batch, so that it cannot fail others. Two dispatchers
        never take the same document: it is marked in the transaction that selects it.
        """
        with writing(self._engine) as connection:
            rows = connection.execute(
                select(documents.c.id, documents.c.collection, documents.c.size, documents.c.starts, documents.c.run)
                .where(documents.c.state == stage.waiting, documents.c.batch.is_(None), documents.c.lease.is_(None))
                .limit(documents_max)
                .with_for_update(skip_locked=True)
            ).all()
            most = max(1, min(batch_documents, -(-len(rows) // spread)))
            least = max(FIRST_DOCUMENTS, in_flight) if stage is Stage.PARSE else most
            batches = _batches(stage, [tuple(row) for row in rows], most, batch_bytes, least)
            for batch in batches:
                connection.execute(update(documents).where(documents.c.id.in_(batch.document_ids)).values(batch=batch.id))
        return batches

    def queued(self) -> dict[str, Stage]:
        """Batches that were sent and that no worker has claimed yet, with their stage."""
        found: dict[str, Stage] = {}
        with reading(self._engine) as connection:
            for stage in Stage:
                rows = connection.execute(
                    select(documents.c.batch)
                    .where(documents.c.state == stage.waiting, documents.c.batch.is_not(None), documents.c.lease.is_(None))
                    .distinct()
                )
                found.update((row[0], stage) for row in rows)
        return found

    def unqueue(self, batch_ids: Sequence[str]) -> int:
        """Mark the documents of these batches as not sent, so that they are sent again; return how many documents."""
        if not batch_ids:
            return 0
        with writing(self._engine) as connection:
            return connection.execute(
                update(documents)
                .where(
                    documents.c.state.in_([stage.waiting for stage in Stage]),
                    documents.c.batch.in_(batch_ids),
                    documents.c.lease.is_(None),
                )
                .values(batch=None)
            ).rowcount

    def leases(self) -> list[Lease]:
        """All claims that are held."""
        with reading(self._engine) as connection:
            return [Lease(*row) for row in connection.execute(select(leases.c.id, leases.c.beat, leases.c.owner, leases.c.stage))]

    def expire(self, lease: Lease, max_starts: int) -> int:
        """Take back a lease that has not moved since `lease` was read; return how many documents were freed.

        They wait again, and this counts as an attempt; after `max_starts` attempts they are quarantined as worker_lost.
        Nothing happens if the owner has made progress in the meantime.
        """
        with writing(self._engine) as connection:
            still = select(leases.c.id).where(leases.c.id == lease.id, leases.c.beat == lease.beat).with_for_update()
            if connection.execute(still).first() is None:
                return 0
            # Before the lease is deleted: the trigger that records the owner of the documents reads it.
            freed, lost = charge(connection, lease.id, max_starts, f"its worker died: {lease.owner}")
            connection.execute(delete(leases).where(leases.c.id == lease.id))
            count(connection, {(EXPIRIES, lease.stage, COUNT): 1, **lost})
            return freed

    def free_owner(self, worker: str, max_starts: int | None) -> int:
        """Take back all leases of a worker's processes, which are known to be dead; return how many documents were freed.

        With `max_starts`, this counts as an attempt, because the worker died by itself. Without it, the worker was told to stop
        and the attempt does not count.
        """
        freed, charged = 0, Counter[Key]()
        with writing(self._engine) as connection:
            rows = connection.execute(
                select(leases.c.id, leases.c.owner, leases.c.stage).where(leases.c.owner.startswith(f"{worker}/", autoescape=True))
            )
            for lease, owner, stage in rows.all():
                if max_starts is None:
                    freed += refund(connection, lease)
                else:
                    number, lost = charge(connection, lease, max_starts, f"its worker died: {owner}")
                    freed += number
                    charged.update({(EXPIRIES, stage, COUNT): 1, **lost})
                connection.execute(delete(leases).where(leases.c.id == lease))
            count(connection, charged)
        return freed

    def begin_again(self) -> int:
        """End every lease and make every document wait that was queued or in work; return how many were in work.

        For a ledger that was restored from a backup: the processes that it names are not its own. No attempt is counted.
        """
        with writing(self._engine) as connection:
            held = list(connection.execute(select(leases.c.id)).scalars())
            freed = sum(refund(connection, lease) for lease in held)
            connection.execute(delete(leases))
            connection.execute(delete(workers))
            connection.execute(update(documents).where(documents.c.batch.is_not(None)).values(batch=None))
        return freed

    def free_strays(self) -> int:
        """Free documents marked as in progress under a lease that no longer exists; return how many.

        Transactions prevent such rows, but a ledger restored from a backup may contain them.
        """
        with writing(self._engine) as connection:
            back = case((documents.c.state == DocumentState.PARSING, DocumentState.PENDING), else_=DocumentState.PARSED)
            return connection.execute(
                update(documents)
                .where(
                    and_(
                        documents.c.state.in_((DocumentState.PARSING, DocumentState.EMBEDDING)),
                        or_(documents.c.lease.is_(None), documents.c.lease.not_in(select(leases.c.id))),
                    )
                )
                .values(state=back, lease=None, batch=None, updated_at=time.time())
            ).rowcount


def charge(connection: Connection, lease: str, max_starts: int, detail: str) -> tuple[int, dict[Key, int]]:
    """Free a lease's documents, counting the attempt; return how many, and the counts to add at the transaction's end.

    After `max_starts` attempts they are quarantined as worker_lost; before that, they wait with the same reason and detail, for
    people.
    """
    spent = documents.c.starts >= max_starts
    held = documents.c.lease == lease
    lost = connection.execute(select(func.count()).select_from(documents).where(held, spent)).scalar_one()
    back = case((documents.c.state == DocumentState.PARSING, DocumentState.PENDING), else_=DocumentState.PARSED)
    freed = connection.execute(
        update(documents)
        .where(held)
        .values(
            state=case((spent, DocumentState.QUARANTINED), else_=back),
            reason=Reason.WORKER_LOST, detail=detail[:2000],
            lease=None, batch=None, updated_at=time.time(),
        )
    ).rowcount  # fmt: skip
    return freed, {(QUARANTINES, Reason.WORKER_LOST.value, COUNT): lost} if lost else {}


def refund(connection: Connection, lease: str, why: str = "") -> int:
    """Free a lease's documents without counting the attempt; return how many. `why` stays with them until the next attempt."""
    back = case((documents.c.state == DocumentState.PARSING, DocumentState.PENDING), else_=DocumentState.PARSED)
    fewer = case((documents.c.starts > 0, documents.c.starts - 1), else_=0)
    return connection.execute(
        update(documents)
        .where(documents.c.lease == lease)
        .values(state=back, lease=None, batch=None, starts=fewer, detail=why[:2000] or None, updated_at=time.time())
    ).rowcount


def _batches(stage: Stage, rows: Sequence[tuple[str, str, int, int, int]], most: int, most_bytes: int, least: int) -> list[Batch]:
    """Group (id, collection, size, starts, run) rows, of which groups have up to `least`, then twice as many, up to `most`."""
    groups: list[list[str]] = []
    filling: dict[str, tuple[list[str], int]] = {}
    for key, collection, size, starts, _ in rows:
        if starts:
            groups.append([key])
            continue
        group, filled = filling.get(collection, ([], 0))
        if group and (len(group) >= min(most, least << min(len(groups) - 1, 16)) or filled + size > most_bytes):
            group, filled = [], 0
        if not group:
            groups.append(group)
        group.append(key)
        filling[collection] = (group, filled + size)
    run_of = {row[0]: row[4] for row in rows}
    return [Batch(str(uuid.uuid4()), stage, tuple(group), tuple(sorted({run_of[key] for key in group}))) for group in groups]
