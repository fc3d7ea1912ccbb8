"""Segments of the embedded store that are frozen: what searches find in them, and that freezing loses no write."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    Modifier,
    Point,
    SparseVector,
    UpdateOperation,
)

from pipeline.filters import FieldType
from pipeline.store import edge_engine, graph, segments, space
from pipeline.store.catalogue import leftovers, shard_folder
from pipeline.store.edge import EdgeStore
from pipeline.store.points import DENSE, SPARSE
from tests.made_points import DIMENSION, made_document, made_points, made_vector
from tests.services import wait_until

pytestmark = pytest.mark.slow

#: Points of a segment from which these tests freeze it.
FROZEN = 400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "qdrant"


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EdgeStore]:
    monkeypatch.setattr(segments, "FROZEN_POINTS", FROZEN)
    monkeypatch.setattr(segments, "MANY_WORDS", 5)
    store = EdgeStore(folder, role="owner", batch_points=100)
    store.create("c", DIMENSION)
    yield store
    store.close()


def fill(store: EdgeStore, documents: int, points: int = 500, *, first: int = 0) -> None:
    for number in range(first, documents):
        store.upsert("c", made_points(made_document(f"{number}.txt"), points, first=points * number))


def frozen(folder: Path) -> int:
    """Frozen segments of the collection."""
    return len([*(shard_folder(folder / "c") / "segments").glob("*/id_tracker.versions")])


def test_what_was_written_last_stays_in_memory_and_the_rest_is_frozen(folder: Path, store: EdgeStore) -> None:
    store.upsert("c", made_points(made_document("0.txt"), 300))
    assert frozen(folder) == 0
    fill(store, 4)
    store.flush("c")
    assert frozen(folder) == 5
    assert store.count("c") == 2000
    exact = np.array([made_vector(number) for number in range(2000)])
    for _ in range(2):
        for number in (1, 999, 1999):
            best = np.sort(exact @ exact[number])[::-1][:10]
            found = store.search("c", made_vector(number), 10, ())
            assert [hit.score for hit in found] == pytest.approx(best.tolist(), abs=1e-4), "scored by the whole vectors"
            assert store.search("c", made_vector(number), 10, (), f"part {number}")[0].ordinal == number
        store.close()


@pytest.mark.parametrize("parts", [False, True])
def test_the_first_write_makes_no_other_segment_than_the_collection_was_made_with(folder: Path, parts: bool) -> None:
    with closing(EdgeStore(folder, role="owner")) as store:
        store.create("c", DIMENSION, parts=parts)
        made = {path.parent for path in (shard_folder(folder / "c") / "segments").glob("*/segment.json")}
        store.upsert("c", made_points(made_document("0.txt"), 3))
        written = {path.parent for path in (shard_folder(folder / "c") / "segments").glob("*/segment.json")}
    assert made, "the engine names its folders otherwise"
    assert written == made


def test_frozen_points_are_changed_and_deleted_as_others(folder: Path, store: EdgeStore) -> None:
    store.add_fields("c", {"team": FieldType.KEYWORD})
    fill(store, 3)
    assert frozen(folder) == 3
    document = replace(made_document("1.txt"), title="New", metadata=(("team", "law"),))
    store.update_document("c", document)
    store.delete_documents("c", [made_document("0.txt").id])
    made = made_points(made_document("2.txt"), 5, first=1000)
    store.upsert("c", [(d, replace(e, vector=made_vector(4711))) for d, e in made])
    store.delete_points("c", [made[0][1].chunk.id])
    for _ in range(2):
        assert store.count("c") == 999
        assert store.count("c", filters="team = law") == 500
        assert {hit.title for hit in store.search("c", made_vector(3), 100, "team = law")} == {"New"}
        ids = {embedded.chunk.id for _, embedded in made[1:]}
        assert {hit.chunk_id for hit in store.search("c", made_vector(4711), 4, ())} == ids
        store.close()
    assert graph.build(folder, "c", "compact")
    assert store.count("c") == 999
    assert store.count("c", filters="team = law") == 500


@pytest.mark.parametrize("making", ["compact", "graph", "merge"])
def test_a_new_shard_of_frozen_segments_has_all_points(folder: Path, store: EdgeStore, making: graph.Making) -> None:
    fill(store, 4)
    assert graph.build(folder, "c", making)
    assert store.count("c") == 2000
    assert frozen(folder) == (4 if making == "compact" else 1)
    assert segments.has_graph(shard_folder(folder / "c")) == (making == "graph")
    fill(store, 6, first=4)
    assert store.count("c") == 3000
    store.flush("c")
    assert frozen(folder) == {"compact": 6, "graph": 1, "merge": 3}[making], "next to a graph nothing is frozen"
    assert graph.build(folder, "c", making)
    assert (store.count("c"), leftovers(folder / "c")) == (3000, [])


def test_a_large_collection_gets_no_graph_and_gives_up_the_one_it_has(
    folder: Path, store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 2)
    assert store.build_graph("c", 500)
    path = folder / "c"
    wait_until(lambda: segments.has_graph(shard_folder(path)) and not graph.is_building(path), "the graph is in use", 60)
    monkeypatch.setattr(graph, "MAX_POINTS", 1500)
    assert not store.build_graph("c", 500)
    fill(store, 4, first=2)
    assert graph.due(path, 1000, 2000, 500, parts=False, thorough=False) == "merge"
    assert store.build_graph("c", 500)
    wait_until(lambda: not segments.has_graph(shard_folder(path)) and not graph.is_building(path), "it has no graph", 60)
    assert store.count("c") == 2000
    assert not store.build_graph("c", 500)
    monkeypatch.setattr(graph, "MAX_SEGMENTS", 2)
    fill(store, 7, first=4)
    assert store.build_graph("c", 500)
    wait_until(lambda: frozen(folder) == 1 and not graph.is_building(path), "the segments are one", 60)
    assert store.count("c") == 3500
    assert not store.build_graph("c", 500)


def test_a_shard_of_an_older_version_is_frozen_from_now_on(folder: Path, store: EdgeStore) -> None:
    path = folder / "c"
    store.close()
    for name in ("segments", "wal"):
        (path / name).rename(folder / name)
    config = EdgeConfig(
        vectors={DENSE: EdgeVectorParams(size=DIMENSION, distance=Distance.Cosine)},
        sparse_vectors={SPARSE: EdgeSparseVectorParams(modifier=Modifier.Idf)},
    )
    EdgeShard.create(str(path), config).close()
    fill(store, 3)
    store.flush("c")
    assert frozen(folder) == 3
    assert store.count("c") == 1500
    assert store.search("c", made_vector(700), 1, ())[0].ordinal == 700


@pytest.mark.parametrize("parts", [1, 8])
def test_vectors_of_parts_and_long_texts_are_not_frozen_early(
    folder: Path, store: EdgeStore, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    """Eight parts of two bytes a number are four times the chunk's own vector, and 43 words eight times."""
    monkeypatch.setattr(segments, "MANY_WORDS", 45 if parts == 1 else 5)
    words = " ".join(f"word{number}" for number in range(40))
    store.create("p", DIMENSION, parts=True)
    for first in range(0, 1500, 300):
        made = made_points(made_document(f"{first}.txt"), 300, first=first, text=words if parts == 1 else "Some words.")
        store.upsert("p", [(d, replace(e, parts=parts * (e.vector,))) for d, e in made])
        store.flush("p")
        frozen = len([*(folder / "p" / "segments").glob("*/id_tracker.versions")])
        assert frozen <= (first + 300) // FROZEN
    assert frozen >= 2
    monkeypatch.setattr(graph, "MAX_SEGMENTS", 2)
    assert graph.due(folder / "p", 0, 1500, 500, parts=True, thorough=False) == "merge"
    before = store.search("p", made_vector(700), 10, ())
    assert graph.build(folder, "p", "merge")
    assert len([*(shard_folder(folder / "p") / "segments").glob("*/id_tracker.versions")]) == 1
    assert store.count("p") == 1500
    assert [hit.chunk_id for hit in store.search("p", made_vector(700), 10, ())] == [hit.chunk_id for hit in before]
    assert before[0].ordinal == 700


