"""Documents as resources: pages are complete over several collections, and only URIs of documents are read."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, update

from pipeline.filters import Granted
from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.ledger.schema import documents
from pipeline.ledger.tokens import EVERYTHING, Grant
from pipeline.sources.uris import object_uri
from pipeline.types import SourceFile, StagedFile, document_id
from workers.api.problems import Refusal
from workers.mcp import resources

#: Documents of each collection.
COUNTS = {"a": 3, "b.c": 5, "empty": 0, "even": 4, "z": 1}


@pytest.fixture
def stored(ledger: Ledger, url: str) -> Ledger:
    """Collections whose documents are searchable, apart from one of each."""
    for run, (name, count) in enumerate(COUNTS.items(), 1):
        ledger.collections.add(Collection(name, f"{name}-1", "m", "r", 4, "f", "[]", 0.0))
        uris = [object_uri("upload", f"{name}/{number}.txt") for number in range(count)]
        staged = {document_id(name, uri): StagedFile(SourceFile(uri, None, 10, 1), "1" * 64, "") for uri in uris}
        if staged:
            ledger.intake.record_staged(name, run, staged)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(update(documents).where(~documents.c.uri.endswith("/0.txt")).values(indexed_hash="1" * 64))
    engine.dispose()
    return ledger


def listed(ledger: Ledger, grant: Grant) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page, cursor = resources.page(ledger, grant, cursor)
        found += [one.uri for one in page]
        if cursor is None:
            return found


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_all_pages_together_are_all_searchable_documents(stored: Ledger, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "PAGE", size)
    every = [f"upload://{name}/{number}.txt" for name, count in COUNTS.items() for number in range(1, count)]
    assert sorted(listed(stored, EVERYTHING)) == sorted(every)
    one = Grant("one", ("search",), ("b.c", "z"), (Granted(("uri", "upload://b*")),))
    assert sorted(listed(stored, one)) == [uri for uri in sorted(every) if uri.startswith("upload://b.c/")]


@pytest.mark.parametrize("cursor", ["", "garbage", "x.documents", "0.\x00"])
def test_cursors_of_others_are_refused(ledger: Ledger, cursor: str) -> None:
    with pytest.raises(Refusal, match="not one of ours"):
        resources.page(ledger, EVERYTHING, cursor)


def test_uris_of_documents() -> None:
    assert resources.place_of(resources.uri_of("0a-1")) == ("0a-1", -1)
    assert resources.place_of(resources.uri_of("0a-1", 199)) == ("0a-1", 199)
    for uri in ("", "kb://documents/", "kb://documents/zz", "kb://documents/1/..", "kb://documents/1?chunk_after=-2", "file:///1"):
        with pytest.raises(Refusal, match="resources have URIs like"):
            resources.place_of(uri)
