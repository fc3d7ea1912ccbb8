"""The embedded store: death of processes, turns between them, full disks and damaged files; they ask in test_store_owner.py."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pipeline.errors import CollectionMissing, NoSpace, StoreLocked, StoreUnavailable
from pipeline.store.edge import EdgeStore
from tests.made_points import DIMENSION, made_document, made_points, made_vector
from tests.services import wait_until

GUIDE = made_document("guide.txt")
REPOSITORY = Path(__file__).resolve().parents[2]

PREPARED = f"""
import itertools, os, sys, time
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY)!r})
from tests.made_points import *
from pipeline.store.edge import EdgeStore
folder = Path(sys.argv[1])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "qdrant"


@contextmanager
def opened(folder: Path, *roles: str, idle_s: float | None = None, lock_timeout_s: float = 10.0) -> Iterator[list[EdgeStore]]:
    """Stores on one folder. Their locks belong to open files, so two in one process stand for two processes."""
    with ExitStack() as stack:
        stores = []
        for role in roles:
            stores.append(EdgeStore(folder, role=role, idle_s=idle_s, lock_timeout_s=lock_timeout_s))  # type: ignore[arg-type]
            stack.callback(stores[-1].close)
        yield stores


@contextmanager
def child(code: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PREPARED + code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


UPSERTS = """
store = EdgeStore(folder, role="owner", batch_points=64)
store.create("c", DIMENSION)
for n in itertools.count():
    document = made_document(f"doc{n}")
    store.upsert("c", made_points(document, 150))
    if n % 3 == 2:
        store.delete_documents("c", [made_document(f"doc{n - 1}").id])
    print(n, flush=True)
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kill_loses_no_point_that_was_acknowledged(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    with child(UPSERTS, folder) as process:
        assert process.stdout is not None
        acknowledged = -1
        for _ in range(chance.randrange(2, 12)):
            acknowledged = int(process.stdout.readline())
        time.sleep(chance.random() * 0.03)  # most often in the middle of the next upsert
        process.kill()
        acknowledged = max([acknowledged, *map(int, process.stdout.read().split())])
    with opened(folder, "reader") as [store]:
        for n in range(acknowledged + 1):
            document = made_document(f"doc{n}")
            ids = {e.chunk.id for _, e in made_points(document, 150)}
            gone = n % 3 == 1 and n + 1 <= acknowledged
            if not gone and n % 3 == 1 and n + 1 == acknowledged + 1:
                continue  # the call that the kill met was going to delete it
            assert set(store.document_points("c", [document.id])[document.id]) == (set() if gone else ids)
        # The interrupted write is mended by repeating it, as a redelivered task does.
        again = made_points(made_document(f"doc{acknowledged + 1}"), 150)
        store.upsert("c", again)
        assert store.count("c", again[0][0].id) == 150
        assert all(point.vector and any(point.vector) for point in store.scan("c", with_vectors=True))


def test_a_store_that_is_held_gives_a_clear_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.store.doors._ADDRESS_BYTES", 10**6)
    folder = folder / ("d" * 100)  # too long for a socket's address: nobody can be asked
    with opened(folder, "owner", "reader", idle_s=60, lock_timeout_s=0.3) as [owner, reader]:
        owner.create("c", DIMENSION)
        owner.upsert("c", made_points(GUIDE, 2))
        started = time.monotonic()
        with owner._shards.use(folder / "c"), pytest.raises(StoreLocked, match="KB_QDRANT_URL") as caught:
            reader.count("c")
        assert 0.25 < time.monotonic() - started < 30
        assert "\n" not in str(caught.value)
        # Asking in vain leaves no lock behind.
        owner.yield_turn()
        assert owner.count("c") == 2


def test_names_and_aliases_need_no_lock(folder: Path) -> None:
    with opened(folder, "owner", "reader", idle_s=60, lock_timeout_s=0.2) as [owner, reader]:
        owner.create("c", DIMENSION)
        owner.upsert("c", made_points(GUIDE, 2))
        reader.set_alias("a", "c")
        reader.create("d", DIMENSION)
        assert (reader.collections(), reader.aliases(), reader.dimension("a")) == (["c", "d"], {"a": "c"}, DIMENSION)


def test_an_idle_owner_lets_others_in_and_goes_on(folder: Path) -> None:
    with opened(folder, "owner", "reader", idle_s=0.2) as [owner, reader]:
        owner.create("c", DIMENSION)
        for first in (0, 10, 20):
            owner.upsert("c", made_points(GUIDE, 10, first=first))
            assert reader.count("c") == first + 10
            assert reader.search("c", made_vector(first), 1, {})[0].score == pytest.approx(1, abs=1e-5)
    assert not [thread for thread in threading.enumerate() if thread.name == "kb-edge-idle"]


def test_an_idle_owner_keeps_its_shards_open_until_somebody_asks(folder: Path) -> None:
    with opened(folder, "owner", idle_s=60) as [owner], opened(folder, "reader") as [reader]:
        owner.create("c", DIMENSION)
        owner.upsert("c", made_points(GUIDE, 10))
        time.sleep(0.6)
        assert [thread for thread in threading.enumerate() if thread.name == "kb-edge-idle"]
        assert reader.count("c") == 10
        owner.upsert("c", made_points(GUIDE, 10, first=10))
        assert reader.count("c") == 20


def test_searches_of_several_threads_run_together(folder: Path) -> None:
    with opened(folder, "owner") as [owner]:
        owner.create("c", DIMENSION)
        owner.upsert("c", made_points(GUIDE, 10))
        meeting = threading.Barrier(2, timeout=10)

        def use() -> None:
            with owner._shards.use(folder / "c"):
                meeting.wait()

        threads = [threading.Thread(target=use) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not meeting.broken


def test_an_owner_that_yields_serves_searches_between_its_batches(folder: Path) -> None:
    code = """
store = EdgeStore(folder, role="owner", idle_s=60)
store.create("c", DIMENSION)
for n in itertools.count():
    store.upsert("c", made_points(made_document(f"doc{n}"), 50))
    print(n, flush=True)
    store.yield_turn()
    if (folder / "stop").exists():
        break
store.close()
"""
    with child(code, folder) as process, opened(folder, "reader") as [reader]:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(4):
            count = reader.count("c")
            assert count % 50 == 0
            assert len(reader.search("c", made_vector(1), 5, {})) == 5
            # Looked at less often than a reader keeps the store: the owner must get on.
            wait_until(lambda before=count: reader.count("c") > before, "the owner has its turn", 30, 0.3)  # type: ignore[misc]
        (folder / "stop").touch()
        batches = 1 + len(process.stdout.read().split())
        assert process.wait(10) == 0
        assert reader.count("c") == 50 * batches


def test_a_long_scan_lets_the_owner_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.store.shards._READER_HOLD_S", 0.1)
    with opened(folder, "owner", "reader", idle_s=0.3) as [owner, reader]:
        owner.create("c", DIMENSION)
        for first in range(0, 2500, 500):
            owner.upsert("c", made_points(GUIDE, 500, first=first))
        owner.close()
        written = threading.Event()

        def write() -> None:
            owner.upsert("c", made_points(made_document("late"), 3))
            written.set()

        writer = threading.Thread(target=write)
        seen, seen_when_written = 0, 0
        for _ in reader.scan_points("c"):
            if seen == 0:
                writer.start()
            seen += 1
            seen_when_written = seen_when_written or (seen if written.is_set() else 0)
            time.sleep(0.0002)
        writer.join()
        assert 0 < seen_when_written < 2500 <= seen


def test_two_owners_take_turns_over_two_collections(folder: Path) -> None:
    with opened(folder, "owner", "owner", idle_s=60) as stores:
        for name in ("a", "b"):
            stores[0].create(name, DIMENSION)
        failures: list[BaseException] = []

        def work(at: int) -> None:
            try:
                for n in range(6):
                    # In opposite order, so that each holds what the other wants.
                    for name in ("ab", "ba")[at]:
                        stores[at].upsert(name, made_points(made_document(f"{at}-{n}"), 5))
                    stores[at].yield_turn()
                stores[at].close()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(at,)) for at in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert (stores[0].count("a"), stores[0].count("b")) == (60, 60)


def test_threads_and_the_idle_close_do_not_meet(folder: Path) -> None:
    with opened(folder, "owner", idle_s=0.001) as [store]:
        store.create("c", DIMENSION)
        failures: list[BaseException] = []

        def work(at: int) -> None:
            try:
                for n in range(8):
                    store.upsert("c", made_points(made_document(f"{at}-{n}"), 20))
                    time.sleep(0.01 * at)
                    assert store.count("c", made_document(f"{at}-{n}").id) == 20
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(at,)) for at in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert store.count("c") == 4 * 8 * 20


def test_drop_waits_until_nobody_has_it_open(folder: Path) -> None:
    with opened(folder, "owner", "reader", idle_s=60, lock_timeout_s=0.3) as [owner, reader]:
        owner.create("c", DIMENSION)
        owner.upsert("c", made_points(GUIDE, 2))
        with owner._shards.use(folder / "c"), pytest.raises(StoreLocked):
            reader.drop("c")
        assert owner.count("c") == 2
        owner.close()
        reader.drop("c")
        with pytest.raises(CollectionMissing):
            owner.count("c")
        assert owner.collections() == []


def test_a_fork_after_use_is_an_error_and_no_hang(folder: Path) -> None:
    code = """
import signal
def in_child(call):
    if (pid := os.fork()) == 0:
        signal.alarm(10)
        try:
            call()
        except RuntimeError as error:
            os._exit(7 if "forked" in str(error) else 1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

store = EdgeStore(folder, role="owner", idle_s=60)
in_child(lambda: (store.create("c", DIMENSION), store.upsert("c", made_points(made_document("x"), 3)), store.close()))
print(store.count("c"))
in_child(lambda: store.count("c"))
store.close()
in_child(lambda: store.count("c"))
in_child(lambda: EdgeStore(folder).create("d", DIMENSION))
print(store.count("c"), store.collections())
store.close()
"""
    with child(code, folder) as process:
        assert process.communicate(timeout=60)[0].split("\n") == ["0", "3", "7", "7", "7", "3 ['c']", ""]
        assert process.returncode == 0


def test_a_disk_that_is_nearly_full_stops_writes_and_nothing_else(folder: Path) -> None:
    with opened(folder, "owner") as [store]:
        store.create("c", DIMENSION)
        store.upsert("c", made_points(GUIDE, 3))
    full = EdgeStore(folder, reserve_bytes=1 << 60)
    writes: list[Callable[[], object]] = [
        lambda: full.upsert("c", made_points(GUIDE, 9)),
        lambda: full.delete_documents("c", [GUIDE.id]),
        lambda: full.create("d", DIMENSION),
    ]
    for write in writes:
        with pytest.raises(NoSpace, match="free some space"):
            write()
    assert full.count("c") == 3
    assert full.collections() == ["c"]
    full.close()


def test_a_shard_is_not_opened_on_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(folder, "owner", "reader", idle_s=60) as [owner, reader]:
        owner.create("c", DIMENSION)
        monkeypatch.setattr("pipeline.store.edge_engine.OPEN_BYTES", 1 << 60)
        with pytest.raises(NoSpace, match="opening"):
            reader.count("c")
        monkeypatch.undo()
        # The refused reader gave its turn back.
        owner.upsert("c", made_points(GUIDE, 3))
        owner.close()
        assert reader.count("c") == 3


def test_a_shard_is_searched_by_the_threads_that_this_machine_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = folder / "c" / "edge_config.json"
    with opened(folder, "owner") as [store]:
        store.create("c", DIMENSION)
        store.upsert("c", made_points(GUIDE, 3))
        before = json.loads(config.read_bytes())
        for cores, threads in ((1, 1), (2, 1), (9, 4)):
            store.close()
            monkeypatch.setattr("pipeline.store.edge_engine.usable_cores", lambda cores=cores: cores)
            assert store.count("c") == 3
            assert len(store.search("c", made_vector(1), 3, (), "guide")) == 3
            assert json.loads(config.read_bytes()) == before | {"max_search_threads": threads}


def test_damaged_files_give_one_clear_line(folder: Path) -> None:
    with opened(folder, "owner") as [store]:
        store.create("c", DIMENSION)
        store.upsert("c", made_points(GUIDE, 3))
        store.close()
        (folder / "c" / "edge_config.json").write_text("{")
        with pytest.raises(StoreUnavailable, match="cannot open"):
            store.count("c")
        store.drop("c")
        store.create("c", DIMENSION)
        assert store.count("c") == 0
        (folder / "aliases.json").write_text("[1]")
        with pytest.raises(StoreUnavailable, match=r"aliases\.json"):
            store.aliases()


def test_what_a_killed_create_left_is_no_collection(folder: Path) -> None:
    (folder / ".scrap-c" / "segments").mkdir(parents=True)
    (folder / "c" / "segments" / "x").mkdir(parents=True)
    with opened(folder, "owner") as [store]:
        assert store.collections() == []
        with pytest.raises(CollectionMissing):
            store.count("c")
        store.create("c", DIMENSION)
        store.upsert("c", made_points(GUIDE, 3))
        assert (store.collections(), store.count("c")) == (["c"], 3)


def test_the_folder_can_be_moved(folder: Path, tmp_path: Path) -> None:
    with opened(folder, "owner") as [store]:
        store.create("c", DIMENSION)
        store.upsert("c", made_points(GUIDE, 3))
        store.set_alias("a", "c")
    folder.rename(tmp_path / "elsewhere")
    with opened(tmp_path / "elsewhere", "reader") as [store]:
        assert store.count("a") == 3


def test_importing_the_store_is_light() -> None:
    code = "import sys, pipeline.store; print([m for m in ('qdrant_client', 'qdrant_edge', 'numpy', 'httpx') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
