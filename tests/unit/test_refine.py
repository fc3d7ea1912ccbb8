"""What becomes of the best chunks: copies, hits of one document, diversity, neighbours, minimum scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.embed.base import embed_fingerprint
from pipeline.search import Searcher
from pipeline.search.refine import MAX_COPIES, candidates, capped, diverse, without_copies
from pipeline.settings import Settings, load_settings
from pipeline.store.edge import EdgeStore
from pipeline.store.names import physical_name
from pipeline.types import Hit, Refinement
from tests.made_points import DIMENSION, made_document, made_points


def hit(text: str, document: str = "a", score: float = 1.0) -> Hit:
    return Hit(score, f"file:///{document}", document, text, (), None, None, None, None, document, f"{document}/{text}")


def test_of_hits_with_the_same_text_the_first_stays_and_names_the_others() -> None:
    hits = [hit("One  text", "a"), hit("Another", "a"), hit("One text", "b"), hit("One\ntext", "a"), hit("One text", "c")]
    assert without_copies(hits) == [replace(hits[0], copies=("file:///b", "file:///c")), hits[1]]
    many = [hit("One text", str(number)) for number in range(MAX_COPIES + 5)]
    assert [len(one.copies) for one in without_copies(many)] == [MAX_COPIES]


def test_more_is_fetched_until_there_are_enough_without_copies() -> None:
    stored = [hit("Terms and conditions", str(number)) for number in range(30)] + [hit(f"Text {n}", "z") for n in range(30)]
    asked: list[int] = []

    def fetch(number: int) -> list[Hit]:
        asked.append(number)
        return stored[:number]

    assert [one.text for one in candidates(fetch, 3, None)][:3] == ["Terms and conditions", "Text 0", "Text 1"]
    assert asked == [3, 12, 48]
    asked.clear()
    assert len(candidates(fetch, 40, None)) == 31  # all there are
    assert asked == [40, 160]
    assert len(capped(candidates(fetch, 2, 1), 1)) == 2
    with_all_alike = [hit("The same", str(number)) for number in range(9000)]
    assert len(candidates(lambda number: with_all_alike[:number], 5, None)) == 1


def test_each_document_gets_at_most_its_number_of_hits() -> None:
    hits = [hit("1", "a"), hit("2", "a"), hit("3", "b"), hit("4", "a"), hit("5", "b")]
    assert [one.text for one in capped(hits, 1)] == ["1", "3"]
    assert [one.text for one in capped(hits, 2)] == ["1", "2", "3", "5"]
    assert capped(hits, None) == hits


def test_diversity_prefers_hits_unlike_those_before() -> None:
    hits = [hit("best", score=0.9), hit("nearly the best", score=0.89), hit("something else", score=0.6), hit("worst", score=0.1)]
    near = np.array([[1, 0, 0], [0.999, 0.0447, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    assert [one.text for one in diverse(hits, near, 4, 0.0)] == [one.text for one in hits]
    assert [one.text for one in diverse(hits, near, 2, 0.5)] == ["best", "something else"]
    alike = [replace(one, score=0.5) for one in hits]
    assert [one.text for one in diverse(alike, near, 3, 0.5)] == ["best", "something else", "worst"]
    assert diverse([], np.zeros((0, 3), np.float32), 5, 0.5) == []


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return load_settings(model="no/such-model")


@pytest.fixture
def searcher(settings: Settings) -> Iterator[Searcher]:
    """Three documents of four chunks; the third repeats the second."""
    store = EdgeStore(settings.data_dir / "qdrant", role="owner")
    physical = physical_name("documents", embed_fingerprint(settings, DIMENSION))
    store.create(physical, DIMENSION)
    for name, text in (("a.txt", "The lighthouse keeper"), ("b.txt", "A lighthouse"), ("copy.txt", "A lighthouse")):
        store.upsert(physical, made_points(made_document(name), 4, text=text))
    store.set_alias("documents", physical)
    yield Searcher(settings, store)
    store.close()


def names(searcher: Searcher, limit: int, refinement: Refinement, query: str = "lighthouse") -> list[str]:
    hits = searcher.search("documents", query, limit, {}, "sparse", refinement).hits
    return [f"{one.uri.rpartition('/')[2]} {one.ordinal}" for one in hits]


def test_refined_searches(searcher: Searcher) -> None:
    assert len(names(searcher, 12, Refinement())) == 8
    found = searcher.search("documents", "lighthouse", 12, {}, "sparse").hits
    assert {one.uri.rpartition("/")[2]: len(one.copies) for one in found}.pop("a.txt") == 0
    assert sum(len(one.copies) for one in found) == 4
    one_each = names(searcher, 12, Refinement(per_document=1))
    assert len({name.partition(" ")[0] for name in one_each}) == len(one_each) >= 2
    unlike = names(searcher, 4, Refinement(diversity=1.0))
    assert len(set(unlike)) == 4
    scores = [one.score for one in found]
    assert 0 < len(names(searcher, 12, Refinement(min_score=scores[0]))) < len(scores)
    assert names(searcher, 12, Refinement(min_score=scores[0] + 1)) == []


def test_neighbours_are_of_the_same_document_and_in_order(searcher: Searcher) -> None:
    hits = searcher.search("documents", "keeper", 4, {}, "sparse", Refinement(neighbours=2)).hits
    by_place = {one.ordinal: one for one in hits}
    texts = [f"The lighthouse keeper {number}" for number in range(4)]
    assert (by_place[0].before, by_place[0].after) == ((), (texts[1], texts[2]))
    assert (by_place[2].before, by_place[2].after) == ((texts[0], texts[1]), (texts[3],))
