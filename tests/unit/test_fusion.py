"""Fusion of both rankings of a hybrid search."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.store.base import VectorStore
from pipeline.store.fusion import SHARE_OF_WORDS, Ask, Scores, fused, hybrid
from tests.made_points import made_document, made_points, made_vector

MEANING = 1 - SHARE_OF_WORDS


def test_scores_are_added_on_a_common_scale() -> None:
    assert fused({"a": 0.8, "b": 0.6, "c": 0.4}, {"b": 5.0, "c": 10.0}) == pytest.approx(
        {"a": MEANING, "b": MEANING / 2 + SHARE_OF_WORDS / 2, "c": SHARE_OF_WORDS}
    )


def test_another_range_of_cosines_makes_no_difference() -> None:
    narrow = {"a": 0.92, "b": 0.91, "c": 0.9}
    assert fused(narrow, {"c": 1.0}) == pytest.approx(fused({"a": 0.9, "b": 0.5, "c": 0.1}, {"c": 30.0}))


@pytest.mark.parametrize(
    ("dense", "sparse", "expected"),
    [
        ({}, {}, {}),
        ({"a": 0.5}, {}, {"a": MEANING}),
        ({"a": 0.5, "b": 0.5}, {"b": 0.0}, {"a": MEANING, "b": MEANING}),
        ({"a": 0.5, "b": 0.4}, {"a": -1.0, "b": -2.0}, {"a": MEANING, "b": 0.0}),
    ],
)
def test_rankings_without_a_range(dense: Scores[str], sparse: Scores[str], expected: Scores[str]) -> None:
    assert fused(dense, sparse) == pytest.approx(expected)


def test_equal_scores_are_in_the_order_of_ids() -> None:
    def ask(asked: Sequence[Ask[int]]) -> list[Scores[int]]:
        return [dict.fromkeys((3, 1, 2), 0.5) for _ in asked]

    assert list(hybrid(ask, depth=3, limit=2)) == [1, 2]


def test_each_candidate_is_scored_by_both() -> None:
    scores: dict[str, Scores[str]] = {"dense": {"a": 0.9, "b": 0.8, "c": 0.1, "d": 0.0}, "sparse": {"c": 9.0, "b": 3.0, "d": 1.0}}
    rounds: list[list[Ask[str]]] = []

    def ask(asked: Sequence[Ask[str]]) -> list[Scores[str]]:
        rounds.append(list(asked))
        return [
            dict(
                sorted(((k, s) for k, s in scores[one.by].items() if not one.among or k in one.among), key=lambda x: -x[1])[
                    : one.limit
                ]
            )
            for one in asked
        ]

    found = hybrid(ask, depth=2, limit=2)
    assert rounds == [[Ask("dense", 2), Ask("sparse", 2)], [Ask("dense", 1, ("c",)), Ask("sparse", 1, ("a",))]]
    everything = fused({key: scores["dense"][key] for key in "abc"}, {"b": 3.0, "c": 9.0})
    assert found == {key: everything[key] for key in sorted(everything, key=lambda key: -everything[key])[:2]}
    rounds.clear()
    assert list(hybrid(ask, depth=4, limit=9)) == ["c", "b", "a", "d"]
    assert rounds[1] == [Ask("sparse", 1, ("a",))]


def test_a_search_is_the_fusion_of_its_parts(store: VectorStore, name: str) -> None:
    """The same on the embedded store and a server."""
    points = [
        point
        for n in range(120)
        for point in made_points(made_document(f"{n}.txt"), 1, text="boat " * (n % 7) + "harbour " * (n % 3))
    ]
    store.upsert(name, points)
    vector, question = made_vector(3), "a boat in the harbour"
    dense = {hit.chunk_id: hit.score for hit in store.search(name, vector, 200, {})}
    sparse = {hit.chunk_id: hit.score for hit in store.search(name, None, 200, {}, question)}
    assert 100 < len(sparse) < len(dense) == 120
    hits = store.search(name, vector, 120, {}, question)
    assert {hit.chunk_id: hit.score for hit in hits} == pytest.approx(fused(dense, sparse), abs=1e-5)
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))
    few = store.search(name, vector, 3, {}, question)
    assert len(few) == 3
    assert few[0].text == hits[0].text
    filtered = store.search(name, vector, 5, {"uri": made_document("6.txt").uri}, question)
    assert [hit.uri for hit in filtered] == [made_document("6.txt").uri]
