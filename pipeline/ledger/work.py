"""What workers do in the ledger: claim documents, show progress, record results."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from sqlalchemy import Connection, Engine, and_, bindparam, case, delete, select, update

from pipeline.errors import LeaseLost
from pipeline.ledger.advances import Advance, record, reported_at
from pipeline.ledger.claims import Claim, ClaimedDocument
from pipeline.ledger.fields import record as record_values
from pipeline.ledger.flow import charge, refund
from pipeline.ledger.losses import record as record_losses
from pipeline.ledger.losses import record_left_out
from pipeline.ledger.measures import QUARANTINES, count, put
from pipeline.ledger.schema import collections, documents, leases, reading, workers, writing
from pipeline.telemetry.counters import COUNT, Measured
from pipeline.text import plural
from pipeline.types import DocumentState, Loss, MetadataValue, Reason, Stage


@dataclass(frozen=True, slots=True)
class Lender:
    """A document whose vectors serve another one too."""

    id: str
    physical: str  #: the physical collection that has its points; empty: unknown, that of the borrower


@dataclass(frozen=True, slots=True)
class ParsedResult:
    """The outcome of the parse stage for one document."""

    id: str
    title: str
    media_type: str
    parse_fingerprint: str
    tokens: int = 0  #: of its chunks
    seconds: float = 0.0  #: that the parser took; 0 where the chunk file was there
    chunks: int = 0
    losses: tuple[Loss, ...] = ()  #: what did not become text
    properties: Mapping[str, str] = field(default_factory=dict)  #: the document's own fields


@dataclass(frozen=True, slots=True)
class IndexedResult:
    """The outcome of the embed stage for one document."""

    id: str
    content_hash: str
    parse_fingerprint: str
    embed_fingerprint: str
    chunks: int  #: points the store now holds for it
    embedded: int  #: of them, embedded this time
    tokens: int = 0  #: of its chunks
    seconds: float = 0.0  #: its share of the time of the stage
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)  #: as it is stored
    left_out: tuple[tuple[str, str], ...] = ()  #: fields of metadata that are not, and why


#: What a claim reads of a document, and what decides whether it is free.
_CLAIMED = [documents.c[name] for name in ClaimedDocument.__dataclass_fields__]
_CONDITIONS = (documents.c.state, documents.c.lease, documents.c.starts, documents.c.updated_at)


def _take(connection: Connection, stage: Stage, lease: str, free: Sequence[Any]) -> tuple[ClaimedDocument, ...]:
    """Put the documents of free rows under a lease, charging each an attempt."""
    taken = tuple(ClaimedDocument(*row[: len(_CLAIMED)]) for row in free)
    if taken:
        connection.execute(
            update(documents)
            .where(documents.c.id.in_([document.id for document in taken]))
            .values(
                state=stage.running, lease=lease, starts=documents.c.starts + 1, dirty=0, reason=None, detail=None,
                updated_at=time.time(),
            )
        )  # fmt: skip
    return taken


def _waited(measured: Measured | None, stage: Stage, rows: Sequence[Any]) -> None:
    """Count how long documents have waited for a stage."""
    if measured is not None:
        now = time.time()
        for row in rows:
            measured.observe("wait_seconds", stage, max(0.0, now - row.updated_at))


class Work:
    """Claims and results; every write is fenced by the lease."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def claim(self, stage: Stage, ids: Sequence[str], owner: str, measured: Measured | None = None) -> Claim:
        """Take those of `ids` that wait for `stage`, charging each a start; committed before this returns.

        How long they waited goes into `measured`, which is not written down by this.

        A claim may come back empty: the message was delivered twice, or its documents have changed since. One whose worker
        died is only taken alone: a message that is delivered again would otherwise take its companions along once more.
        """
        lease = str(uuid.uuid4())
        with writing(self._engine) as connection:
            # By id alone, or SQLite would rather look through all documents that wait. Locked in one order by everybody.
            rows = connection.execute(
                select(*_CLAIMED, *_CONDITIONS).where(documents.c.id.in_(ids)).order_by(documents.c.id).with_for_update()
            ).all()
            free = [
                row for row in rows
                if row.state == stage.waiting and row.lease is None and (row.starts == 0 or len(ids) == 1)
            ]  # fmt: skip
            if free:
                # First, as the trigger that writes down whose the documents are looks it up.
                connection.execute(leases.insert().values(id=lease, stage=stage, owner=owner, beat=0, started_at=time.time()))
            taken = _take(connection, stage, lease, free)
        _waited(measured, stage, free)
        return Claim(lease, stage, taken)

    def more(self, claim: Claim, tokens: int, documents_max: int, measured: Measured | None = None) -> tuple[ClaimedDocument, ...]:
        """Add to a claim on the embed stage: documents of its collection that wait, up to these numbers; return them.

        The longest-waiting ones come first, at least one if there is any. What a worker died of is not among them, and takes no
        companions either. `measured` as in `claim`. Raises LeaseLost.
        """
        with writing(self._engine) as connection:
            if connection.execute(select(leases.c.id).where(leases.c.id == claim.lease).with_for_update()).first() is None:
                raise LeaseLost(f"the lease on {plural(len(claim.documents), 'document')} was taken back")
            held = select(documents.c.id).where(documents.c.lease == claim.lease)
            if connection.execute(held.where(documents.c.starts > 1).limit(1)).first() is not None:
                return ()
            rows = connection.execute(
                select(*_CLAIMED, *_CONDITIONS, documents.c.parsed_tokens)
                .where(
                    documents.c.state == claim.stage.waiting, documents.c.collection == claim.documents[0].collection,
                    documents.c.lease.is_(None), documents.c.starts == 0,
                )
                .order_by(documents.c.updated_at)
                .limit(documents_max)
                .with_for_update(skip_locked=True)
            ).all()  # fmt: skip
            before = accumulate((row.parsed_tokens for row in rows), initial=0)
            free = [row for row, reached in zip(rows, before, strict=False) if reached < tokens]
            taken = _take(connection, claim.stage, claim.lease, free)
        _waited(measured, claim.stage, free)
        return taken

    def beat(self, claim: Claim, measured: Measured | None = None, reached: Sequence[Advance] = ()) -> None:
        """Show progress, and record how far documents are.

        Raises LeaseLost when the lease was taken back or nothing of it is left.
        """
        with self._writing(measured) as connection:
            since = reported_at(connection, claim.lease) if reached else 0.0
            moved = connection.execute(
                update(leases).where(leases.c.id == claim.lease).values(beat=leases.c.beat + 1, moved_at=time.time())
            ).rowcount
            if moved and reached and (embedded := record(connection, claim, since, reached)):
                count(connection, {("indexed", "embedded", COUNT): embedded})
        if not moved:
            raise LeaseLost(f"the lease on {len(claim.documents)} documents was taken back")

    def still_held(self, claim: Claim) -> set[str]:
        """The documents that this claim still holds; one that was loaded again in the meantime is not among them."""
        with reading(self._engine) as connection:
            return {row[0] for row in connection.execute(select(documents.c.id).where(documents.c.lease == claim.lease))}

    def parsed(
        self, claim: Claim, results: Sequence[ParsedResult], batch: str | None = None, measured: Measured | None = None
    ) -> set[str]:
        """Record parsed documents, queued for the embed stage under `batch`; return the ids that were still ours."""
        names = ("title", "media_type", "parse_fingerprint", "parsed_tokens", "parsed_chunks", "parse_s", "properties")
        rows = [
            {
                "key": result.id, "title": result.title, "media_type": result.media_type,
                "parse_fingerprint": result.parse_fingerprint, "parsed_tokens": result.tokens, "parsed_chunks": result.chunks,
                "parse_s": result.seconds,
                "properties": json.dumps(result.properties, sort_keys=True) if result.properties else "",
            }
            for result in results
        ]  # fmt: skip
        sizes = {document.id: document.size for document in claim.documents}
        with self._writing(measured) as connection:
            kept = self._end_all(connection, claim, rows, names, state=DocumentState.PARSED, batch=batch, starts=0)
            record_losses(connection, {one.id: one.losses for one in results if one.id in kept})
            through = [Advance(one.id, one.chunks, one.tokens, bytes=sizes[one.id]) for one in results if one.id in kept]
            record(connection, claim, reported_at(connection, claim.lease), through, done=True)
        return kept

    def indexed(self, claim: Claim, results: Sequence[IndexedResult], measured: Measured | None = None) -> set[str]:
        """Record indexed documents; return the ids that were still ours."""
        names = ("indexed_hash", "indexed_parse", "indexed_embed", "chunks", "embedded", "tokens", "embed_s", "metadata")
        rows = [
            {
                "key": result.id, "indexed_hash": result.content_hash, "indexed_parse": result.parse_fingerprint,
                "indexed_embed": result.embed_fingerprint, "chunks": result.chunks, "embedded": result.embedded,
                "tokens": result.tokens, "embed_s": result.seconds,
                "metadata": json.dumps(dict(result.metadata), sort_keys=True) if result.metadata else "",
            }
            for result in results
        ]  # fmt: skip
        # Dirty: somebody wrote to the document's points while we did. Look again instead of believing our count.
        state = case((documents.c.dirty == 1, DocumentState.PARSED), else_=DocumentState.INDEXED)
        with self._writing(measured) as connection:
            kept = self._end_all(connection, claim, rows, names, state=state, batch=None, starts=0, reason=None, detail=None)
            sizes = {document.id: document.size for document in claim.documents}
            done = [result for result in results if result.id in kept]
            if done:
                record_values(connection, claim.documents[0].collection, {one.id: one.metadata for one in done})
                record_left_out(connection, {one.id: one.left_out for one in done})
            through = [Advance(one.id, one.chunks, one.tokens, one.embedded) for one in done]
            embedded = record(connection, claim, reported_at(connection, claim.lease), through, done=True)
            figures = {
                "documents": len(done), "chunks": sum(result.chunks for result in done), "embedded": embedded,
                "tokens": sum(result.tokens for result in done), "bytes": sum(sizes[result.id] for result in done),
            }  # fmt: skip
            count(connection, {("indexed", name, COUNT): number for name, number in figures.items() if number})
        return kept

    def fail(self, claim: Claim, document: str, reason: Reason, detail: str) -> bool:
        """Record that a document is skipped or quarantined; its old version, if any, stays searchable.

        Returns whether it was still ours; where it was not, nothing has changed.
        """
        state = DocumentState.SKIPPED if reason.skips else DocumentState.QUARANTINED
        with writing(self._engine) as connection:
            ours = self._end(connection, claim, document, state=state, batch=None, reason=reason, detail=detail[:2000])
            if ours and state is DocumentState.QUARANTINED:
                count(connection, {(QUARANTINES, reason.value, COUNT): 1})
        return ours

    def send_back(self, claim: Claim, documents_back: Sequence[str], state: DocumentState) -> None:
        """Return documents to an earlier state without a charge, to be queued again."""
        with writing(self._engine) as connection:
            for document in documents_back:
                self._end(connection, claim, document, state=state, batch=None, starts=0)

    def release(self, claim: Claim, why: str = "", measured: Measured | None = None) -> None:
        """End a claim: what is left of it waits again, and its start is given back; `why` is for people.

        With what was `measured` the work has come to its end: nothing keeps its worker from it, whichever process said so.
        """
        with self._writing(measured) as connection:
            refund(connection, claim.lease, why)
            connection.execute(delete(leases).where(leases.c.id == claim.lease))
            if measured is not None:
                complains = and_(workers.c.name == measured.worker, workers.c.note != "")
                connection.execute(update(workers).where(complains).values(note=""))

    def give_up(self, claim: Claim, max_starts: int, detail: str) -> None:
        """End a claim after an error that nobody foresaw: the start stays charged, so that it cannot go on for ever."""
        with writing(self._engine) as connection:
            _, lost = charge(connection, claim.lease, max_starts, detail)
            connection.execute(delete(leases).where(leases.c.id == claim.lease))
            count(connection, lost)

    @contextmanager
    def _writing(self, measured: Measured | None) -> Iterator[Connection]:
        """A transaction that also writes down what was counted."""
        with writing(self._engine) as connection:
            yield connection
            if measured is not None:
                put(connection, measured)
        if measured is not None:
            measured.clear()

    @staticmethod
    def _end_all(
        connection: Connection, claim: Claim, rows: Sequence[dict[str, Any]], names: Sequence[str], **values: object
    ) -> set[str]:
        """End those of `rows` that the claim still holds, in one statement; return their ids.

        A row is the document's id as `key` and what differs from document to document under `names`.
        """
        if not rows:
            return set()
        ours = documents.c.lease == claim.lease
        held = set(connection.execute(select(documents.c.id).where(ours).order_by(documents.c.id).with_for_update()).scalars())
        mine = [row for row in rows if row["key"] in held]
        if mine:
            each: dict[str, Any] = {name: bindparam(name) for name in names}
            connection.execute(
                update(documents)
                .where(documents.c.id == bindparam("key"), ours)
                .values(lease=None, updated_at=time.time(), **values, **each),
                mine,
            )
        return {row["key"] for row in mine}

    @staticmethod
    def _end(connection: object, claim: Claim, document: str, **values: object) -> bool:
        statement = (
            update(documents)
            .where(documents.c.id == document, documents.c.lease == claim.lease)
            .values(lease=None, updated_at=time.time(), **values)
        )
        return bool(connection.execute(statement).rowcount)  # type: ignore[attr-defined]

    def recheck(self, ids: Sequence[str]) -> set[str]:
        """Have documents' points compared again that a worker may have written to after losing its lease.

        Returns those that are gone: marked as deleted meanwhile, or forgotten; their points are nobody's.
        """
        with writing(self._engine) as connection:
            ours = documents.c.id.in_(ids)
            rows = select(documents.c.id).where(ours, documents.c.state != DocumentState.DELETED)
            there = set(connection.execute(rows).scalars())
            connection.execute(update(documents).where(ours, documents.c.state == DocumentState.EMBEDDING).values(dirty=1))
            connection.execute(
                update(documents)
                .where(ours, documents.c.state == DocumentState.INDEXED)
                .values(state=DocumentState.PARSED, batch=None, lease=None, starts=0, updated_at=time.time())
            )
        return set(ids) - there

    def lenders(self, borrowers: Sequence[ClaimedDocument], embed_fingerprint: str) -> dict[str, Lender]:
        """Id -> another document that is indexed with the same bytes, chunks and model, if there is one.

        It is of the same collection, or of another generation of it: a re-index that keeps model and chunks embeds nothing.
        """
        ours, hashes = {document.id for document in borrowers}, {document.content_hash for document in borrowers}
        indexed = and_(documents.c.indexed_hash == documents.c.content_hash, documents.c.indexed_embed == embed_fingerprint)
        columns = (documents.c.id, documents.c.collection, documents.c.content_hash, documents.c.indexed_parse)
        with reading(self._engine) as connection:
            generations = connection.execute(select(collections.c.name, collections.c.serves, collections.c.physical)).all()
            rows = connection.execute(select(*columns).where(documents.c.content_hash.in_(hashes), indexed)).all()
        public, physical = {row[0]: row[1] or row[0] for row in generations}, {row[0]: row[2] for row in generations}
        there: dict[tuple[str, str, str], dict[str, Lender]] = {}
        for key, name, *made_of in rows:
            if key not in ours:
                there.setdefault((public.get(name, name), *made_of), {})[name] = Lender(key, physical.get(name, ""))
        found = {}
        for one in borrowers:
            name = one.collection
            lenders = there.get((public.get(name, name), one.content_hash, one.parse_fingerprint), {})
            if lenders:
                found[one.id] = lenders.get(name) or next(iter(lenders.values()))
        return found
