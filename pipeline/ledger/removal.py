"""Removal of documents: they are marked as deleted first, and forgotten once their points are gone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, and_, delete, exists, func, not_, or_, select, update

from pipeline.ledger.intake import ID_WINDOW
from pipeline.ledger.schema import documents, hold, is_member, leases, reading, writing
from pipeline.types import OPEN_STATES, DocumentState, document_id


@dataclass(frozen=True, slots=True)
class Kept:
    """A document that the ledger considers present."""

    id: str
    uri: str
    size: int
    mtime_ns: int
    content_hash: str


@dataclass(frozen=True, slots=True)
class Due:
    """A document that is marked as deleted and whose points may be deleted now."""

    id: str
    collection: str
    fenced: bool  #: a worker may still write points of it: look again after its lease has ended


class Removal:
    """Removal of documents."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def present(
        self, collection: str, below: Sequence[str] = (), elsewhere: Sequence[str] = (), prefix: str = "", window: int = 1000
    ) -> Iterator[list[Kept]]:
        """A collection's documents at or below the URIs in `below`, not at or below those in `elsewhere`, in windows by id.

        Marked documents are left out. `prefix` may end in the middle of a name.
        """
        columns = [documents.c[name] for name in Kept.__dataclass_fields__]
        # Concatenated, so that SQLite reads by id instead of sorting the collection again for each window.
        # Files inside documents come and go with these.
        wanted = [
            documents.c.collection.concat("") == collection,
            documents.c.state != DocumentState.DELETED,
            documents.c.parent == "",
        ]
        if below:
            wanted.append(or_(*(_below(uri) for uri in below)))
        if prefix:
            wanted.append(_begins(prefix))
        wanted += [not_(_below(uri)) for uri in elsewhere]
        last = ""
        while True:
            with reading(self._engine) as connection:
                rows = connection.execute(
                    select(*columns).where(*wanted, documents.c.id > last).order_by(documents.c.id).limit(window)
                ).all()
            if not rows:
                return
            yield [Kept(*row) for row in rows]
            last = rows[-1].id

    def named(self, generation: str, uris: Sequence[str]) -> list[Kept]:
        """The documents of a generation at these URIs."""
        columns = [documents.c[name] for name in Kept.__dataclass_fields__]
        ids, found = [document_id(generation, uri) for uri in uris], []
        with reading(self._engine) as connection:
            for start in range(0, len(ids), ID_WINDOW):
                wanted = (documents.c.id.in_(ids[start : start + ID_WINDOW]), documents.c.state != DocumentState.DELETED)
                found += [Kept(*row) for row in connection.execute(select(*columns).where(*wanted))]
        return found

    def unindexed(self, run: int) -> list[tuple[str, str]]:
        """Id and generation of a run's documents that have work ahead of them and no version that searches find."""
        wanted = (documents.c.run == run, documents.c.state.in_(OPEN_STATES), documents.c.indexed_hash == "")
        with reading(self._engine) as connection:
            return [(row[0], row[1]) for row in connection.execute(select(documents.c.id, documents.c.collection).where(*wanted))]

    def mark(self, generation: str, ids: Sequence[str]) -> int:
        """Mark documents of a generation as deleted, with the files inside them; return how many were not marked before.

        A worker that holds one loses it. A load that finds it again removes the mark. Raises CollectionReplaced if searches no
        longer use this generation: deleting there would have no effect.
        """
        now, count = time.time(), 0
        waiting = deque(ids[start : start + ID_WINDOW] for start in range(0, len(ids), ID_WINDOW))
        while waiting:
            with writing(self._engine) as connection:
                hold(connection, generation)
                group = waiting.popleft()
                window = documents.c.id.in_(group)
                there = documents.c.state != DocumentState.DELETED
                inside = select(documents.c.id).where(documents.c.parent.in_(group), is_member, there)
                members = list(connection.execute(inside).scalars())
                waiting += [members[start : start + ID_WINDOW] for start in range(0, len(members), ID_WINDOW)]
                count += connection.execute(
                    update(documents)
                    .where(window, documents.c.state != DocumentState.DELETED)
                    .values(
                        state=DocumentState.DELETED, deleted_at=now, updated_at=now, fence=documents.c.lease, lease=None,
                        batch=None, reason=None, detail=None,
                    )
                ).rowcount  # fmt: skip
        return count

    def due(self, grace_s: float, collection: str | None = None, limit: int = ID_WINDOW, without: Sequence[str] = ()) -> list[Due]:
        """Marked documents whose grace is over, but for those named.

        A document whose bytes wait to be indexed under another name is not due yet: it was moved, and lends its vectors.
        """
        other = documents.alias()
        moving = exists().where(
            other.c.content_hash == documents.c.content_hash, other.c.content_hash != "",
            other.c.collection == documents.c.collection, other.c.state.in_(OPEN_STATES),
        )  # fmt: skip
        wanted: list[ColumnElement[bool]] = [
            documents.c.state == DocumentState.DELETED, documents.c.deleted_at <= time.time() - grace_s,
            not_(moving), documents.c.id.not_in(without),
        ]  # fmt: skip
        if collection is not None:
            wanted.append(documents.c.collection == collection)
        fenced = and_(documents.c.fence.is_not(None), exists().where(leases.c.id == documents.c.fence))
        with reading(self._engine) as connection:
            statement = select(documents.c.id, documents.c.collection, fenced).where(*wanted)
            return [Due(row[0], row[1], bool(row[2])) for row in connection.execute(statement.limit(limit))]

    def forget(self, ids: Sequence[str]) -> set[str]:
        """Delete the rows of marked documents whose points are gone; return the ids that were no longer marked."""
        with writing(self._engine) as connection:
            rows = select(documents.c.id).where(documents.c.id.in_(ids), documents.c.state != DocumentState.DELETED)
            back = set(connection.execute(rows.with_for_update()).scalars())
            gone = (documents.c.id.in_(ids), documents.c.state == DocumentState.DELETED)
            connection.execute(delete(documents).where(*gone))
        return back

    def marked(self, collection: str) -> int:
        """Number of documents of a collection that are marked and not yet forgotten."""
        with reading(self._engine) as connection:
            statement = select(func.count()).where(documents.c.state == DocumentState.DELETED, documents.c.collection == collection)
            return int(connection.execute(statement).scalar_one())


def _below(uri: str) -> ColumnElement[bool]:
    """Condition: documents at a URI, or below it as a folder."""
    return or_(documents.c.uri == uri, _begins(f"{uri}/"))


def _begins(prefix: str) -> ColumnElement[bool]:
    """Condition: URIs with this prefix. Not by LIKE, which ignores case in SQLite, nor by a range, which depends on a collation."""
    return func.substr(documents.c.uri, 1, len(prefix)) == prefix
