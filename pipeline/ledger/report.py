"""What people read from the ledger: counts, failures, workers, expected points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

from sqlalchemy import Engine, case, func, literal_column, select

from pipeline.ledger.advances import InWork, in_work
from pipeline.ledger.schema import current, documents, reading
from pipeline.types import OPEN_STATES, DocumentState


@dataclass(frozen=True, slots=True)
class QuarantinedDocument:
    """A quarantined document."""

    uri: str
    reason: str
    detail: str
    starts: int


@dataclass(frozen=True, slots=True)
class Grouped:
    """Documents quarantined for one reason."""

    collection: str
    reason: str
    documents: int
    example: str  #: uri of one of them


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, or the whole ledger."""

    states: dict[str, int]  #: documents by state
    chunks: int  #: points of the indexed documents
    embedded: int  #: of them, embedded by these runs
    open: int  #: documents with work ahead of them
    tokens: int = 0  #: of the indexed documents
    left_tokens: int | None = None  #: of the open ones; estimated by their size where they are not parsed; None: nobody knows
    parsed: int = 0  #: chunks made so far, of indexed documents and of open ones
    written: int = 0  #: of them, in the store, those of documents that are not complete included
    written_tokens: int = 0  #: of these chunks
    bytes: int = 0  #: of the files of indexed and open documents
    unparsed_bytes: int = 0  #: of them, not read by a parser yet


@dataclass(frozen=True, slots=True)
class Held:
    """Documents of a generation in one state."""

    generation: str
    state: str
    documents: int
    chunks: int  #: of the version that is searchable, as are the tokens
    tokens: int
    bytes: int  #: of the files


@dataclass(frozen=True, slots=True)
class Expected:
    """What the store must hold for a document."""

    id: str
    uri: str
    content_hash: str
    parse_fingerprint: str
    chunks: int


class Report:
    """Everything that only reads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def progress(self, run: int | None = None, collection: str | None = None) -> Progress:
        """Counts of a run, of a collection, or of everything."""
        wanted = [documents.c.run == run] if run is not None else []
        if collection is not None:
            # Concatenated, so that SQLite reads row after row: by its index on collections it takes ten times as long.
            wanted.append(documents.c.collection.concat("") == collection)
        names = ("chunks", "embedded", "size", "tokens", "parsed_tokens", "parsed_chunks")
        unparsed = case((documents.c.parsed_tokens == 0, documents.c.size), else_=0)
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(documents.c.state, func.count(), *(func.sum(documents.c[name]) for name in names), func.sum(unparsed))
                .where(*(wanted or [current()]))
                .group_by(documents.c.state)
            ).all()
            working = in_work(connection, run, collection)
        states = {row[0]: int(row[1]) for row in rows}
        sums = {row[0]: _Sums(*(int(value or 0) for value in row[2:])) for row in rows}
        return _progress(states, sums, working)

    def is_open(self, run: int) -> bool:
        """Whether a run has open documents; reads one row."""
        wanted = select(documents.c.id).where(documents.c.run == run, documents.c.state.in_(OPEN_STATES)).limit(1)
        with reading(self._engine) as connection:
            return connection.execute(wanted).first() is not None

    def failures(
        self, run: int | None = None, collection: str | None = None, reason: str | None = None, limit: int = 100
    ) -> list[QuarantinedDocument]:
        """Quarantined documents, the newest first; a reason selects skipped ones, too."""
        states = (DocumentState.QUARANTINED, DocumentState.SKIPPED) if reason else (DocumentState.QUARANTINED,)
        wanted = [documents.c.state.in_(states), current()]
        if run is not None:
            wanted.append(documents.c.run == run)
        if collection is not None:
            wanted.append(documents.c.collection == collection)
        if reason is not None:
            wanted.append(documents.c.reason == reason)
        columns = (documents.c.uri, documents.c.reason, documents.c.detail, documents.c.starts)
        with reading(self._engine) as connection:
            rows = connection.execute(select(*columns).where(*wanted).order_by(documents.c.updated_at.desc()).limit(limit))
            return [QuarantinedDocument(row[0], row[1] or "", row[2] or "", row[3]) for row in rows]

    def skipped(self, run: int) -> dict[str, int]:
        """Number of skipped documents of a run by reason, the most first."""
        wanted = (documents.c.run == run, documents.c.state == DocumentState.SKIPPED)
        count = func.count()
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(documents.c.reason, count).where(*wanted).group_by(documents.c.reason).order_by(count.desc())
            )
            return {row[0] or "": int(row[1]) for row in rows}

    def quarantined(self, collection: str | None = None, state: DocumentState = DocumentState.QUARANTINED) -> list[Grouped]:
        """Quarantined documents, or those in another `state`, counted by collection and reason, the most first."""
        wanted = [documents.c.state == state, current()]
        if collection is not None:
            wanted.append(documents.c.collection == collection)
        columns = (documents.c.collection, documents.c.reason)
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(*columns, func.count().label("n"), func.min(documents.c.uri))
                .where(*wanted)
                .group_by(*columns)
                .order_by(func.count().desc())
            )
            return [Grouped(*row) for row in rows]

    def held(self) -> list[Held]:
        """What there is by generation and state, those that were replaced included; reads every document's row."""
        # Concatenated, as SQLite would else go by the index of collections, and fetch the rows in an order of no use.
        generation = documents.c.collection.concat(literal_column("''")).label("generation")
        sums = (func.sum(documents.c.chunks), func.sum(documents.c.tokens), func.sum(documents.c.size))
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(generation, documents.c.state, func.count(), *sums).group_by(generation, documents.c.state)
            )
            return [Held(row[0], row[1], *map(int, row[2:])) for row in rows]

    def open(self) -> dict[str, int]:
        """Documents with work ahead of them, by state; reads an index and no document."""
        counts = dict.fromkeys(map(str, OPEN_STATES), 0)
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(documents.c.state, func.count()).where(documents.c.state.in_(OPEN_STATES)).group_by(documents.c.state)
            )
            return counts | {row[0]: int(row[1]) for row in rows}

    def expected(self, collection: str, window: int = 1000) -> Iterator[list[Expected]]:
        """Documents of a collection that have points, in windows: memory does not grow with the collection."""
        columns = (documents.c.id, documents.c.uri, documents.c.indexed_hash, documents.c.indexed_parse, documents.c.chunks)
        last = ""
        while True:
            with reading(self._engine) as connection:
                rows = connection.execute(
                    select(*columns)
                    .where(
                        # Concatenated, so that SQLite walks by id instead of sorting the collection again for each window.
                        documents.c.collection.concat("") == collection,
                        documents.c.id > last,
                        documents.c.indexed_hash != "",
                        documents.c.state != DocumentState.DELETED,
                    )
                    .order_by(documents.c.id)
                    .limit(window)
                ).all()
            if not rows:
                return
            yield [Expected(*row) for row in rows]
            last = rows[-1][0]


