"""Fields of metadata: the type of each in a collection, and the values of documents, which lists are filtered by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Float,
    Integer,
    String,
    Table,
    Text,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
)

from pipeline.filters import Condition, FieldType, Op, Types
from pipeline.filters.binding import instant
from pipeline.ledger.schema import collections, documents, metadata, reading, upsert, writing
from pipeline.types import MetadataValue

fields = Table(
    "fields",
    metadata,
    Column("collection", String(255), primary_key=True),  # its public name: all its generations have the same fields
    Column("name", String(64), primary_key=True),
    Column("type", String(16), nullable=False),  # that of the first value
)

document_fields = Table(
    "document_fields",
    metadata,
    # Of the indexed version, a row for each text of a list; a trigger deletes them with their document.
    Column("document", String(36), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("text", Text),  # of a keyword
    Column("number", Float(53)),  # of others: truth values are 0 and 1, times are seconds since the epoch
)


class Fields:
    """The fields of collections."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def types(self, generation: str) -> Types:
        """The fields of a collection with their types, by the name of any of its generations."""
        with reading(self._engine) as connection:
            return types_of(connection, generation)

    def add(self, generation: str, types: Types) -> Types:
        """Give fields their types, unless they have one already; return those of all fields."""
        with writing(self._engine) as connection:
            public = _public(connection, generation)
            rows = [{"collection": public, "name": name, "type": kind.value} for name, kind in types.items()]
            if rows:
                connection.execute(upsert(connection, fields).on_conflict_do_nothing(), rows)
            return types_of(connection, generation)


def types_of(connection: Connection, generation: str) -> Types:
    """See `Fields.types`."""
    rows = select(fields.c.name, fields.c.type).where(fields.c.collection == _public(connection, generation))
    return {row[0]: FieldType(row[1]) for row in connection.execute(rows.order_by(fields.c.name))}


def record(connection: Connection, generation: str, values: Mapping[str, Mapping[str, MetadataValue]]) -> None:
    """Replace the values of documents of one collection."""
    connection.execute(delete(document_fields).where(document_fields.c.document.in_(list(values))))
    if any(values.values()):
        types = types_of(connection, generation)
        rows = [row for key, several in values.items() for row in _rows(key, several, types)]
        connection.execute(insert(document_fields), rows)


def passing(wanted: Condition) -> ColumnElement[bool]:
    """Condition on rows of documents: a field of metadata passes a bound condition."""
    column = document_fields.c
    ours = and_(column.document == documents.c.id, column.name == wanted.field)
    if wanted.op is Op.EXISTS:
        return exists().where(ours)
    if wanted.op is Op.BEGINS:
        prefix = str(wanted.values[0])
        return exists().where(ours, func.substr(column.text, 1, len(prefix)) == prefix)  # LIKE ignores case in SQLite
    if wanted.op is Op.IN:
        texts = [value for value in wanted.values if isinstance(value, str)]
        numbers = [_number(value) for value in wanted.values if not isinstance(value, str)]
        return exists().where(ours, or_(column.text.in_(texts), column.number.in_(numbers)))
    limit = _number(wanted.values[0])
    compared = {
        Op.LESS: column.number < limit,
        Op.AT_MOST: column.number <= limit,
        Op.MORE: column.number > limit,
        Op.AT_LEAST: column.number >= limit,
    }
    return exists().where(ours, compared[wanted.op])


def _public(connection: Connection, generation: str) -> str:
    public = func.coalesce(func.nullif(collections.c.serves, ""), collections.c.name)
    return str(connection.execute(select(public).where(collections.c.name == generation)).scalar() or generation)


def _rows(document: str, values: Mapping[str, MetadataValue], types: Types) -> Iterable[dict[str, object]]:
    for name, value in values.items():
        kind = types.get(name, FieldType.KEYWORD)
        for ordinal, one in enumerate(value if isinstance(value, tuple) else (value,)):
            text = str(one) if kind is FieldType.KEYWORD else None
            number = None if text is not None else _number(instant(str(one)) if kind is FieldType.DATETIME else one)
            yield {"document": document, "name": name, "ordinal": ordinal, "text": text, "number": number}


def _number(value: object) -> float:
    return value.timestamp() if isinstance(value, datetime) else float(value)  # type: ignore[arg-type]
