"""What a load writes to the ledger: runs and staged documents."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, bindparam, case, delete, literal_column, or_, select, update

from pipeline.ledger.generations import count_open
from pipeline.ledger.measures import QUARANTINES, count
from pipeline.ledger.schema import current, documents, hold, is_member, reading, upsert, writing
from pipeline.metadata import fingerprints
from pipeline.telemetry.counters import COUNT, Key
from pipeline.types import UNREAD, DocumentState, Program, Reason, SourceFile, StagedFile

#: Most ids in one IN list: SQLite takes 32,766 variables, and short statements keep the write lock short.
ID_WINDOW = 500

#: Ids of members that are read at once: a document may have a million.
MEMBER_WINDOW = 20_000


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger remembers of a document before a load looks at it."""

    size: int
    mtime_ns: int
    content_hash: str
    state: DocumentState
    reason: str | None
    indexed_hash: str
    indexed_parse: str
    indexed_embed: str
    given: str = ""  #: metadata of its load, as JSON
    detail: str | None = None  #: of the reason
    validators: str = ""  #: of a page; see pipeline.types.SourceFile

    @property
    def needs(self) -> Program | None:
        """The program without which it was skipped; None for other documents."""
        if self.state is not DocumentState.SKIPPED or self.reason not in (Reason.NEEDS_OCR, Reason.UNSUPPORTED):
            return None
        if self.reason == Reason.NEEDS_OCR:
            return Program.OCR
        return next((program for program, details in UNREAD.items() if (self.detail or "").startswith(details)), None)


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that cannot be staged, with the reason that is recorded for it."""

    source: SourceFile
    reason: Reason
    detail: str


#: The columns of a document that stay when another version of it is staged: the old version is searchable until the new one is
#: complete, and its title and type are shown until then.
_KEPT = frozenset(
    [
        "id",
        "collection",
        "uri",
        "title",
        "media_type",
        "parse_fingerprint",
        "indexed_hash",
        "indexed_parse",
        "indexed_embed",
        "chunks",
        "embedded",
        "tokens",
        "embed_s",
        "dirty",
        "properties",
        "metadata",
    ]
)

#: A document's row before anything is known of it.
_BLANK = {column.name: None if column.nullable else column.type.python_type() for column in documents.columns}


class Intake:
    """Runs and staged documents."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def open_documents(self, collection: str, most: int) -> int:
        """Documents of a collection with work ahead of them; counted up to `most`."""
        with reading(self._engine) as connection:
            return count_open(connection, (collection,), most)

    def known(self, ids: Sequence[str]) -> dict[str, Known]:
        """What is remembered of these documents; unknown ones are left out."""
        found: dict[str, Known] = {}
        columns = [documents.c[name] for name in Known.__dataclass_fields__]
        with reading(self._engine) as connection:
            for start in range(0, len(ids), ID_WINDOW):
                window = ids[start : start + ID_WINDOW]
                for row in connection.execute(select(documents.c.id, *columns).where(documents.c.id.in_(window))):
                    found[row[0]] = Known(row[1], row[2], row[3], DocumentState(row[4]), *row[5:])
        return found

    def record_staged(
        self, collection: str, run: int, staged: Mapping[str, StagedFile], given: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Record new versions as pending, by document id, with the metadata `given` to them.

        A worker with an older version loses its lease by this: its results no longer match a row.
        """
        self._put(
            collection, run,
            {key: (file.source, file.content_hash, DocumentState.PENDING, None, None) for key, file in staged.items()},
            given=given,
        )  # fmt: skip

    def refuse(
        self,
        collection: str,
        run: int,
        refused: Mapping[str, Refused],
        parent: str = "",
        given: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Record files that could not be staged, as skipped or quarantined; `parent` is the document that they are in."""
        rows = {}
        for key, item in refused.items():
            state = DocumentState.SKIPPED if item.reason.skips else DocumentState.QUARANTINED
            rows[key] = (item.source, "", state, item.reason.value, item.detail)
        self._put(collection, run, rows, parent, given)

    def record_members(
        self,
        collection: str,
        run: int,
        parent: str,
        staged: Mapping[str, StagedFile],
        refused: Mapping[str, Refused],
        parse_fingerprint: str,
        given: Mapping[str, str] = MappingProxyType({}),
        known: Mapping[str, Known] | None = None,
    ) -> None:
        """Record files or records inside a document by their ids, with the metadata `given` to them; `known`: what `known` told.

        One that is indexed with these bytes and this parse fingerprint stays as it is, or only gets other metadata; one in work
        goes on, as part of `run`. Those that the document no longer has are the caller's matter: see `members`.
        """
        known = self.known([*staged, *refused]) if known is None else known
        kept = {key for key, file in staged.items() if stays(known.get(key), file.content_hash, parse_fingerprint)}
        new = {key: file for key, file in staged.items() if key not in kept}
        self._put(
            collection,
            run,
            {key: (file.source, file.content_hash, DocumentState.PENDING, None, None) for key, file in new.items()},
            parent,
            given,
        )
        self.refuse(collection, run, refused, parent)
        self.describe(collection, run, {key: given[key] for key in kept if given.get(key, "") != known[key].given})
        self.adopt(run, [key for key in kept if known[key].state is not DocumentState.INDEXED])

    def members(self, parent: str) -> Iterator[str]:
        """Ids of the files and records inside a document, but for those that are marked as deleted."""
        last = ""
        while True:
            wanted = (documents.c.parent == parent, is_member, documents.c.state != DocumentState.DELETED, documents.c.id > last)
            with reading(self._engine) as connection:
                rows = select(documents.c.id).where(*wanted).order_by(documents.c.id).limit(MEMBER_WINDOW)
                found = list(connection.execute(rows).scalars())
            if not found:
                return
            yield from found
            last = found[-1]

    def with_members(self, ids: Sequence[str]) -> set[str]:
        """Those of these documents that have, or had, files inside them."""
        with reading(self._engine) as connection:
            rows = select(documents.c.parent).where(documents.c.parent.in_(ids), is_member).distinct()
            return set(connection.execute(rows).scalars())

    def unfinished_members(self, parents: Sequence[str]) -> dict[str, str | None]:
        """Files inside these documents that are not indexed: ids with the reason, if there is one. Files inside files, too."""
        found: dict[str, str | None] = {}
        around, inner = list(parents), documents.alias()
        with reading(self._engine) as connection:
            while around:
                inside: list[str] = []
                for start in range(0, len(around), ID_WINDOW):
                    wanted = (documents.c.parent.in_(around[start : start + ID_WINDOW]), is_member)
                    left = documents.c.state.not_in((DocumentState.DELETED, DocumentState.INDEXED))
                    rows = connection.execute(select(documents.c.id, documents.c.reason).where(*wanted, left))
                    found |= {row.id: row.reason for row in rows}
                    # Only those that have members themselves: a table may have a million rows.
                    ours = and_(inner.c.parent == documents.c.id, inner.c.parent != literal_column("''"))
                    there = documents.c.state != DocumentState.DELETED
                    joined = select(documents.c.id).select_from(documents.join(inner, ours)).where(*wanted, there)
                    inside += connection.execute(joined.distinct()).scalars()
                around = inside
        return found

    def restart_unread(self, run: int, ids: Sequence[str], programs: Set[Program]) -> set[str]:
        """Put those of these documents that needed one of `programs` back to pending, as part of `run`; return their ids."""
        unread = {key for key, known in self.known(ids).items() if known.needs in programs and known.content_hash}
        changes = {"state": DocumentState.PENDING, "reason": None, "detail": None, "starts": 0, "batch": None, "lease": None}
        with writing(self._engine) as connection:
            for start in range(0, len(unread), ID_WINDOW):
                window = sorted(unread)[start : start + ID_WINDOW]
                found = update(documents).where(documents.c.id.in_(window), documents.c.state == DocumentState.SKIPPED)
                connection.execute(found.values(changes | {"run": run, "updated_at": time.time()}))
        return unread

    def _put(
        self, collection: str, run: int,
        rows: Mapping[str, tuple[SourceFile, str, DocumentState, str | None, str | None]], parent: str = "",
        given: Mapping[str, str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        if not rows:
            return
        now = time.time()
        values = [
            _BLANK
            | {
                "id": key,
                "collection": collection,
                "uri": source.uri,
                "size": source.size,
                "mtime_ns": source.mtime_ns,
                "content_hash": content_hash,
                "state": state,
                "reason": reason,
                "detail": detail,
                "run": run,
                "updated_at": now,
                "parent": parent,
                "given": given.get(key, ""),
                "validators": source.validators,
            }
            # In one order, as claims lock them: two that hold what the other one wants would wait for ever.
            for key, (source, content_hash, state, reason, detail) in sorted(rows.items())
        ]
        with writing(self._engine) as connection:
            hold(connection, collection)
            statement = upsert(connection, documents)
            statement = statement.on_conflict_do_update(
                index_elements=[documents.c.id], set_={name: statement.excluded[name] for name in _BLANK if name not in _KEPT}
            )
            refused = _newly_quarantined(connection, values)
            connection.execute(statement, values)
            count(connection, refused)

    def describe(self, collection: str, run: int, given: Mapping[str, str]) -> None:
        """Give documents other metadata, as part of `run`. The points of indexed ones are changed; nothing is embedded."""
        if not given:
            return
        state = documents.c.state
        again = state == DocumentState.INDEXED
        reopened = case((documents.c.parse_fingerprint == "", DocumentState.PENDING), else_=DocumentState.PARSED)
        changes = {
            "given": bindparam("text"),
            "run": run,
            "updated_at": time.time(),
            "state": case((again, reopened), else_=state),
            "starts": case((again, 0), else_=documents.c.starts),
            "batch": case((again, None), else_=documents.c.batch),
            # Its worker has read what was given before: it must look again.
            "dirty": case((state == DocumentState.EMBEDDING, 1), else_=documents.c.dirty),
        }
        with writing(self._engine) as connection:
            hold(connection, collection)
            connection.execute(
                update(documents).where(documents.c.id == bindparam("key")).values(changes),
                [{"key": key, "text": text} for key, text in sorted(given.items())],
            )

    def touch(self, sources: Mapping[str, SourceFile]) -> None:
        """Remember new sizes and times of documents whose bytes are the same, so that the next load need not hash them."""
        if not sources:
            return
        with writing(self._engine) as connection:
            for key, source in sources.items():
                connection.execute(
                    update(documents)
                    .where(documents.c.id == key)
                    .values(size=source.size, mtime_ns=source.mtime_ns, validators=source.validators)
                )

    def adopt(self, run: int, ids: Sequence[str]) -> None:
        """Make unfinished documents of earlier runs part of this one, so that it waits for them too."""
        with writing(self._engine) as connection:
            for start in range(0, len(ids), ID_WINDOW):
                connection.execute(update(documents).where(documents.c.id.in_(ids[start : start + ID_WINDOW])).values(run=run))

    def retry(
        self, *, uris: Sequence[str] = (), reason: str | None = None, run: int | None = None, collection: str | None = None
    ) -> int:
        """Put quarantined documents back to pending; return how many.

        Without conditions, all of them; conditions narrow it together. Skipped ones are put back where URIs or a reason select
        them. A document without a staged copy cannot be tried
        again from here: its source must be loaded again.
        """
        wanted = [*_quarantined(uris, reason, run, collection), documents.c.content_hash != ""]
        with writing(self._engine) as connection:
            return connection.execute(
                update(documents).where(*wanted).values(
                    state=DocumentState.PENDING, reason=None, detail=None, starts=0, batch=None, lease=None, updated_at=time.time()
                )
            ).rowcount  # fmt: skip

    def quarantined(
        self, *, uris: Sequence[str] = (), reason: str | None = None, run: int | None = None, collection: str | None = None
    ) -> dict[str, list[str]]:
        """Ids of quarantined documents by collection."""
        found: dict[str, list[str]] = {}
        with reading(self._engine) as connection:
            statement = select(documents.c.collection, documents.c.id).where(*_quarantined(uris, reason, run, collection))
            for name, key in connection.execute(statement):
                found.setdefault(name, []).append(key)
        return found

    def drop(self, ids: Sequence[str]) -> int:
        """Forget quarantined or skipped documents; return how many. The next load that finds them takes them for new."""
        count = 0
        with writing(self._engine) as connection:
            for start in range(0, len(ids), ID_WINDOW):
                window = ids[start : start + ID_WINDOW]
                gone = (documents.c.id.in_(window), documents.c.state.in_((DocumentState.QUARANTINED, DocumentState.SKIPPED)))
                count += connection.execute(delete(documents).where(*gone)).rowcount
        return count

    def reopen(self, ids: Sequence[str]) -> int:
        """Send indexed documents through the embed stage again: their points are compared and corrected; return how many.

        A version whose chunk file is gone goes through the parse stage again by itself.
        """
        count = 0
        with writing(self._engine) as connection:
            for start in range(0, len(ids), ID_WINDOW):
                window = ids[start : start + ID_WINDOW]
                # Without a parse fingerprint there is no chunk file to read: start at the beginning.
                state = case((documents.c.parse_fingerprint == "", DocumentState.PENDING), else_=DocumentState.PARSED)
                count += connection.execute(
                    update(documents)
                    .where(documents.c.id.in_(window), documents.c.state == DocumentState.INDEXED)
                    .values(state=state, starts=0, batch=None, lease=None, updated_at=time.time())
                ).rowcount
        return count


def stays(before: Known | None, content_hash: str, parse_fingerprint: str) -> bool:
    """Whether a member of a document needs no new start: it has these bytes, and is in work, or was made with these options."""
    if before is None or before.content_hash != content_hash or before.state is DocumentState.DELETED:
        return False
    if before.reason == Reason.STAGED_LOST:
        return False
    return before.state is not DocumentState.INDEXED or before.indexed_parse in fingerprints(parse_fingerprint)


def _newly_quarantined(connection: Connection, values: Sequence[Mapping[str, Any]]) -> dict[Key, int]:
    """The counts of rows that are about to be written; a file that each load refuses again counts as quarantined once."""
    refused = {row["id"]: row["reason"] for row in values if row["state"] == DocumentState.QUARANTINED}
    ids = list(refused)
    for start in range(0, len(ids), ID_WINDOW):
        window = ids[start : start + ID_WINDOW]
        rows = select(documents.c.id, documents.c.reason).where(
            documents.c.id.in_(window), documents.c.state == DocumentState.QUARANTINED
        )
        for row in connection.execute(rows).all():
            if row.reason == refused[row.id]:
                del refused[row.id]
    return {(QUARANTINES, reason, COUNT): number for reason, number in Counter(refused.values()).items()}


def _quarantined(uris: Sequence[str], reason: str | None, run: int | None, collection: str | None) -> list[ColumnElement[bool]]:
    """Conditions that select quarantined documents; each narrows the selection. URIs and a reason select skipped ones, too."""
    states = (DocumentState.QUARANTINED, DocumentState.SKIPPED) if uris or reason else (DocumentState.QUARANTINED,)
    wanted: list[ColumnElement[bool]] = [documents.c.state.in_(states), current()]
    if uris:
        wanted.append(or_(documents.c.uri.in_(uris), documents.c.id.in_(uris)))
    if reason:
        wanted.append(documents.c.reason == reason)
    if run is not None:
        wanted.append(documents.c.run == run)
    if collection:
        wanted.append(documents.c.collection == collection)
    return wanted