@dataclass(frozen=True, slots=True)
class _Sums:
    """Of documents in one state."""

    chunks: int = 0
    embedded: int = 0
    size: int = 0
    tokens: int = 0
    parsed_tokens: int = 0
    parsed_chunks: int = 0
    unparsed: int = 0  #: bytes of those that are not parsed

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))


def _progress(states: dict[str, int], sums: Mapping[str, _Sums], working: Sequence[InWork]) -> Progress:
    """Sums by state, and what is known of documents that are part of the way through a stage."""
    indexed = sums.get(DocumentState.INDEXED, _Sums())
    opened = sum((sums[state] for state in OPEN_STATES if state in sums), _Sums())
    # What is parsed for the first time; of what was parsed before, all is known.
    parsing = [one for one in working if one.state == DocumentState.PARSING and not one.parsed_tokens]
    embedding = [one for one in working if one.state == DocumentState.EMBEDDING]
    # Where a parser does not know how much it has read, its chunks say nothing about what is left.
    told = [one for one in parsing if one.bytes]
    unparsed = opened.unparsed - sum(one.bytes for one in told)
    tokens = opened.parsed_tokens + sum(one.tokens for one in told)
    left = _left_tokens(tokens, opened.size, unparsed, indexed)
    written = sum(min(one.tokens, one.parsed_tokens) for one in embedding)
    # Chunk files from before schema 5 were not counted.
    unmatched = sum(max(0, one.chunks - one.parsed_chunks) for one in embedding)
    return Progress(
        states,
        chunks=indexed.chunks,
        embedded=indexed.embedded,
        open=sum(states.get(state, 0) for state in OPEN_STATES),
        tokens=indexed.tokens,
        left_tokens=None if left is None else max(0, left - written),
        parsed=indexed.chunks + opened.parsed_chunks + sum(one.chunks for one in parsing) + unmatched,
        written=indexed.chunks + sum(one.chunks for one in embedding),
        written_tokens=indexed.tokens + sum(one.tokens for one in embedding),
        bytes=indexed.size + opened.size,
        unparsed_bytes=unparsed,
    )


def _left_tokens(parsed: int, size: int, unparsed: int, indexed: _Sums) -> int | None:
    """Tokens of open documents of this size: `parsed` of them are known, of `unparsed` bytes as many a byte as elsewhere."""
    # What tokens and bytes have to do with each other is known of what is parsed or searchable.
    tokens = parsed + indexed.tokens
    if unparsed and not tokens:
        return None
    return parsed + round(unparsed * tokens / max(1, size - unparsed + indexed.size))
