"""The disk space of deleted points in the embedded store, and that giving it back loses nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.files.lock import FileLock
from pipeline.filters import FieldType
from pipeline.store import graph, space
from pipeline.store.catalogue import leftovers, shard_folder
from pipeline.store.edge import EdgeStore
from pipeline.store.query import Shape
from tests.made_points import DIMENSION, made_document, made_points, made_vector, store_of
from tests.services import wait_until

pytestmark = pytest.mark.slow

POINTS, DOCUMENTS = 1200, 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "qdrant"


@pytest.fixture
def store(folder: Path) -> Iterator[EdgeStore]:
    with store_of(folder, DOCUMENTS, POINTS // DOCUMENTS) as store:
        yield store


def spoil(store: EdgeStore) -> None:
    """Write as many points again, and delete them."""
    for name in ("new.txt", "newer.txt"):
        store.upsert("c", made_points(made_document(name), POINTS // 2))
        store.delete_documents("c", [made_document(name).id])


def disk(path: Path) -> int:
    return sum(one.stat().st_blocks * 512 for one in path.rglob("*") if one.is_file())


def everything(store: EdgeStore) -> dict[str, object]:
    return {embedded.chunk.id: (document, embedded.chunk, np.round(embedded.vector, 4).tolist())
            for document, embedded in store.scan_points("c")}  # fmt: skip


def test_dead_points_are_those_that_were_deleted(folder: Path, store: EdgeStore) -> None:
    assert space.dead_points(folder / "c", store.count("c")) == 0
    spoil(store)
    assert space.dead_points(folder / "c", store.count("c")) == POINTS
    store.upsert("c", made_points(made_document("0.txt"), 10))
    assert space.dead_points(folder / "c", store.count("c")) == POINTS, "a point that is written again takes its own place"
    assert space.dead_points(folder / "nothing", 0) == 0


def due(path: Path, unindexed: int, points: int, least: int, *, thorough: bool = False) -> graph.Making | None:
    return graph.due(path, unindexed, points, least, parts=False, thorough=thorough)


@pytest.mark.parametrize("making", ["compact", "graph"])
def test_a_new_shard_has_the_points_and_no_others(folder: Path, store: EdgeStore, making: graph.Making) -> None:
    store.add_fields("c", {"team": FieldType.KEYWORD, "year": FieldType.INTEGER})
    new = disk(folder)
    spoil(store)
    document = replace(made_document("1.txt"), metadata=(("team", "law"), ("year", 2024)))
    store.update_document("c", document)
    store.flush("c")
    asked = [(made_vector(seed), text) for seed in (1, 700) for text in ("", f"part {seed}")]
    before, hits = everything(store), [store.search("c", vector, 10, (), text) for vector, text in asked]
    assert disk(folder) > 1.5 * new
    assert graph.build(folder, "c", making)
    assert everything(store) == before
    for was, (vector, text) in zip(hits, asked, strict=True):
        now = store.search("c", vector, 10, (), text)
        assert [hit.chunk_id for hit in now] == [hit.chunk_id for hit in was]
    assert space.dead_points(shard_folder(folder / "c"), store.count("c")) == 0
    assert leftovers(folder / "c") == []
    assert disk(folder) < new
    assert store.fields("c") == {"team": FieldType.KEYWORD, "year": FieldType.INTEGER}
    assert store.count("c", filters="team = law and year >= 2024") == POINTS // DOCUMENTS
    assert store.count("c", filters=f'uri ~ "{document.uri[:-1]}*"') == POINTS // DOCUMENTS


@pytest.mark.parametrize("making", ["compact", "graph"])
def test_the_new_log_counts_on_from_the_old_one(folder: Path, making: graph.Making) -> None:
    """The engine would skip operations with numbers that the points had before, also after it died."""
    store = EdgeStore(folder, role="owner", batch_points=10)
    store.create("c", DIMENSION)
    made = made_points(made_document("a.txt"), 400)
    store.upsert("c", made)
    used = disk(folder / "c" / "wal")
    assert graph.build(folder, "c", making)
    assert disk(shard_folder(folder / "c") / "wal") < used / 5
    store.close()
    last = [embedded.chunk.id for _, embedded in made[-5:]]
    program = (
        "import os, sys; from pathlib import Path; from dataclasses import replace; from pipeline.store.edge import EdgeStore\n"
        "from tests.made_points import made_document, made_points, made_vector\n"
        "store = EdgeStore(Path(sys.argv[1]), role='owner'); made = made_points(made_document('a.txt'), 400)\n"
        "store.update_document('c', replace(made_document('a.txt'), title='New'))\n"
        "store.delete_points('c', [made[0][1].chunk.id])\n"
        "store.upsert('c', [(d, replace(e, vector=made_vector(4711))) for d, e in made[-5:]]); os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(folder)], check=False).returncode == 9
    assert store.count("c") == 399
    assert [one.vector for one in store.vectors("c", last).values()] == [pytest.approx(made_vector(4711), abs=1e-5)] * 5
    titles = {document.title for document, embedded in store.scan_points("c") if embedded.chunk.id not in last}
    assert titles == {"New"}
    store.close()


def test_a_collection_with_vectors_of_parts_keeps_them(folder: Path) -> None:
    store = EdgeStore(folder, role="owner")
    store.create("c", DIMENSION, parts=True)
    made = [
        (d, replace(e, parts=(made_vector(row), made_vector(row + 100))))
        for row, (d, e) in enumerate(made_points(made_document("a"), 40))
    ]
    store.upsert("c", made)
    before = [hit.chunk_id for hit in store.search("c", made_vector(7), 10, ())]
    assert graph.build(folder, "c", "compact")
    assert [hit.chunk_id for hit in store.search("c", made_vector(7), 10, ())] == before
    assert {len(embedded.parts) for _, embedded in store.scan_points("c")} == {2}
    store.close()


def test_space_is_given_back_once_it_is_considerable(folder: Path, store: EdgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not store.build_graph("c", 0)
    store.delete_documents("c", [made_document("0.txt").id])
    assert not store.build_graph("c", 0), "300 deleted points are few"
    spoil(store)
    assert store.build_graph("c", 0)
    path = folder / "c"
    wait_until(lambda: shard_folder(path) != path and not leftovers(path), "the new shard is in use", 60)
    assert not store.build_graph("c", 0)
    monkeypatch.setattr(space, "MIN_DEAD", 50)
    store.delete_documents("c", [made_document("1.txt").id])
    assert due(path, 600, 600, 10_000) == "compact"
    with FileLock(path / graph.LOCK):
        assert due(path, 600, 600, 0) is None
    assert graph.build(folder, "c")
    assert due(path, 0, 600, 10_000) is None
    store.delete_documents("c", [made_document("2.txt").id])
    assert due(path, 0, 300, 10_000) == "graph", "one that has a graph gets another one"
    assert due(path, 0, 300, 0) == "compact"
    assert graph.build(folder, "c")
    assert space.dead_points(shard_folder(path), store.count("c")) == 0


def test_a_collection_of_deleted_points_only_is_emptied(folder: Path, store: EdgeStore) -> None:
    store.delete_documents("c", [made_document(f"{number}.txt").id for number in range(DOCUMENTS)])
    assert due(folder / "c", 0, 0, 20_000) == "compact"
    assert graph.build(folder, "c", "compact")
    assert (store.count("c"), space.dead_points(shard_folder(folder / "c"), 0)) == (0, 0)
    store.upsert("c", made_points(made_document("new.txt"), 3))
    assert store.count("c") == 3


def test_a_large_log_is_given_up_on_request(folder: Path, store: EdgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.flush("c")
    assert due(folder / "c", POINTS, POINTS, 0, thorough=True) is None, "small ones stay"
    monkeypatch.setattr(space, "MIN_LOG_BYTES", 1 << 16)
    assert due(folder / "c", POINTS, POINTS, 0) is None
    assert due(folder / "c", POINTS, POINTS, 0, thorough=True) == "compact"
    assert graph.build(folder, "c", "compact")
    assert due(folder / "c", POINTS, POINTS, 0, thorough=True) is None


def test_a_write_meanwhile_keeps_the_old_shard(folder: Path, store: EdgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    really = space.rewrite

    def rewrite(source: Path, target: Path, shape: Shape) -> int:
        kept = really(source, target, shape)
        store.upsert("c", made_points(made_document("late.txt"), 3))
        return kept

    monkeypatch.setattr("pipeline.store.graph.rewrite", rewrite)
    assert not graph.build(folder, "c", "compact")
    assert shard_folder(folder / "c") == folder / "c"
    assert leftovers(folder / "c") == []
    assert store.count("c") == POINTS + 3


@pytest.mark.parametrize("after_s", [0.5, 0.8])
def test_a_killed_process_loses_nothing(folder: Path, store: EdgeStore, after_s: float) -> None:
    spoil(store)
    left = store.count("c")
    with subprocess.Popen([sys.executable, "-m", "pipeline.store.graph", str(folder), "c", "compact"]) as process:
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
    assert store.count("c") == left
    assert graph.build(folder, "c", "compact")
    assert leftovers(folder / "c") == []
    assert store.count("c") == left


def test_what_is_gone_hides_nothing_of_what_a_folder_takes(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"gone{number}").symlink_to(tmp_path / "nowhere")  # listed, and not there
        (tmp_path / f"file{number}").write_bytes(b"x" * 10_000)
    assert space.disk_bytes(tmp_path) == 10 * (tmp_path / "file0").stat().st_blocks * 512
    assert space.disk_bytes(tmp_path / "nowhere") == 0
