"""What documents hold that did not become text, by document and in sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, delete, distinct, func, insert, select

from pipeline.ledger.schema import current, documents, losses, reading
from pipeline.text import plural
from pipeline.types import DocumentState, Loss, LossKind

#: Nouns for the kinds of losses, for people.
NOUNS = {
    LossKind.PAGE_WITHOUT_TEXT: ("page without text", "pages without text"),
    LossKind.LOW_CONFIDENCE: ("line that OCR was not sure of", "lines that OCR was not sure of"),
    LossKind.PICTURE: ("picture without text", "pictures without text"),
    LossKind.CHART: ("chart", "charts"),
    LossKind.EMBEDDED_OBJECT: ("embedded object", "embedded objects"),
    LossKind.ATTACHMENT: ("attachment", "attachments"),
    LossKind.HIDDEN_SHEET: ("hidden sheet", "hidden sheets"),
    LossKind.FORMULA: ("formula without a value", "formulas without a value"),
    LossKind.ENCRYPTED_PART: ("encrypted part", "encrypted parts"),
    LossKind.UNREADABLE_PART: ("unreadable part", "unreadable parts"),
    LossKind.SCRIPTED_CONTENT: ("scripted page", "scripted pages"),
    LossKind.CUT_TEXT: ("cut text", "cut texts"),
    LossKind.MACHINE_TEXT: ("run of machine text", "runs of machine text"),
    LossKind.RECORD: ("record left out", "records left out"),
    LossKind.METADATA: ("metadata value left out", "metadata values left out"),
    LossKind.UNDECODABLE_BYTES: ("undecodable character", "undecodable characters"),
}


#: Ordinals from here on are those of metadata, which is told apart from its parser's losses: it changes without parsing.
METADATA_ORDINAL = 1_000_000


@dataclass(frozen=True, slots=True)
class LossSummary:
    """Losses of the indexed documents of a run or a collection."""

    documents: int  #: documents with losses
    kinds: dict[str, int]  #: number of losses by kind, the most first

    def __bool__(self) -> bool:
        return bool(self.documents)

    def __str__(self) -> str:
        """`12 documents indexed with losses: 31 pages without text, 4 attachments`."""
        return f"{plural(self.documents, 'document')} indexed with losses: {told(self.kinds)}"


@dataclass(frozen=True, slots=True)
class LossyDocument:
    """An indexed document with losses."""

    uri: str
    kinds: dict[str, int]


def told(kinds: Mapping[str, int]) -> str:
    """`31 pages without text, 4 attachments`."""
    return ", ".join(f"{count:,} {NOUNS[LossKind(kind)][count != 1]}" for kind, count in kinds.items())


class LossReport:
    """Reads losses."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of(self, document: str) -> list[Loss]:
        """The losses of the version of a document that was parsed last, in its order."""
        columns = (losses.c.kind, losses.c.place, losses.c.detail, losses.c["count"])
        with reading(self._engine) as connection:
            rows = connection.execute(select(*columns).where(losses.c.document == document).order_by(losses.c.ordinal))
            return [Loss(LossKind(row[0]), row[1], row[2], row[3]) for row in rows]

    def summary(self, run: int | None = None, collection: str | None = None) -> LossSummary:
        """Sums over the indexed documents of a run, of a collection, or of everything that is live."""
        joined = losses.join(documents, documents.c.id == losses.c.document)
        wanted = _wanted(run, collection)
        total = func.sum(losses.c["count"])
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(losses.c.kind, total).select_from(joined).where(*wanted).group_by(losses.c.kind).order_by(total.desc())
            ).all()
            count = connection.execute(select(func.count(distinct(losses.c.document))).select_from(joined).where(*wanted)).scalar()
        return LossSummary(int(count or 0), {row[0]: int(row[1]) for row in rows})

    def documents(self, run: int | None = None, collection: str | None = None, limit: int = 100) -> list[LossyDocument]:
        """Indexed documents with losses, those with the most first."""
        joined = losses.join(documents, documents.c.id == losses.c.document)
        total = func.sum(losses.c["count"])
        with reading(self._engine) as connection:
            most = connection.execute(
                select(documents.c.id, documents.c.uri)
                .select_from(joined)
                .where(*_wanted(run, collection))
                .group_by(documents.c.id, documents.c.uri)
                .order_by(total.desc(), documents.c.uri)
                .limit(limit)
            ).all()
            found: dict[str, dict[str, int]] = {row[0]: {} for row in most}
            rows = select(losses.c.document, losses.c.kind, total).where(losses.c.document.in_(list(found)))
            for row in connection.execute(rows.group_by(losses.c.document, losses.c.kind).order_by(total.desc())):
                found[row[0]][row[1]] = int(row[2])
        return [LossyDocument(row[1], found[row[0]]) for row in most]


def record(connection: Connection, found: Mapping[str, Sequence[Loss]]) -> None:
    """Replace the losses of documents."""
    connection.execute(delete(losses).where(losses.c.document.in_(list(found))))
    rows = [
        {
            "document": key,
            "ordinal": ordinal,
            "kind": loss.kind.value,
            "place": loss.place,
            "detail": loss.detail,
            "count": loss.count,
        }
        for key, several in found.items()
        for ordinal, loss in enumerate(several)
    ]
    if rows:
        connection.execute(insert(losses), rows)


def record_left_out(connection: Connection, found: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Replace what was left out of the metadata of documents: fields, and why."""
    ours = losses.c.document.in_(list(found))
    connection.execute(delete(losses).where(ours, losses.c.kind == LossKind.METADATA.value))
    rows = [
        {
            "document": key,
            "ordinal": METADATA_ORDINAL + number,
            "kind": LossKind.METADATA.value,
            "place": name,
            "detail": why,
            "count": 1,
        }
        for key, several in found.items()
        for number, (name, why) in enumerate(several)
    ]
    if rows:
        connection.execute(insert(losses), rows)


def _wanted(run: int | None, collection: str | None) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = [documents.c.state == DocumentState.INDEXED]
    if run is not None:
        wanted.append(documents.c.run == run)
    if collection is not None:
        wanted.append(documents.c.collection == collection)
    return wanted if len(wanted) > 1 else [*wanted, current()]
