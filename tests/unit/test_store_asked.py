"""What the process that has a shard of the embedded store open answers: the same as an own store, and what a token may see."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.filters import All, Condition, Either, FieldType, Filter, Filters, Granted, Limit, Node, Not, Op
from pipeline.store import wire
from pipeline.store.base import VectorStore
from pipeline.store.points import Payload
from pipeline.types import PointMeta
from tests.made_points import made_document, made_points, made_vector
from tests.unit.test_store_owner import GUIDE, SECRET, asker, filled, has_opened, owner


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path / "qdrant", "c")


def reads(store: VectorStore, name: str) -> list[object]:
    """What every method that reads says of a collection."""
    ids = [embedded.chunk.id for _, embedded in made_points(GUIDE, 300)[::50]]
    grant: Filters = [Granted("folder=/guides*"), "team = red or year > 2021"]
    return [
        *(store.search(name, made_vector(seed), 20, {}, text) for seed in (3, 70) for text in ("", "words 3", "part")),
        store.search(name, None, 20, {}, "some words 17"),
        store.search(name, made_vector(5), 400, grant, "words"),
        store.search(name, made_vector(5), 400, ["not (tags in (é, b)) and year != 2021"]),
        store.count(name),
        store.count(name, GUIDE.id),
        store.count(name, filters=grant),
        store.document_chunks(name, GUIDE.id),
        store.document_chunks(name, GUIDE.id, grant, [3, 1, 299, 1000]),
        store.document_chunks(name, SECRET.id, grant),
        store.document_points(name, [GUIDE.id, "0b8a5a3e-0000-5000-8000-000000000000"]),
        store.vectors(name, [*ids, "0b8a5a3e-0000-5000-8000-000000000000"]),
        store.fields(name),
        list(store.scan(name)),
        list(store.scan(name, with_vectors=True)),
        list(store.scan_points(name)),
        (store.dimension(name), store.has_parts(name), store.has_sparse(name), store.graph_links(name)),
        store.build_graph(name, 10**6),
        (store.collections(), store.aliases()),
    ]


@pytest.mark.parametrize("parts", [False, True])
def test_answers_are_those_of_an_own_store(tmp_path: Path, parts: bool) -> None:
    filled(tmp_path, "c", parts=parts)
    with asker(tmp_path) as store:
        own = reads(store, "c")
        assert has_opened(store) == ["c"]
    with owner(tmp_path, "c"), asker(tmp_path) as store:
        asked = reads(store, "c")
        assert has_opened(store) == []
    assert asked == own
    assert [len(one) for one in own[:8]] == [20] * 7 + [300]  # type: ignore[arg-type]


def writes(store: VectorStore) -> None:
    """Uses every method that writes to the points of a collection."""
    store.add_fields("c", {"pages": FieldType.FLOAT})
    late = replace(made_document("late.txt"), metadata=(("pages", 1.5),))
    store.upsert("c", made_points(late, 400))
    ids = [embedded.chunk.id for _, embedded in made_points(late, 400)]
    store.delete_points("c", ids[:10])
    store.update_meta("c", {ids[20]: PointMeta(1000, 1, 2, 3, 4), "0b8a5a3e-0000-5000-8000-000000000000": PointMeta(1)})
    store.update_document("c", replace(GUIDE, title="Moved", folder="/moved", uri="file:///moved/guide.txt"))
    store.delete_documents("c", [SECRET.id])


def test_writes_are_those_of_an_own_store_and_outlive_both(folder: Path, tmp_path: Path) -> None:
    filled(tmp_path / "own", "c")
    with asker(tmp_path / "own") as store:
        writes(store)
        own = [*store.scan_points("c"), store.fields("c"), store.search("c", made_vector(9), 500, {"folder": "/moved"}, "words")]
    with owner(folder, "c") as process, asker(folder) as store:
        writes(store)
        assert has_opened(store) == []
        process.kill()
        process.wait()
        again = [*store.scan_points("c"), store.fields("c"), store.search("c", made_vector(9), 500, {"folder": "/moved"}, "words")]
        assert has_opened(store) == ["c"]
    assert again == own
    assert len(own) == 300 + 390 + 2


def test_a_grant_reaches_the_owner(folder: Path) -> None:
    """What a token may not see does not leave the process that answers."""
    grants: list[list[Filter]] = [
        [Granted("folder=/guides")],
        [Granted(("uri", GUIDE.uri))],
        [Granted("team = red")],
        [Granted("not year > 2021")],
    ]
    with owner(folder, "c"), asker(folder) as store:
        for grant in grants:
            also: list[Filter] = [*grant, f"document_id = {SECRET.id} or team = red"]
            for filters in (grant, also):
                hits = store.search("c", made_vector(3), 600, filters, "words")
                assert {hit.document_id for hit in hits} == {GUIDE.id}
                assert (len(hits), store.count("c", filters=filters)) == (300, 300)
                assert (store.count("c", SECRET.id, filters), store.document_chunks("c", SECRET.id, filters)) == (0, [])
        nothing: list[Filter] = [Granted("colour = red")]  # of which this collection knows nothing
        assert (store.search("c", made_vector(3), 600, nothing), store.count("c", filters=nothing)) == ([], 0)
        assert has_opened(store) == []


def any_filter(chance: random.Random, depth: int) -> Node:
    kind = chance.randrange(5 if depth else 1)
    if kind == 0:
        values = ("é\x00\ud800", "", 7, -(2**53), 0.1, True, False, datetime(2024, 2, 29, 1, 2, 3, 456789, tzinfo=UTC))
        return Condition(chance.choice(("uri", "a.b", "")), chance.choice(list(Op)), tuple(chance.choices(values, k=3)), "at 3")
    if kind in (1, 2):
        return (All, Either)[kind - 1](tuple(any_filter(chance, depth - 1) for _ in range(chance.randrange(4))))
    return (Not, Limit)[kind - 3](any_filter(chance, depth - 1))


def test_a_filter_is_read_as_it_was_written() -> None:
    chance = random.Random(11)
    for _ in range(500):
        tree = any_filter(chance, 4)
        back = wire.read(wire.written(tree))
        assert repr(back) == repr(tree)  # 1, 1.0 and True are equal, but not the same
        assert back == tree
    for unknown in (object(), b"", {"a"}, Path("/"), 1j):
        with pytest.raises(TypeError):
            wire.written(All((Not(unknown),)))  # type: ignore[arg-type]
    for odd in (b'["All"]', b'["all",["tuple"]]', b'["Op","like"]', b"[]", b"", b'["Condition"]'):
        if odd == b'["All"]':
            assert wire.read(odd) == All()
            continue
        with pytest.raises((ValueError, TypeError, KeyError)):
            wire.read(odd)


def test_a_payload_that_looks_like_ours_stays_a_payload() -> None:
    payload: Payload = {"text": '["All"]', "fields": {"x": ["Op", "in"], "json": ["json", ["tuple"]]}, "n": None, "f": 1.0}
    assert wire.read(wire.written(wire.NewPayload("id", payload))) == wire.NewPayload("id", payload)
