"""Facets: which fields documents have, and how many documents have which value; of those that searches find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Engine, and_, distinct, func, select

from pipeline.errors import FilterError
from pipeline.filters import FieldType, Filters
from pipeline.ledger.browse import matching, of_generation
from pipeline.ledger.fields import document_fields, types_of
from pipeline.ledger.schema import documents, reading
from pipeline.metadata import written
from pipeline.sources.uris import folder_of

#: Fields of all documents that have few values. Others, such as the URI, are different in each document.
OWN_FACETS = ("folder", "media_type")

#: Under another name than in filters, which look for values of the same documents.
values_of = document_fields.alias("facet_values")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: A value as JSON and people have it; times are texts.
FacetValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class FieldCount:
    """A field of a collection."""

    name: str
    type: str
    documents: int  #: that have it


@dataclass(frozen=True, slots=True)
class ValueCount:
    """A value of a field."""

    value: FacetValue
    documents: int  #: that have it, alone or in a list


@dataclass(frozen=True, slots=True)
class Facet:
    """The values of a field, the most frequent first."""

    field: str
    type: str
    values: Sequence[ValueCount]
    distinct: int  #: number of different values, of which `values` may be the first
    least: FacetValue | None = None  #: of numbers and times
    greatest: FacetValue | None = None


class Facets:
    """Counts documents by field and value."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def fields(self, generation: str, filters: Filters = ()) -> list[FieldCount]:
        """The fields that documents of a generation have, by name, those of all documents last. Raises FilterError."""
        with reading(self._engine) as connection:
            types = types_of(connection, generation)
            chosen = _searchable(connection, generation, filters)
            total = connection.execute(select(func.count()).select_from(documents).where(*chosen)).scalar() or 0
            counted = func.count(distinct(values_of.c.document))
            names = select(values_of.c.name, counted).join_from(values_of, documents, _theirs(chosen))
            rows = connection.execute(names.group_by(values_of.c.name).order_by(values_of.c.name)).all()
        found = [FieldCount(row[0], types.get(row[0], FieldType.KEYWORD).value, int(row[1])) for row in rows]
        return found + [FieldCount(name, FieldType.KEYWORD.value, total) for name in OWN_FACETS if total]

    def has(self, generation: str, field: str, filters: Filters = ()) -> bool:
        """Whether `fields` would list this field; stops at the first document. Raises FilterError."""
        with reading(self._engine) as connection:
            chosen = _searchable(connection, generation, filters)
            if field in OWN_FACETS:
                found = select(documents.c.id).where(*chosen)
            else:
                found = select(documents.c.id).join_from(values_of, documents, _theirs(chosen)).where(values_of.c.name == field)
            return connection.execute(found.limit(1)).first() is not None

    def values(self, generation: str, field: str, filters: Filters = (), limit: int = 20) -> Facet:
        """Up to `limit` values of a field. Raises FilterError for a field or filter that the collection does not have."""
        with reading(self._engine) as connection:
            types = types_of(connection, generation)
            chosen = _searchable(connection, generation, filters)
            if field in OWN_FACETS:
                counts = _own(connection, field, chosen)
                best = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
                return Facet(field, FieldType.KEYWORD.value, [ValueCount(*item) for item in best], len(counts))
            if field not in types:
                known = ", ".join(sorted({*types, *OWN_FACETS}))
                raise FilterError(f"there is no field {field!r} whose values can be listed; use one of {known}")
            return _facet(connection, field, types[field], chosen, limit)


def _facet(connection: Connection, field: str, kind: FieldType, chosen: Sequence[ColumnElement[bool]], limit: int) -> Facet:
    column = values_of.c.text if kind is FieldType.KEYWORD else values_of.c.number
    counted = func.count(distinct(values_of.c.document))
    ours = values_of.c.name == field
    grouped = select(column, counted).join_from(values_of, documents, _theirs(chosen)).where(ours).group_by(column)
    rows = connection.execute(grouped.order_by(counted.desc(), column).limit(limit)).all()
    extent = select(func.count(distinct(column)), func.min(column), func.max(column))
    summary = extent.join_from(values_of, documents, _theirs(chosen)).where(ours)
    number, least, greatest = connection.execute(summary).one()
    values = [ValueCount(_shown(row[0], kind), int(row[1])) for row in rows]
    if kind in (FieldType.KEYWORD, FieldType.BOOL) or not values:
        return Facet(field, kind.value, values, int(number))
    return Facet(field, kind.value, values, int(number), _shown(least, kind), _shown(greatest, kind))


def _searchable(connection: Connection, generation: str, filters: Filters) -> Sequence[ColumnElement[bool]]:
    found = (documents.c.indexed_hash != "", documents.c.chunks > 0)
    return [*of_generation(generation), *found, matching(connection, generation, filters)]


def _theirs(chosen: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    """Values are those of the chosen documents."""
    return and_(documents.c.id == values_of.c.document, *chosen)


def _own(connection: Connection, field: str, chosen: Sequence[ColumnElement[bool]]) -> Counter[str]:
    if field == "media_type":
        statement = select(documents.c.media_type, func.count()).where(*chosen).group_by(documents.c.media_type)
        return Counter({str(row[0]): int(row[1]) for row in connection.execute(statement)})
    # The ledger does not keep folders; 100,000 URIs are read in about a second.
    rows = connection.execute(select(documents.c.uri).where(*chosen).execution_options(yield_per=10_000))
    return Counter(folder_of(str(row[0])) for row in rows)


def _shown(value: object, kind: FieldType) -> FacetValue:
    if kind is FieldType.KEYWORD:
        return str(value)
    number = float(value)  # type: ignore[arg-type]
    if kind is FieldType.BOOL:
        return bool(number)
    if kind is FieldType.DATETIME:
        return written(_EPOCH + timedelta(seconds=number))
    return int(number) if kind is FieldType.INTEGER else number
