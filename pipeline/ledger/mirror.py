"""Differences between a generation that is being built and the live one: missing versions and surplus documents."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, and_, case, or_, select

from pipeline.ledger.schema import documents, hold, reading, upsert, writing
from pipeline.sources.uris import parent_uri
from pipeline.types import OPEN_STATES, DocumentState, document_id

#: In these states the staged version is the current one; in all others the indexed version is, if any.
_CURRENT = (*OPEN_STATES, DocumentState.INDEXED)

#: Columns that a mirrored document copies.
_COPIED = ("uri", "size", "mtime_ns", "reason", "detail", "title", "media_type", "given", "validators")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version of a document that the new generation must have."""

    uri: str
    size: int
    mtime_ns: int
    reason: str | None
    detail: str | None
    title: str
    media_type: str
    given: str
    validators: str
    content_hash: str  #: empty if it has never been indexed, so that only its refusal is mirrored
    state: str


def differences(connection: Connection, live: str, new: str, limit: int, after: str = "") -> list[Wanted]:
    """Versions of `live` that `new` lacks, by uri, starting after `after`."""
    theirs, ours = documents.alias("theirs"), documents.alias("ours")
    version = case((theirs.c.state.in_(_CURRENT), theirs.c.content_hash), else_=theirs.c.indexed_hash)
    statement = (
        select(*(theirs.c[name] for name in _COPIED), version, theirs.c.state)
        .select_from(theirs.outerjoin(ours, and_(ours.c.collection == new, ours.c.uri == theirs.c.uri)))
        .where(
            theirs.c.collection == live, theirs.c.state != DocumentState.DELETED, theirs.c.uri > after,
            or_(ours.c.id.is_(None), ours.c.state == DocumentState.DELETED, ours.c.content_hash != version,
                ours.c.given != theirs.c.given),
        )
        .order_by(theirs.c.uri)
        .limit(limit)
    )  # fmt: skip
    return [Wanted(*tuple(row)) for row in connection.execute(statement)]


def surplus(connection: Connection, live: str, new: str, limit: int) -> list[str]:
    """Ids of documents of `new` that `live` no longer has."""
    theirs, ours = documents.alias(), documents
    there = select(theirs.c.id).where(
        theirs.c.collection == live, theirs.c.uri == ours.c.uri, theirs.c.state != DocumentState.DELETED
    )
    wanted = (ours.c.collection == new, ours.c.state != DocumentState.DELETED, ~there.exists())
    return list(connection.execute(select(ours.c.id).where(*wanted).limit(limit)).scalars())


class Mirror:
    """Keeps the documents of a generation that is being built equal to those of the live one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def lacking(self, live: str, new: str, limit: int, after: str = "") -> list[Wanted]:
        """See `differences`."""
        with reading(self._engine) as connection:
            return differences(connection, live, new, limit, after)

    def surplus(self, live: str, new: str, limit: int) -> list[str]:
        """See `surplus`."""
        with reading(self._engine) as connection:
            return surplus(connection, live, new, limit)

    def give(self, new: str, run: int, wanted: Sequence[Wanted]) -> int:
        """Add these versions to `new`; return for how many there is work to do.

        Their bytes are in staging already, so nothing is read from the source. Raises CollectionReplaced if `new` is no longer
        being built.
        """
        now = time.time()
        rows = [
            {
                **{name: getattr(one, name) for name in _COPIED}, "id": document_id(new, one.uri), "collection": new,
                "content_hash": one.content_hash, "run": run, "starts": 0, "batch": None, "lease": None, "dirty": 0,
                "parse_fingerprint": "", "indexed_hash": "", "indexed_parse": "", "indexed_embed": "", "chunks": 0, "embedded": 0,
                "tokens": 0, "deleted_at": None, "fence": None, "parsed_tokens": 0, "parsed_chunks": 0, "parse_s": 0.0,
                "updated_at": now, "parent": document_id(new, around) if (around := parent_uri(one.uri)) else "", "properties": "",
                "metadata": "",
                **_standing(one),
            }
            for one in wanted
        ]  # fmt: skip
        if not rows:
            return 0
        # As with a load, the indexed version stays until the new one is complete.
        replaced = [
            *_COPIED, "content_hash", "state", "run", "starts", "batch", "lease", "parse_fingerprint", "deleted_at", "fence",
            "parsed_tokens", "parsed_chunks", "parse_s", "updated_at",
        ]  # fmt: skip
        with writing(self._engine) as connection:
            hold(connection, new, building=True)
            statement = upsert(connection, documents)
            statement = statement.on_conflict_do_update(
                index_elements=[documents.c.id], set_={name: statement.excluded[name] for name in replaced}
            )
            connection.execute(statement, rows)
        return sum(row["state"] == DocumentState.PENDING for row in rows)


def _standing(one: Wanted) -> dict[str, object]:
    """The state of a mirrored document."""
    if not one.content_hash:
        return {"state": one.state}
    changes: dict[str, object] = {"state": DocumentState.PENDING, "reason": None, "detail": None}
    if one.state not in _CURRENT:
        # Its file has a newer version that could not be indexed: the next load retries it.
        changes |= {"mtime_ns": 0, "validators": ""}
    return changes
