"""Documents as readers list them: those of the live generation of a collection, filtered as a search is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, false, func, not_, or_, select, true

from pipeline.filters import OWN_TYPES, Condition, Either, Filters, Limit, Node, Not, Op, bind, conditions, tree_of
from pipeline.ledger import fields
from pipeline.ledger.schema import LIVE, collections, documents, reading
from pipeline.sources.uris import MEMBER, quoted_path
from pipeline.types import DocumentState, MetadataValue


@dataclass(frozen=True, slots=True)
class Listing:
    """One document of a list."""

    id: str
    collection: str  #: the generation that it belongs to
    uri: str
    title: str
    media_type: str
    size: int  #: bytes
    state: str
    reason: str
    detail: str
    chunks: int  #: of the version that searches find
    run: int  #: that brought the version
    parent: str  #: id of the document that this one is a file of; empty for others
    updated_at: float
    indexed_hash: str  #: of the version that searches find; empty if there is none
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)  #: of that version


class Browse:
    """Reads documents by page and by id. A document that a filter leaves out is treated as one that does not exist."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, generation: str, filters: Filters = (), *, state: str = "", after: str = "", limit: int = 100) -> list[Listing]:
        """Up to `limit` documents of a generation in the order of their ids, from the one after the id `after` on."""
        with reading(self._engine) as connection:
            wanted = [*of_generation(generation), matching(connection, generation, filters), documents.c.id > after]
            if state:
                wanted.append(documents.c.state == state)
            rows = connection.execute(_columns().where(*wanted).order_by(documents.c.id).limit(limit))
            return [_listing(row) for row in rows]

    def get(self, document: str, filters: Filters = ()) -> tuple[Listing, str] | None:
        """A document that the filters let through, and its collection's public name; None if no live generation has it."""
        public = func.coalesce(func.nullif(collections.c.serves, ""), collections.c.name)
        statement = (
            _columns()
            .add_columns(public)
            .join(collections, collections.c.name == documents.c.collection)
            .where(documents.c.id == document, collections.c.state == LIVE, documents.c.state != DocumentState.DELETED)
        )
        with reading(self._engine) as connection:
            generation = connection.execute(select(documents.c.collection).where(documents.c.id == document)).scalar()
            row = connection.execute(statement.where(matching(connection, generation or "", filters))).first()
        return None if row is None else (_listing(row[:-1]), row[-1])

    def count(self, generation: str, filters: Filters = ()) -> dict[str, int]:
        """Documents of a generation by state; those marked as deleted are left out."""
        with reading(self._engine) as connection:
            wanted = (*of_generation(generation), matching(connection, generation, filters))
            rows = connection.execute(select(documents.c.state, func.count()).where(*wanted).group_by(documents.c.state))
            return {row[0]: int(row[1]) for row in rows}


def matching(connection: Connection, generation: str, filters: Filters) -> ColumnElement[bool]:
    """Condition on rows of documents of a generation that means what the filters mean in the store. Raises FilterError."""
    tree = tree_of(filters)
    is_own = all(one.field in OWN_TYPES for one in conditions(tree))
    return _passing(bind(tree, OWN_TYPES if is_own else {**fields.types_of(connection, generation), **OWN_TYPES}))


def _passing(wanted: Node) -> ColumnElement[bool]:
    if isinstance(wanted, Condition):
        return _condition(wanted)
    if isinstance(wanted, Not):
        return not_(_passing(wanted.part))
    if isinstance(wanted, Limit):
        return _passing(wanted.part)
    parts = [_passing(part) for part in wanted.parts]
    if isinstance(wanted, Either):
        return or_(false(), *parts)
    return and_(true(), *parts)


def _condition(wanted: Condition) -> ColumnElement[bool]:
    if wanted.field not in OWN_TYPES:
        return fields.passing(wanted)
    if wanted.op is Op.EXISTS:
        return true()
    values = [str(value) for value in wanted.values]
    if wanted.field == "folder":
        return or_(false(), *(_folder(value, wanted.op is Op.BEGINS) for value in values))
    column = documents.c["id" if wanted.field == "document_id" else wanted.field]
    return _begins(column, values[0]) if wanted.op is Op.BEGINS else column.in_(values)


def _folder(value: str, is_prefix: bool) -> ColumnElement[bool]:
    """The ledger does not keep folders: they are compared with the beginning of the URI, which is percent-encoded."""
    if is_prefix and not value:
        return true()
    protocol, colon, path = value.partition("://")
    if not colon and value.startswith("/"):
        protocol, path = "file", value
    elif protocol == "file":
        return false()  # folders of files are paths
    elif not colon:  # as `s` of `s3://bucket`
        return _all_of(value) if is_prefix else false()
    start = f"{protocol}://{quoted_path(protocol, path)}"
    # Of a file in an archive, `!` is not encoded: it stands between the two URIs.
    uri = func.replace(documents.c.uri, MEMBER, f"%21{MEMBER[1:]}") if "!" in path else documents.c.uri
    if is_prefix and path in ("", "/"):
        return _begins(uri, start)
    if not is_prefix and not start.endswith("/"):
        start += "/"
    elif not is_prefix and path not in ("", "/"):
        return false()  # no folder is written like that
    rest = func.substr(uri, len(start) + 1)
    has_folder = func.replace(rest, "/", "") != rest
    return and_(_begins(uri, start), has_folder if is_prefix else not_(has_folder))


def _all_of(protocols: str) -> ColumnElement[bool]:
    """Objects of the protocols that begin like this."""
    return and_(_begins(documents.c.uri, protocols), not_(_begins(documents.c.uri, "file://")))


def _begins(uri: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """Not by LIKE, which ignores case in SQLite."""
    return func.substr(uri, 1, len(prefix)) == prefix


def of_generation(generation: str) -> Sequence[ColumnElement[bool]]:
    """Conditions on rows of documents: they are in a generation, and not marked as deleted."""
    # Concatenated, so that SQLite walks by id instead of sorting the collection again for each page.
    return documents.c.collection.concat("") == generation, documents.c.state != DocumentState.DELETED


def _columns() -> Select[tuple[object, ...]]:
    return select(*(documents.c[name] for name in Listing.__dataclass_fields__))


def _listing(row: Sequence[object]) -> Listing:
    values = dict(zip(Listing.__dataclass_fields__, row, strict=True))
    values |= {name: values[name] or "" for name in ("reason", "detail")}
    values["metadata"] = json.loads(str(values["metadata"] or "{}"))
    return Listing(**values)  # type: ignore[arg-type]
