"""Named sources, which are loaded repeatedly."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, delete, select, update

from pipeline.ledger.schema import reading, sources, upsert, writing
from pipeline.metadata import fields_as_json, fields_from_json
from pipeline.types import RecordFields


@dataclass(frozen=True, slots=True)
class Source:
    """A folder or URL that a collection is kept in sync with."""

    name: str
    collection: str
    location: str  #: absolute path, or URL of an object store
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    created_at: float  #: seconds since the epoch
    synced_at: float | None  #: end of the last sync that listed it whole
    records: RecordFields | None  #: how the records of its files are documents; None: as in earlier loads
    root: str  #: URI that the location resolved to then; a link may lead elsewhere now


class Sources:
    """The table of sources."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(
        self,
        name: str,
        collection: str,
        location: str,
        include: Sequence[str],
        exclude: Sequence[str],
        records: RecordFields | None = None,
    ) -> bool:
        """Record a source; return whether it is new. An existing one with the same name stays unchanged."""
        values = {
            "name": name, "collection": collection, "location": location, "include": json.dumps(list(include)),
            "exclude": json.dumps(list(exclude)), "created_at": time.time(),
            "records": json.dumps(fields_as_json(records)) if records is not None else "",
        }  # fmt: skip
        with writing(self._engine) as connection:
            statement = upsert(connection, sources).values(values).on_conflict_do_nothing()
            # Not by the row count, which the Postgres driver does not report for such a statement.
            return connection.execute(statement.returning(sources.c.name)).first() is not None

    def all(self) -> list[Source]:
        """All sources, by name."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(sources).order_by(sources.c.name)).all()
        return [
            Source(
                name=row.name,
                collection=row.collection,
                location=row.location,
                include=tuple(json.loads(row.include)),
                exclude=tuple(json.loads(row.exclude)),
                created_at=row.created_at,
                synced_at=row.synced_at,
                records=fields_from_json(json.loads(row.records)) if row.records else None,
                root=row.root,
            )
            for row in rows
        ]

    def get(self, name: str) -> Source | None:
        """The source with this name."""
        return next((source for source in self.all() if source.name == name), None)

    def remove(self, name: str) -> bool:
        """Remove a source, but not its documents; return whether it existed."""
        with writing(self._engine) as connection:
            return bool(connection.execute(delete(sources).where(sources.c.name == name)).rowcount)

    def synced(self, name: str, root: str) -> None:
        """Record that a sync has listed the whole source, at this URI, and finished."""
        with writing(self._engine) as connection:
            connection.execute(update(sources).where(sources.c.name == name).values(synced_at=time.time(), root=root))
