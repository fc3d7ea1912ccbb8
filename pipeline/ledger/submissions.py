"""Requests that make a run, by their Idempotency-Key: a client that repeats one gets the run that the first one made."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from sqlalchemy import Column, Engine, Float, Integer, String, Table, and_, delete, or_, select, update

from pipeline.ledger.schema import metadata, upsert, writing

submissions = Table(
    "submissions",
    metadata,
    # Requests that made a run, so that a repeated one does not make a second; deleted after a day.
    Column("id", String(64), primary_key=True),  # hash of the token's name and the request's Idempotency-Key
    Column("digest", String(64), nullable=False),  # of what was asked for; empty until that is known
    Column("run", Integer),  # null until there is one
    Column("at", Float, nullable=False),
)

#: Seconds for which a key is remembered; and one whose request has made no run: its service may have died.
KEPT_S, RECEIVED_S = 24 * 3600.0, 3600.0


@dataclass(frozen=True, slots=True)
class Submission:
    """An earlier request with the same key."""

    digest: str  #: of what it asked for; empty while it is being received
    run: int | None  #: that it made; None while it is being received


class Submissions:
    """The table of submissions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, caller: str, key: str) -> tuple[str, Submission | None]:
        """The id of this request, and the earlier one with the same key of the same caller, if there is one."""
        ident = hashlib.sha256(f"{caller}\n{key}".encode("utf-8", "surrogatepass")).hexdigest()
        now = time.time()
        with writing(self._engine) as connection:
            dead = and_(submissions.c.run.is_(None), submissions.c.at < now - RECEIVED_S)
            connection.execute(delete(submissions).where(or_(submissions.c.at < now - KEPT_S, dead)))
            row = {"id": ident, "digest": "", "run": None, "at": now}
            made = upsert(connection, submissions).values(row).on_conflict_do_nothing().returning(submissions.c.id)
            if connection.execute(made).first() is not None:
                return ident, None
            found = connection.execute(select(submissions.c.digest, submissions.c.run).where(submissions.c.id == ident)).one()
        return ident, Submission(found.digest, found.run)

    def made(self, ident: str, digest: str, run: int) -> None:
        """Record the run that a request has made."""
        with writing(self._engine) as connection:
            connection.execute(update(submissions).where(submissions.c.id == ident).values(digest=digest, run=run))

    def failed(self, ident: str) -> None:
        """Forget a request that made no run, so that it can be repeated."""
        with writing(self._engine) as connection:
            connection.execute(delete(submissions).where(submissions.c.id == ident, submissions.c.run.is_(None)))
