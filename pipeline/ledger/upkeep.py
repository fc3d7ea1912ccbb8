"""What nobody needs any more: staged files, generations, leftovers of the store, runs, and what documents that are gone left."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, exists, func, or_, select

from pipeline.ledger.advances import throughput
from pipeline.ledger.generations import Collection as Generation
from pipeline.ledger.intake import ID_WINDOW
from pipeline.ledger.schema import (
    BUILDING,
    LIVE,
    SUPERSEDED,
    collections,
    documents,
    leases,
    losses,
    measures,
    meta,
    reading,
    runs,
    totals,
    upsert,
    writing,
)
from pipeline.ledger.sqlite import give_back
from pipeline.ledger.submissions import KEPT_S, submissions
from pipeline.telemetry.counters import CHUNK_LIMIT, CHUNK_TOKENS
from pipeline.types import OPEN_STATES, DocumentState

#: Begins the key of a physical collection of the store that no generation names, with the time at which that was first seen.
_LEFT = "leftover:"


class StagedContent(Protocol):
    """A copy of a document's bytes, or a chunk file that was made of them."""

    @property
    def content_hash(self) -> str:
        """Of the bytes."""

    @property
    def parse_fingerprint(self) -> str:
        """Of the options that made a chunk file; empty for a copy."""


S = TypeVar("S", bound=StagedContent)


@dataclass(frozen=True, slots=True)
class OldRun:
    """A run that can be forgotten."""

    id: int
    action: str
    collection: str
    at: float  #: its end or, if nobody saw that, its start; seconds since the epoch


@dataclass(frozen=True, slots=True)
class OldGeneration:
    """A generation that can be dropped."""

    generation: Generation
    at: float  #: when it was replaced, or last worked on
    chunks: int  #: its points


class Upkeep:
    """Finds and forgets what nobody needs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def unneeded(self, staged: Sequence[S]) -> list[S]:
        """Those of some staged files that no document needs: no version that is searched, and none that is being worked on."""
        with reading(self._engine) as connection:
            return _unneeded(connection, staged)

    def discard(self, staged: Sequence[S], discard: Callable[[list[S]], list[str]]) -> list[str]:
        """Call `discard` with those that no document needs, in a transaction; return what it returns.

        With SQLite, nobody can record a document meanwhile. With Postgres one can be recorded; whoever does has put its copy into
        staging before, so `discard` must leave files alone that were used lately.
        """
        with writing(self._engine) as connection:
            wanted = _unneeded(connection, staged)
            return discard(wanted) if wanted else []

    def old_generations(self, now: float, older_s: float, same_s: float, earlier_s: float) -> list[OldGeneration]:
        """Generations that were replaced, or built and not swapped in, and that nobody has worked on for `older_s` seconds.

        A rollback leads to the generation that was replaced last: `same_s` holds for it where the live one was made in the same
        way. It leads to none before that: `earlier_s` holds for those.
        """
        found = []
        with reading(self._engine) as connection:
            every = [Generation(**row._mapping) for row in connection.execute(select(collections))]
            live = {one.public: one for one in every if one.state == LIVE}
            replaced = sorted((one for one in every if one.state == SUPERSEDED), key=lambda one: one.swapped_at or 0.0)
            last = {one.public: one for one in replaced}
            for one in every:
                at, age_s = one.swapped_at or one.created_at, older_s
                if one.state == LIVE:
                    continue
                if one.state == BUILDING:
                    at = max(at, _worked_at(connection, one))
                elif last[one.public] != one:
                    age_s = earlier_s
                elif _are_alike(connection, one, live.get(one.public)):
                    age_s = same_s
                if at < now - age_s:
                    ours = documents.c.collection == one.name
                    chunks = connection.execute(select(func.coalesce(func.sum(documents.c.chunks), 0)).where(ours)).scalar_one()
                    found.append(OldGeneration(one, at, int(chunks)))
        return sorted(found, key=lambda one: one.at)

    def leftovers(self, unnamed: Collection[str], *, remember: bool) -> dict[str, float]:
        """When each of these physical collections was first seen without a generation; now, for those that are new.

        `remember`: keep that for later calls, and forget those that are not among them any more.
        """
        now = time.time()
        with reading(self._engine) as connection:
            rows = connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.startswith(_LEFT))).all()
        seen = {key.removeprefix(_LEFT): float(value) for key, value in rows}
        if remember and set(seen) != set(unnamed):
            with writing(self._engine) as connection:
                for name in set(seen) - set(unnamed):
                    connection.execute(delete(meta).where(meta.c.key == _LEFT + name))
                for name in set(unnamed) - set(seen):
                    row = {"key": _LEFT + name, "value": str(now)}
                    connection.execute(upsert(connection, meta).values(row).on_conflict_do_nothing())
        return {name: seen.get(name, now) for name in unnamed}

    def is_named(self, physical: str) -> bool:
        """Whether a generation has this physical collection."""
        with reading(self._engine) as connection:
            return connection.execute(select(collections.c.name).where(collections.c.physical == physical)).first() is not None

    def old_runs(self, before: float) -> Iterator[list[OldRun]]:
        """Runs that ended before a time, in windows; see `_old_runs` for those that stay."""
        last = 0
        while True:
            with reading(self._engine) as connection:
                columns = (runs.c.id, runs.c.action, runs.c.collection, _end_of_run())
                wanted = (*_old_runs(before), runs.c.id > last)
                rows = connection.execute(select(*columns).where(*wanted).order_by(runs.c.id).limit(ID_WINDOW)).all()
            if not rows:
                return
            yield [OldRun(*row) for row in rows]
            last = rows[-1][0]

    def forget_runs(self, ids: Sequence[int], before: float) -> int:
        """Forget those of some runs that can still be forgotten, with their figures and measures; return how many."""
        with writing(self._engine) as connection:
            gone = list(connection.execute(select(runs.c.id).where(runs.c.id.in_(ids), *_old_runs(before))).scalars())
            connection.execute(delete(totals).where(totals.c.run.in_(gone)))
            connection.execute(delete(throughput).where(throughput.c.run.in_(gone)))
            by_run = measures.c.metric.in_((CHUNK_TOKENS, CHUNK_LIMIT))
            connection.execute(delete(measures).where(by_run, measures.c.label.in_([str(one) for one in gone])))
            connection.execute(delete(runs).where(runs.c.id.in_(gone)))
        return len(gone)

    def give_back(self, on_step: Callable[[], None]) -> int:
        """Give free space of the ledger's file back to the file system; return its bytes. A server does so by itself."""
        return give_back(self._engine, on_step) if self._engine.dialect.name == "sqlite" else 0

    def old_submissions(self) -> int:
        """How many keys of requests are older than a day, after which they mean nothing."""
        with reading(self._engine) as connection:
            old = submissions.c.at < time.time() - KEPT_S
            return int(connection.execute(select(func.count()).select_from(submissions).where(old)).scalar_one())

    def forget_submissions(self) -> int:
        """Forget them; return how many."""
        with writing(self._engine) as connection:
            return connection.execute(delete(submissions).where(submissions.c.at < time.time() - KEPT_S)).rowcount

    def stray_losses(self) -> int:
        """Rows of losses whose document is gone."""
        with reading(self._engine) as connection:
            return int(connection.execute(select(func.count()).select_from(losses).where(_without_document())).scalar_one())

    def forget_stray_losses(self) -> int:
        """Forget them; return how many rows."""
        with writing(self._engine) as connection:
            return connection.execute(delete(losses).where(_without_document())).rowcount