def test_a_large_collection_with_a_graph_keeps_it_until_much_was_written(
    folder: Path, store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 4)
    assert graph.build(folder, "c", "graph")
    for name, value in (("MAX_POINTS", 1500), ("FROZEN_POINTS", FROZEN)):
        monkeypatch.setattr(graph, name, value)
    monkeypatch.setattr(space, "MIN_LOG_BYTES", 1)
    store.delete_points("c", [embedded.chunk.id for _, embedded in made_points(made_document("0.txt"), 150)])
    assert graph.due(folder / "c", 0, 1850, 500, parts=False, thorough=True) is None, "neither the log nor 8 % are worth it"
    store.delete_documents("c", [made_document("0.txt").id, made_document("1.txt").id])
    assert graph.due(folder / "c", 0, 1600, 500, parts=False, thorough=True) is None
    monkeypatch.setattr(space, "MIN_DEAD", 100)
    assert graph.due(folder / "c", 0, 1600, 500, parts=False, thorough=False) == "merge"
    assert graph.build(folder, "c", "merge")
    assert space.dead_points(shard_folder(folder / "c"), 1000) == 0


def test_a_write_passes_where_the_engine_cannot_freeze(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck:
        """A shard that writes, and fails to optimize."""

        def __init__(self, shard: EdgeShard) -> None:
            self._shard = shard

        def __getattr__(self, name: str) -> object:
            return getattr(self._shard, name)

        def optimize(self) -> bool:
            raise Exception("a segment is damaged")

    monkeypatch.setattr(edge_engine, "load_shard", lambda folder, threads: Stuck(segments.load_shard(folder, threads)))
    monkeypatch.setattr(segments, "_is_told", False)
    with closing(EdgeStore(folder, role="owner")) as store:
        store.create("c", DIMENSION)
        fill(store, 2, 10)
        assert store.count("c") == 20
    assert [record.message for record in caplog.records if "a segment is damaged" in record.message] == [
        "a large segment of the embedded store stays in memory, as it cannot be frozen: a segment is damaged"
    ]


def make_older(folder: Path, weights: str | None) -> None:
    """An empty collection whose shard has word weights of this name, or none."""
    (folder / "c").mkdir(parents=True)
    vectors = {DENSE: EdgeVectorParams(size=DIMENSION, distance=Distance.Cosine)}
    sparse = {weights: EdgeSparseVectorParams(modifier=Modifier.Idf)} if weights else None
    EdgeShard.create(str(folder / "c"), EdgeConfig(vectors=vectors, sparse_vectors=sparse)).close()
    (folder / "c" / "collection.json").write_text(json.dumps({"format": 1, "dimension": DIMENSION, "sparse": weights}))


def test_a_shard_without_word_weights_keeps_its_graph(folder: Path) -> None:
    make_older(folder, None)
    with closing(EdgeStore(folder, role="owner")) as store:
        fill(store, 2)
        assert graph.build(folder, "c", "graph")
        made = {one.name for one in (shard_folder(folder / "c") / "segments").iterdir()}
        fill(store, 3, 10, first=2)
        store.flush("c")
        assert segments.has_graph(shard_folder(folder / "c"))
        assert made == {one.name for one in (shard_folder(folder / "c") / "segments").iterdir()}
        assert [*shard_folder(folder / "c").rglob("links*.bin")]
        assert store.count("c") == 1010


def test_word_weights_of_an_older_name_are_kept_by_a_new_shard(folder: Path) -> None:
    make_older(folder, "bm25")
    with closing(EdgeStore(folder, role="owner")) as store:
        fill(store, 1, 10)
        with store._shards.use(folder / "c", changes=True) as shard:
            named: dict[str, list[float] | SparseVector | list[list[float]]] = {
                DENSE: made_vector(11),
                "bm25": SparseVector([7], [1.0]),
            }
            shard.update(UpdateOperation.upsert_points([Point(11, named, {})]))
        assert graph.build(folder, "c", "compact")
        assert store.count("c") == 11
        with store._shards.use(folder / "c") as shard:
            vector = shard.retrieve([11], False, True)[0].vector
            assert isinstance(vector, dict)
            assert str(vector["bm25"]) == "SparseVector(indices=[7], values=[1])"


PROGRAM = """
import sys
from pathlib import Path
from pipeline.store import segments
from pipeline.store.edge import EdgeStore
from tests.made_points import made_document, made_points
segments.FROZEN_POINTS = 400
segments.MANY_WORDS = 5
store = EdgeStore(Path(sys.argv[1]), role="owner", batch_points=100)
for number in range(1000):
    store.upsert("c", made_points(made_document(f"{number}.txt"), 100, first=100 * number))
    print(number, flush=True)
"""


def test_what_a_killed_writer_left_unfinished_is_removed(folder: Path, store: EdgeStore) -> None:
    store.close()
    made = folder / "c" / "temp_segments"
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        while not [*made.glob("*/*")]:  # until the first segment is being frozen
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        documents = 1 + len(process.stdout.readlines())
    assert [*made.glob("*")], "the kill was in the middle of it"
    assert store.count("c") >= 100 * documents
    assert not [*made.glob("*")]
    before = frozen(folder)
    fill(store, documents + 5, 500, first=documents)
    assert frozen(folder) > before, "the engine makes the folder again"


@pytest.mark.parametrize("after", [3, 4, 11, 12, 25])
def test_a_writer_that_is_killed_while_it_freezes_loses_nothing(folder: Path, store: EdgeStore, after: int) -> None:
    """What is between two acknowledged writes takes some milliseconds, of which freezing is most."""
    store.close()
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        written = [process.stdout.readline() for _ in range(after + 1)]
        time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        written += process.stdout.readlines()
    documents = len(written)
    for _ in range(2):
        found = store.document_points("c", [made_document(f"{number}.txt").id for number in range(documents)])
        assert not [*(folder / "c" / "temp_segments").glob("*")]
        assert [len(one) for one in found.values()] == [100] * documents
        assert 100 * documents <= store.count("c") <= 100 * documents + 100
        hits = store.search("c", made_vector(100 * documents - 1), 10, ())
        assert hits[0].ordinal == 100 * documents - 1
        assert len({hit.chunk_id for hit in hits}) == 10
        fill(store, documents, 100)  # again, as a load would
    store.delete_documents("c", [made_document("0.txt").id])
    assert store.count("c", made_document("0.txt").id) == 0
    count = store.count("c")
    assert graph.build(folder, "c", "compact")
    assert store.count("c") == count
