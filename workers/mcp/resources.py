"""Documents as resources: listed page by page, and read as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from pipeline.ledger import Ledger
from pipeline.ledger.browse import Listing
from pipeline.ledger.tokens import Grant
from workers.api.documents import described
from workers.api.engine import Engine
from workers.api.models import ChunkOut
from workers.api.problems import Refusal
from workers.mcp import TEMPLATE

#: A URI of the template.
_URI = re.compile(r"kb://documents/([0-9a-fA-F-]{1,64})(?:\?chunk_after=([0-9]{1,9}))?")

#: Documents in one page of the list, and chunks in one reading.
PAGE, CHUNKS = 100, 200

#: Form of a cursor: the id of the last document that was listed, and its collection.
_CURSOR = re.compile(r"([0-9a-fA-F-]{0,64})\.([^\x00]{0,2000})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Text:
    """A document's text, or a part of it."""

    uri: str
    text: str
    next: str | None  #: URI of the rest


def uri_of(document: str, after: int | None = None) -> str:
    """The URI of a document's text, after a chunk if one is given."""
    return f"kb://documents/{document}" + ("" if after is None else f"?chunk_after={after}")


def place_of(uri: str) -> tuple[str, int]:
    """The document that a URI means, and the chunk after which its text begins. Raises Refusal for another URI."""
    found = _URI.fullmatch(unquote(uri))
    if found is None:
        raise Refusal(404, "resource_missing", f"resources have URIs like {TEMPLATE}")
    return found[1], -1 if found[2] is None else int(found[2])


def page(ledger: Ledger, grant: Grant, cursor: str | None) -> tuple[list[Listing], str | None]:
    """Searchable documents of all collections that exist for the caller, and the cursor of the next page. Raises Refusal."""
    found = _CURSOR.fullmatch("." if cursor is None else cursor)
    if found is None:
        raise Refusal(422, "invalid", "this cursor is not one of ours")
    after, name = found[1], found[2]
    # By name, so that a page is complete although collections come and go.
    live = {one.public: one.name for one in ledger.collections.live_ones() if grant.sees(one.public)}
    for public in sorted(one for one in live if one >= name):
        rows: list[Listing] | None = None
        while rows is None or len(rows) == PAGE:
            rows = ledger.browse.page(live[public], grant.filters, after=after if public == name else "", limit=PAGE)
            after, name = rows[-1].id if rows else "", public
            listed = [one for one in rows if one.indexed_hash]
            if listed:
                return listed, f"{after}.{public}"
    return [], None


def text_of(engine: Engine, grant: Grant, uri: str) -> Text:
    """The text behind a URI. Raises Refusal: a document that does not exist for the caller has the answer of one that is none."""
    key, after = place_of(uri)
    document = described(engine, grant, key, CHUNKS, after)
    last = after + CHUNKS
    following = uri_of(document.id, last) if last < document.chunks - 1 else None
    return Text(uri, _written(document.chunk_list), following)


def _written(chunks: Sequence[ChunkOut]) -> str:
    """Chunks as one text, with a line for each new heading path."""
    parts: list[str] = []
    path: list[str] = []
    for chunk in chunks:
        if chunk.heading_path != path:
            path = chunk.heading_path
            parts.append(f"# {' > '.join(path)}")
        parts.append(chunk.text)
    return "\n\n".join(parts)