def _are_alike(connection: Connection, one: Generation, live: Generation | None) -> bool:
    """Whether a rollback from the live generation to this one would change nothing: neither model nor settings nor parsers."""
    if live is None or (one.fingerprint, one.profile) != (live.fingerprint, live.profile):
        return False
    parse = documents.c.indexed_parse
    indexed = select(parse).where(parse != "").distinct()
    made, now = (set(connection.execute(indexed.where(documents.c.collection == of.name)).scalars()) for of in (one, live))
    return made <= now


def _worked_at(connection: Connection, building: Generation) -> float:
    """When somebody last worked on a generation that is not live yet; seconds since the epoch."""
    ours = documents.c.collection == building.name
    worked = connection.execute(select(func.max(documents.c.updated_at)).where(ours)).scalar()
    latest = func.max(func.coalesce(runs.c.finished_at, runs.c.started_at))
    tried = connection.execute(select(latest).where(runs.c.collection == building.public, runs.c.action == "reindex")).scalar()
    return max(worked or 0.0, tried or 0.0)


def _without_document() -> ColumnElement[bool]:
    return ~exists().where(documents.c.id == losses.c.document)


def _unneeded(connection: Connection, staged: Sequence[S]) -> list[S]:
    """Those that no document names.

    A document names the copies of its current and of its searched version, and the chunk files of both; while it is open, every
    chunk file of its bytes, one of which it may be about to use.
    """
    needed: set[tuple[str, str]] = set()
    open_hashes: set[str] = set()
    columns = (documents.c.content_hash, documents.c.parse_fingerprint, documents.c.indexed_hash, documents.c.indexed_parse)
    hashes = sorted({one.content_hash for one in staged})
    # Of an indexed document both hashes are the same. The other ones are few, and are found by their states.
    unlike = documents.c.state.in_([state for state in DocumentState if state is not DocumentState.INDEXED])
    for start in range(0, len(hashes), ID_WINDOW):
        window = hashes[start : start + ID_WINDOW]
        current = select(*columns, documents.c.state).where(documents.c.content_hash.in_(window))
        searched = select(*columns, documents.c.state).where(documents.c.indexed_hash.in_(window), unlike)
        for statement in (current, searched):
            for row in connection.execute(statement.distinct()):
                needed |= {(row[0], ""), (row[0], row[1]), (row[2], ""), (row[2], row[3])}
                if row.state in OPEN_STATES:
                    open_hashes.add(row.content_hash)
    closed = [one for one in staged if one.content_hash not in open_hashes]
    return [one for one in closed if (one.content_hash, one.parse_fingerprint) not in needed]


def _end_of_run() -> ColumnElement[float]:
    return func.coalesce(runs.c.finished_at, runs.c.started_at)


def _old_runs(before: float) -> tuple[ColumnElement[bool], ...]:
    """Conditions on runs that can be forgotten.

    A run stays while it goes on, while a document is as it left it, and while it is the latest one of its kind, which the next
    one is compared with. Numbers of runs are never given twice, because the latest one stays.
    """
    held = exists().where(leases.c.run == runs.c.id)
    named = exists().where(documents.c.run == runs.c.id)
    other = runs.alias()
    newest = select(func.max(other.c.id)).group_by(other.c.action, other.c.source, other.c.collection)
    newest_of_schedules = select(func.max(other.c.id)).where(other.c.schedule != "").group_by(other.c.schedule)
    awaited = and_(runs.c.finished_at.is_(None), or_(runs.c.token != "", _is_building()))
    return (
        _end_of_run() < before, ~held, ~named, ~awaited, runs.c.id.not_in(newest), runs.c.id.not_in(newest_of_schedules),
    )  # fmt: skip


def _is_building() -> ColumnElement[bool]:
    """Whether a run without an end may be a re-index that goes on: its collection has a generation that is being built."""
    one = collections.alias()
    return exists().where(one.c.state == BUILDING, one.c.serves == runs.c.collection)
