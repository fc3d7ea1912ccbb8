"""What LangChain reads of a point as its metadata follows every change of the fields that it repeats."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.steps.promote import promote
from pipeline.store import points as convert
from pipeline.store.base import VectorStore
from pipeline.store.edge import EdgeStore
from pipeline.types import PointMeta
from tests.made_points import DIMENSION, made_document, made_points
from tests.old_collections import stored_payload

GUIDE = made_document("guide.txt")
FIELDS = ("uri", "title", "folder", "media_type", "heading_path", "page_first", "page_last", "fields")


@pytest.fixture
def read(store: VectorStore, tmp_path: Path, name: str) -> Callable[[str], dict[str, Any]]:
    return lambda point_id: stored_payload(store, tmp_path / "qdrant", name, point_id)


def repeated(payload: dict[str, Any]) -> dict[str, Any]:
    """The fields of a payload that its metadata has to repeat; the embedded engine stores no null."""
    return {name: payload[name] for name in FIELDS if payload.get(name) is not None}


def without_null(metadata: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if value is not None}


def test_a_point_has_its_metadata_in_one_object(store: VectorStore, name: str, read: Callable[[str], dict[str, Any]]) -> None:
    points = made_points(GUIDE, 2)
    store.upsert(name, points)
    assert read(points[1][1].chunk.id)["metadata"] == {
        "uri": GUIDE.uri, "title": GUIDE.title, "folder": "/guides", "media_type": "text/plain",
        "heading_path": ["Guide", "Part 1"], "page_first": 2, "page_last": 2,
    }  # fmt: skip


def test_it_follows_every_change(store: VectorStore, name: str, read: Callable[[str], dict[str, Any]]) -> None:
    points = made_points(GUIDE, 2)
    store.upsert(name, points)
    changed, same = (embedded.chunk.id for _, embedded in points)
    store.update_document(name, replace(GUIDE, uri="file:///new/place.md", title="New", folder="/new", media_type="text/markdown"))
    store.update_meta(name, {changed: PointMeta(0, None, 9, 1, 2)})
    for point_id, page in ((changed, 9), (same, 2)):
        payload = read(point_id)
        assert without_null(payload["metadata"]) == repeated(payload)
        assert (payload["metadata"]["title"], payload["metadata"]["page_last"]) == ("New", page)
    assert read(changed)["metadata"].get("page_first") is None


def test_points_that_were_stored_without_it(
    store: VectorStore, name: str, new_name: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found and changed as before, and have it as soon as they are copied."""
    source, old = EdgeStore(tmp_path / "source", role="owner"), new_name()
    source.create(old, DIMENSION)
    points = made_points(GUIDE, 3)
    with monkeypatch.context() as patch:
        whole = convert.payload_of
        patch.setattr(convert, "payload_of", lambda d, c: {k: v for k, v in whole(d, c).items() if k != convert.METADATA})
        source.upsert(old, points)
    first = points[0][1]
    assert "metadata" not in stored_payload(source, tmp_path / "source", old, first.chunk.id)
    renamed = replace(GUIDE, title="New")
    source.update_document(old, renamed)
    source.update_meta(old, {first.chunk.id: PointMeta(7, 5, 6, 1, 2)})
    hit = source.search(old, first.vector, 1, {"uri": GUIDE.uri})[0]
    assert (hit.title, hit.page_first, hit.page_last) == ("New", 5, 6)
    promote(source, store, old, f"{old}-alias", lambda *_: None)
    source.close()
    copied = stored_payload(store, tmp_path / "qdrant", old, first.chunk.id)
    assert copied["metadata"] == repeated(copied)


def test_what_is_repeated_counts_for_the_size_of_a_request() -> None:
    """A request may be refused for its bytes: what is estimated is no less than what is sent."""
    document = replace(GUIDE, uri="file:///" + "u" * 2000, title="t" * 3000, folder="/" + "f" * 1500)
    points = [
        (document, replace(embedded, chunk=replace(embedded.chunk, heading_path=("h" * 900, "é" * 900))))
        for _, embedded in made_points(document, 40)
    ]
    limit = 200_000
    batches = list(convert.batches(points, 1000, limit, 22))
    assert sum(len(batch) for batch in batches) == 40
    for batch in batches:
        rows = [{"id": e.chunk.id, "vector": e.vector, "payload": convert.payload_of(d, e.chunk)} for d, e in batch]
        assert len(json.dumps(rows, ensure_ascii=False).encode()) <= limit
