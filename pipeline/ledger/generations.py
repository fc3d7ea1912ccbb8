"""Collections and their generations: each was made by one model; one of them answers to the name that people use."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, func, or_, select, update

from pipeline.errors import CollectionMismatch, CollectionReplaced
from pipeline.ledger.mirror import differences, surplus
from pipeline.ledger.schema import BUILDING, LIVE, SUPERSEDED, collections, documents, meta, reading, upsert, writing
from pipeline.types import OPEN_STATES

#: Key of the table `meta`, before a physical collection's name, for a deferred graph.
_POSTPONED = "graph:"

#: Begins the key of a physical collection that no generation names any more and whose points are being deleted.
_DROPPING = "drop:"


@dataclass(frozen=True, slots=True)
class Collection:
    """A generation of a collection, and the model that made it."""

    name: str  #: of this generation; documents and their ids hang on it. The first one of a collection has the collection's name
    physical: str  #: the store's own name of it
    model: str
    revision: str
    dimension: int
    fingerprint: str  #: embed fingerprint
    canary: str  #: JSON list, the vector of the canary sentence
    created_at: float  #: seconds since the epoch
    serves: str = ""  #: the collection it is a generation of; empty: `name`
    state: str = LIVE
    profile: str = "{}"  #: JSON object of settings that hold for it whatever the configuration says
    swapped_at: float | None = None  #: when it last became live or was replaced
    note: str = ""  #: why it was not swapped in

    @property
    def public(self) -> str:
        """The name that people use."""
        return self.serves or self.name

    def require_model(self, fingerprint: str, model: str) -> None:
        """Raise CollectionMismatch unless `model`, which has this embed fingerprint, is the one that made the generation."""
        if fingerprint != self.fingerprint and model == self.model:
            raise CollectionMismatch(
                f"the collection {self.name!r} was made with another KB_MODEL_REVISION or KB_PART_TOKENS: set them back, or use "
                f"another --collection; `kb-ingest reindex -c {self.public} --part-tokens` changes the size of parts"
            )
        if fingerprint != self.fingerprint:
            raise CollectionMismatch(
                f"the collection {self.name!r} was made with {self.model} ({self.dimension} dimensions), KB_MODEL is now {model}: "
                "set KB_MODEL back, use another --collection, or change the collection with "
                f"`kb-ingest reindex -c {self.public} --model {model}`"
            )


class Generations:
    """The table of collections."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, name: str) -> Collection | None:
        """The generation of this name."""
        return self._one(collections.c.name == name)

    def live(self, public: str) -> Collection | None:
        """The generation that answers to a collection's name."""
        return self._one(_is_of(public), collections.c.state == LIVE)

    def live_name(self, public: str) -> str:
        """The name under which the ledger keeps a collection's documents now."""
        found = self.live(public)
        return found.name if found else public

    def of(self, public: str) -> list[Collection]:
        """All generations of a collection, the oldest first."""
        return sorted((one for one in self.all() if one.public == public), key=lambda one: one.created_at)

    def all(self) -> list[Collection]:
        """All generations of all collections, by name."""
        with reading(self._engine) as connection:
            return [Collection(**row._mapping) for row in connection.execute(select(collections).order_by(collections.c.name))]

    def names(self) -> list[str]:
        """The names that people use for the collections, in order."""
        return sorted({one.public for one in self.all() if one.state == LIVE})

    def live_ones(self) -> list[Collection]:
        """The generations that answer to the collections' names, by name."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(collections).where(collections.c.state == LIVE).order_by(collections.c.name))
            return [Collection(**row._mapping) for row in rows]

    def awaited(self) -> list[str]:
        """Profiles of the generations that have documents to index, those with the most first."""
        waiting = select(documents.c.collection, func.count().label("waiting")).where(documents.c.state.in_(OPEN_STATES))
        counts = waiting.group_by(documents.c.collection).subquery()
        statement = select(collections.c.profile).join(counts, counts.c.collection == collections.c.name)
        with reading(self._engine) as connection:
            rows = connection.execute(statement.order_by(counts.c.waiting.desc(), collections.c.name)).scalars()
            return list(dict.fromkeys(rows))

    def _one(self, *wanted: ColumnElement[bool]) -> Collection | None:
        with reading(self._engine) as connection:
            row = connection.execute(select(collections).where(*wanted)).first()
        return Collection(**row._mapping) if row else None

    def add(self, new: Collection) -> Collection:
        """Record a generation unless it is there already; return the one that is recorded."""
        values = {name: getattr(new, name) for name in Collection.__dataclass_fields__}
        with writing(self._engine) as connection:
            connection.execute(upsert(connection, collections).values(values).on_conflict_do_nothing())
            row = connection.execute(select(collections).where(collections.c.name == new.name)).one()
        return Collection(**row._mapping)

    def set_canary(self, name: str, canary: str) -> str:
        """Record the canary vector of a generation that has none; return the one that is recorded."""
        with writing(self._engine) as connection:
            empty = (collections.c.name == name, collections.c.canary == "")
            connection.execute(update(collections).where(*empty).values(canary=canary))
            return str(connection.execute(select(collections.c.canary).where(collections.c.name == name)).scalar_one())

    def set_profile(self, name: str, profile: str) -> None:
        """Fix the settings that hold for a generation."""
        with writing(self._engine) as connection:
            connection.execute(update(collections).where(collections.c.name == name).values(profile=profile))

    def set_note(self, name: str, note: str) -> None:
        """Record why a generation was not swapped in."""
        with writing(self._engine) as connection:
            connection.execute(update(collections).where(collections.c.name == name).values(note=note))

    def swap(self, old: str, new: str) -> str:
        """Make `new` live in the place of `old`; return a human-readable reason if that must wait, else nothing.

        It is done only where both are at rest and hold the same versions of the same documents. Whoever stages or deletes a
        document of `old` from then on is refused, and begins again with `new`. Raises CollectionReplaced where somebody else has
        swapped or dropped one of them.
        """
        with writing(self._engine) as connection:
            # The lock that staging takes too, so that nothing slips in between this look and the swap.
            locked = select(collections.c.name, collections.c.state).where(collections.c.name.in_((old, new)))
            states = {row.name: row.state for row in connection.execute(locked.order_by(collections.c.name).with_for_update())}
            if states != {old: LIVE, new: BUILDING}:
                raise CollectionReplaced(f"another command has swapped or dropped {old!r} or {new!r} meanwhile")
            if count_open(connection, (old, new), 1):
                return "documents are being worked on"
            if differences(connection, old, new, 1) or surplus(connection, old, new, 1):
                return "documents have changed"
            _exchange(connection, old, new)
        return ""

    def roll_back(self, public: str) -> tuple[Collection, Collection] | None:
        """Make the generation live again that was replaced last; return what was live and what is, or None without one."""
        with writing(self._engine) as connection:
            rows = connection.execute(select(collections).where(_is_of(public)).with_for_update()).all()
            found = [Collection(**row._mapping) for row in rows]
            live = next((one for one in found if one.state == LIVE), None)
            before = [one for one in found if one.state == SUPERSEDED]
            if live is None or not before:
                return None
            last = max(before, key=lambda one: one.swapped_at or 0.0)
            _exchange(connection, live.name, last.name)
        return live, last

    def drop(self, name: str, state: str) -> bool:
        """Forget a generation in this state, with its documents; whether it was there.

        The caller then drops its points and calls `dropped`; if it dies in between, `dropping` still names them.
        """
        with writing(self._engine) as connection:
            wanted = (collections.c.name == name, collections.c.state == state)
            physical = connection.execute(select(collections.c.physical).where(*wanted).with_for_update()).scalar()
            if physical is None:
                return False
            row = {"key": _DROPPING + physical, "value": str(time.time())}
            connection.execute(upsert(connection, meta).values(row).on_conflict_do_nothing())
            connection.execute(delete(collections).where(*wanted))
            connection.execute(delete(documents).where(documents.c.collection == name))
        return True

    def dropping(self) -> dict[str, float]:
        """Physical collections of generations that were dropped, whose points may still be there, and since when."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.startswith(_DROPPING))).all()
        return {key.removeprefix(_DROPPING): float(value) for key, value in rows}

    def dropped(self, physical: str) -> None:
        """Record that the points of a dropped generation are gone."""
        with writing(self._engine) as connection:
            connection.execute(delete(meta).where(meta.c.key.in_((_DROPPING + physical, _POSTPONED + physical))))

    def put_off(self, collection: Collection, links: int) -> None:
        """Record that a collection's graph is not built for now, and how many links its nodes have when it is."""
        row = {"key": _POSTPONED + collection.physical, "value": json.dumps([collection.name, links])}
        with writing(self._engine) as connection:
            connection.execute(upsert(connection, meta).values(row).on_conflict_do_nothing())

    def postponed(self) -> list[tuple[str, str, int]]:
        """Collection, physical collection and links of all deferred graphs."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.startswith(_POSTPONED))).all()
        return [(name, key.removeprefix(_POSTPONED), links) for key, value in rows for name, links in [json.loads(value)]]

    def not_put_off(self, physical: str) -> None:
        """Forget that a graph was deferred."""
        with writing(self._engine) as connection:
            connection.execute(delete(meta).where(meta.c.key == _POSTPONED + physical))


def live_name(public: ColumnElement[str]) -> ColumnElement[str]:
    """SQL for the name of the generation that answers to a collection's name; that name itself where none is recorded."""
    live = select(collections.c.name).where(_is_of(public), collections.c.state == LIVE)
    return func.coalesce(live.scalar_subquery(), public)


def count_open(connection: Connection, names: Sequence[str], most: int) -> int:
    """Documents of these generations with work ahead of them; counted up to `most`."""
    # Concatenated, so that SQLite takes the index of the states: the collection's may hold a million that are done.
    wanted = (documents.c.state.in_(OPEN_STATES), documents.c.collection.concat("").in_(names))
    found = select(documents.c.id).where(*wanted).limit(most)
    return int(connection.execute(select(func.count()).select_from(found.subquery())).scalar_one())


def _is_of(public: str | ColumnElement[str]) -> ColumnElement[bool]:
    """Generations of a collection, the first one included, which has no other name than it."""
    return or_(and_(collections.c.name == public, collections.c.serves == ""), collections.c.serves == public)


def _exchange(connection: Connection, old: str, new: str) -> None:
    now = time.time()
    for name, state in ((old, SUPERSEDED), (new, LIVE)):
        connection.execute(update(collections).where(collections.c.name == name).values(state=state, swapped_at=now, note=""))
