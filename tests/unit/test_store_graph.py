"""Graphs of the embedded store: what they find, and that no build loses a write or stops a search."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import NoSpace
from pipeline.files.lock import FileLock
from pipeline.store import graph, segments
from pipeline.store.catalogue import SHARD, leftovers, shard_folder
from pipeline.store.edge import EdgeStore
from pipeline.store.shards import BUILDING
from pipeline.store.space import points_of
from pipeline.types import Hit
from tests.made_points import DIMENSION, made_document, made_points, made_vector, store_of
from tests.services import wait_until

pytestmark = pytest.mark.slow

POINTS = 3000

#: The size from which graphs pay is far above what a test can write.
SMALL_KB = 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "qdrant"


@pytest.fixture
def store(folder: Path) -> Iterator[EdgeStore]:
    with store_of(folder, POINTS // 500, 500) as store:
        yield store


def found(store: EdgeStore) -> list[list[Hit]]:
    return [store.search("c", made_vector(seed), 10, {}, text) for seed in (1, 7, 4000) for text in ("", f"part {seed}")]


def test_a_graph_changes_no_search_and_comes_into_use_by_one_replacement(folder: Path, store: EdgeStore) -> None:
    before, path = found(store), folder / "c"
    assert shard_folder(path) == path
    assert graph.build(folder, "c")
    assert shard_folder(path).name.startswith(SHARD)
    assert leftovers(path) == []
    assert not (path / BUILDING).exists()
    for was, now in zip(before, found(store), strict=True):
        assert [hit.chunk_id for hit in now] == [hit.chunk_id for hit in was]
        # The scale of fused scores begins at the worst candidate, which a graph may miss.
        assert [hit.score for hit in now] == pytest.approx([hit.score for hit in was], abs=0.03)
    assert store.count("c") == POINTS
    assert store.count("c", filters={"uri": made_document("3.txt").uri}) == 500
    # It is written to as before, and built again with what was written.
    store.upsert("c", made_points(made_document("late.txt"), 100))
    store.delete_documents("c", [made_document("0.txt").id])
    assert graph.build(folder, "c")
    assert store.count("c") == POINTS + 100 - 500
    assert store.count("c", made_document("late.txt").id) == 100


def test_what_follows_a_build_changes_points_that_were_written_last(folder: Path) -> None:
    """The engine skips operations that are older than a point, by their numbers in its log."""
    store = EdgeStore(folder, role="owner", batch_points=10)
    store.create("c", DIMENSION)
    document = made_document("a.txt")
    made = made_points(document, 400)
    store.upsert("c", made)
    assert graph.build(folder, "c")
    store.update_document("c", replace(document, title="New"))
    titles = [hit.title for first in (7, 399) for hit in store.search("c", made_vector(first), 400, {})]
    assert set(titles) == {"New"}
    moved = [(one, replace(embedded, vector=made_vector(4711))) for one, embedded in made[-5:]]
    store.upsert("c", moved)
    last = [embedded.chunk.id for _, embedded in made[-5:]]
    vectors = [one.vector for one in store.vectors("c", last).values()]
    assert vectors == [pytest.approx(made_vector(4711), abs=1e-5)] * 5
    store.delete_points("c", last)
    store.close()
    assert store.count("c") == 395
    store.close()


WRITES: list[Callable[[EdgeStore], object]] = [
    lambda store: store.upsert("c", made_points(made_document("late.txt"), 3)),
    lambda store: store.delete_documents("c", [made_document("0.txt").id]),
    lambda store: store.update_document("c", made_document("1.txt")),
]


@pytest.mark.parametrize("write", WRITES)
def test_a_write_during_a_build_makes_it_worthless(
    folder: Path, store: EdgeStore, monkeypatch: pytest.MonkeyPatch, write: Callable[[EdgeStore], object]
) -> None:
    really, path = graph._optimized, folder / "c"

    def optimized(*of: object, **named: object) -> int:
        kept = really(*of, **named)  # type: ignore[arg-type]
        write(store)
        return kept

    monkeypatch.setattr(graph, "_optimized", optimized)
    assert not graph.build(folder, "c")
    assert shard_folder(path) == path
    assert leftovers(path) == []
    counts = store.count("c")
    store.close()
    assert store.count("c") == counts
    monkeypatch.undo()
    assert graph.build(folder, "c"), "the next one is not disturbed"
    assert store.count("c") == counts


def test_a_search_during_a_build_waits_for_nothing(folder: Path, store: EdgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    really, seen = graph._optimized, list[int]()

    def optimized(*of: object, **named: object) -> int:
        began = time.monotonic()
        seen.append(len(store.search("c", made_vector(1), 10, {})))
        assert time.monotonic() - began < 5
        return really(*of, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(graph, "_optimized", optimized)
    assert graph.build(folder, "c")
    assert seen == [10]


@pytest.mark.parametrize("after_s", [0.2, 0.6, 1.0, 1.4])
def test_a_killed_build_loses_nothing(folder: Path, store: EdgeStore, after_s: float) -> None:
    command = [sys.executable, "-m", "pipeline.store.graph", str(folder), "c", "graph"]
    with subprocess.Popen(command) as process:
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
    assert store.count("c") == POINTS
    assert len(store.search("c", made_vector(1), 10, {})) == 10
    assert graph.build(folder, "c")
    assert leftovers(folder / "c") == []
    assert store.count("c") == POINTS


def test_a_build_begins_where_points_lack_a_graph_and_once(folder: Path, store: EdgeStore) -> None:
    assert not store.build_graph("c", 0)
    assert not store.build_graph("c", POINTS + 1)
    with FileLock(folder / "c" / graph.LOCK):
        assert not store.build_graph("c", POINTS)
        assert not graph.build(folder, "c")
    assert store.build_graph("c", POINTS)
    wait_until(lambda: shard_folder(folder / "c") != folder / "c", "the graph is in use", 60)
    assert not store.build_graph("c", 1)
    store.upsert("c", made_points(made_document("few.txt"), 100))
    assert not store.build_graph("c", 100), "few points are compared one by one"
    store.upsert("c", made_points(made_document("many.txt"), 1000))
    assert store.build_graph("c", 100)
    wait_until(lambda: not graph.is_building(folder / "c") and not leftovers(folder / "c"), "the second build ends", 60)


def test_a_full_disk_stops_a_build_and_nothing_else(folder: Path, store: EdgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "ROOM", 1e12)
    with pytest.raises(NoSpace, match="free disk space"):
        graph.build(folder, "c")
    assert store.count("c") == POINTS


def test_the_graph_finds_nearly_all_of_the_true_neighbours(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 points in 400 groups, a size at which the engine uses the graph."""
    monkeypatch.setattr(segments, "FULL_SCAN_KB", SMALL_KB)
    numbers = np.random.default_rng(3)
    centres = numbers.standard_normal((400, 64))
    with_noise = np.repeat(centres, 50, axis=0) + 0.7 * numbers.standard_normal((20_000, 64))
    store = EdgeStore(folder, role="owner")
    store.create("g", 64)
    made = [(d, replace(e, vector=with_noise[row].tolist())) for row, (d, e) in enumerate(made_points(made_document("g"), 20_000))]
    store.upsert("g", made)
    questions = [(centre + 0.5 * numbers.standard_normal(64)).tolist() for centre in centres[:50]]
    exact = [{hit.chunk_id for hit in store.search("g", question, 10, {})} for question in questions]
    assert graph.build(folder, "g")
    with store._shards.use(folder / "g") as shard:
        assert graph.unindexed(shard, points_of(shard), sparse=True) == 0
    kept = [{hit.chunk_id for hit in store.search("g", question, 10, {})} for question in questions]
    store.close()
    assert np.mean([len(one & other) / 10 for one, other in zip(exact, kept, strict=True)]) > 0.97


def test_a_collection_with_vectors_of_parts_gets_no_graph(folder: Path) -> None:
    store = EdgeStore(folder, role="owner")
    store.create("c", DIMENSION, parts=True)
    store.upsert("c", made_points(made_document("a.txt"), 40))
    assert not store.build_graph("c", 1)
    store.close()
    assert not graph.build(folder, "c")
    assert store.has_parts("c")
    assert store.count("c") == 40
    store.close()
