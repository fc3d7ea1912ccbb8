"""The process that has a shard of the embedded store open answers the others: what they get, and what happens when it goes."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import CollectionMissing, StoreLocked
from pipeline.filters import FieldType
from pipeline.store import shards
from pipeline.store.doors import SOCKET
from pipeline.store.edge import EdgeStore
from pipeline.types import DocumentInfo, EmbeddedChunk
from tests.made_points import DIMENSION, made_document, made_points, made_vector
from tests.services import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]


GUIDE = replace(made_document("guide.txt"), metadata=(("team", "red"), ("year", 2020), ("tags", ("a", "é"))))


SECRET = replace(made_document("secret.txt", "/secret"), metadata=(("team", "blue"), ("year", 2024)))


FIELDS = {"team": FieldType.KEYWORD, "year": FieldType.INTEGER, "tags": FieldType.KEYWORD}


#: Opens the collections that it is given, and keeps them open.
OWNER = f"""
import os, sys, threading, time
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY)!r})
from pipeline.store import doors
from pipeline.store.edge import EdgeStore
{{before}}
store = EdgeStore(Path(sys.argv[1]), role="owner", idle_s=60)
for name in sys.argv[2:]:
    store.count(name)
print("open", flush=True)
sys.stdin.readline()
store.close()
print("closed", flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path / "qdrant", "c")


def filled(folder: Path, *names: str, parts: bool = False) -> Path:
    """The folder, as a store with these collections of two documents."""
    store = EdgeStore(folder, role="owner")
    for name in names:
        store.create(name, DIMENSION, parts=parts)
        store.add_fields(name, FIELDS)
        for document in (GUIDE, SECRET):
            store.upsert(name, with_parts(made_points(document, 300)) if parts else made_points(document, 300))
    store.close()
    return folder


def with_parts(points: list[tuple[DocumentInfo, EmbeddedChunk]]) -> list[tuple[DocumentInfo, EmbeddedChunk]]:
    return [(one, replace(it, parts=(made_vector(it.chunk.ordinal + 1), made_vector(7)))) for one, it in points]


@contextmanager
def owner(folder: Path, *names: str, before: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that has these collections open."""
    command = [sys.executable, "-c", OWNER.replace("{before}", before), str(folder), *names]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


@contextmanager
def asker(folder: Path, lock_timeout_s: float = 30.0) -> Iterator[EdgeStore]:
    store = EdgeStore(folder, role="owner", lock_timeout_s=lock_timeout_s)
    yield store
    store.close()


def has_opened(store: EdgeStore) -> list[str]:
    """The collections that this store has opened itself."""
    return sorted(path.name for path in store._shards._open)


def test_the_owner_dies_during_a_call(folder: Path) -> None:
    with asker(folder) as store:
        expected = store.search("c", made_vector(3), 20, {}, "words")
        store.close()
        for _ in range(3):
            with owner(folder, "c") as process:
                assert store.count("c") == 600
                process.send_signal(signal.SIGSTOP)  # it has the call and does not answer
                found: list[object] = []

                def search(found: list[object] = found) -> None:
                    found.append(store.search("c", made_vector(3), 20, {}, "words"))

                thread = threading.Thread(target=search)
                thread.start()
                time.sleep(0.3)
                assert thread.is_alive()
                process.kill()
                thread.join(20)
                assert found == [expected]
                assert has_opened(store) == ["c"]
                store.close()


def test_writers_and_searchers_go_on_while_owners_die(folder: Path) -> None:
    chance, stop = random.Random(5), threading.Event()
    failures: list[BaseException] = []
    written = [0, 0]

    def work(at: int, once: Callable[[EdgeStore, int], object]) -> None:
        try:
            with asker(folder) as store:
                for n in itertools.count():
                    if stop.is_set():
                        return
                    once(store, n)
                    written[at] = n + 1
        except BaseException as error:
            failures.append(error)

    def write(store: EdgeStore, n: int) -> None:
        store.upsert("c", made_points(made_document(f"more{n}"), 20))

    def look(store: EdgeStore, n: int) -> None:
        assert len(store.search("c", made_vector(n), 5, {}, "words")) == 5
        time.sleep(0.01)

    threads = [threading.Thread(target=work, args=(at, once)) for at, once in enumerate((write, look))]
    with owner(folder, "c"):
        for thread in threads:
            thread.start()
        time.sleep(chance.random())
    for _ in range(3):  # the threads' own stores are owners now, or ask each other
        with owner(folder, "c") as process:
            time.sleep(chance.random())
            process.kill()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert failures == []
    with asker(folder) as store:
        assert min(written) > 0
        for n in range(written[0]):
            assert store.count("c", made_document(f"more{n}").id) == 20


def copied(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def test_an_owner_steps_aside_for_what_needs_all_processes_out(folder: Path, tmp_path: Path) -> None:
    with owner(folder, "c"), asker(folder) as store:
        seen: list[int] = []

        def ask() -> None:
            seen.append(store.count("c"))

        meanwhile = EdgeStore(folder)
        thread = threading.Thread(target=ask)
        with meanwhile._shards.closed(lambda: [folder / "c"]):
            assert not (folder / "c" / SOCKET).exists()
            thread.start()
            time.sleep(0.3)
            assert seen == []
        thread.join(10)
        assert seen == [600]
        meanwhile.copy(tmp_path / "copy", lambda: None, copied)
        assert not list((tmp_path / "copy").rglob(SOCKET))
        meanwhile.drop("c")
        with pytest.raises(CollectionMissing):
            store.count("c")


def at_once(count: int, work: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_threads_that_wait_for_the_turn_do_not_keep_it(folder: Path) -> None:
    """One of them opens the shard, and the others find their own process at the door."""
    with asker(folder) as store, asker(folder, lock_timeout_s=2.0) as other:
        seen: list[int] = []
        meanwhile = EdgeStore(folder)
        for _ in range(3):
            with meanwhile._shards.closed(lambda: [folder / "c"]):
                threads = at_once(4, lambda: seen.append(store.count("c")))
                time.sleep(0.2)
            for thread in threads:
                thread.join(10)
            assert not store._shards._turn.held
        assert seen == [600] * 12
        meanwhile.drop("c")
        with pytest.raises(CollectionMissing):
            other.count("c")


def test_what_is_asked_for_does_not_close_a_busy_owner(folder: Path) -> None:
    with asker(folder) as store:
        store.count("c")
        made = (folder / "c" / SOCKET).stat().st_mtime_ns
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                store.count("c")

        threads = at_once(3, work)
        with asker(folder) as other:
            for _ in range(5):
                with pytest.raises(shards.OpenElsewhere), other._shards.use(folder / "c", alone=False):
                    pass  # as a process does that could not reach the owner a moment before
        stop.set()
        for thread in threads:
            thread.join(10)
        assert (folder / "c" / SOCKET).stat().st_mtime_ns == made


def test_the_work_of_an_asker_that_is_gone_is_not_done(folder: Path) -> None:
    with asker(folder) as store:
        store.count("c")
        with (
            asker(folder, lock_timeout_s=0.1) as other,
            store._shards._lock,
            pytest.raises(StoreLocked, match="has not answered"),
        ):
            other.delete_documents("c", [SECRET.id])
        time.sleep(0.3)
        assert store.count("c", SECRET.id) == 300


def test_an_owner_that_closes_hands_over(folder: Path) -> None:
    with owner(folder, "c") as process, asker(folder) as store:
        assert store.count("c") == 600
        assert process.communicate("\n")[0] == "closed\n"
        assert not (folder / "c" / SOCKET).exists()
        assert store.count("c") == 600
        assert has_opened(store) == ["c"]
        with asker(folder) as other:  # and now it is the one that answers
            assert other.count("c") == 600
            assert has_opened(other) == []


def test_an_owner_that_hangs_is_an_error_in_time(folder: Path) -> None:
    with owner(folder, "c") as process, asker(folder, lock_timeout_s=0.5) as store:
        assert store.count("c") == 600
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(StoreLocked):
            store.count("c")
        assert time.monotonic() - began < 10
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: store.count("c") == 600, "the owner answers again", 10, 0.1)


def test_owners_of_two_collections_leave_each_other_alone(folder: Path) -> None:
    filled(folder, "d")
    with owner(folder, "c"), asker(folder) as store:
        made = (folder / "c" / SOCKET).stat().st_mtime_ns
        store.count("d")
        assert store.count("c") == 600
        store.drop("d")
        assert has_opened(store) == []
        time.sleep(0.3)  # longer than the owner looks for others
        assert store.count("c") == 600
        assert (folder / "c" / SOCKET).stat().st_mtime_ns == made


def test_two_processes_that_open_several_collections(folder: Path) -> None:
    filled(folder, "d", "e")
    failures: list[BaseException] = []
    with owner(folder, "c"):

        def work(seed: int) -> None:
            chance = random.Random(seed)
            try:
                with asker(folder) as store:
                    for _ in range(20):
                        for name in chance.sample("cde", 3):
                            assert store.count(name) == 600
                        if chance.random() < 0.3:
                            store.close()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert failures == []


def test_a_forked_child_asks_by_itself(folder: Path) -> None:
    code = f"""
import os, sys
sys.path.insert(0, {str(REPOSITORY)!r})
from pathlib import Path
from pipeline.store.edge import EdgeStore
from tests.made_points import made_vector
store = EdgeStore(Path(sys.argv[1]))
expected = {{seed: store.search("c", made_vector(seed), 5, {{}}) for seed in range(20)}}
pid = os.fork()
for _ in range(20):
    for seed in range(20):
        assert store.search("c", made_vector(seed), 5, {{}}) == expected[seed]
assert not store._shards._open
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    with owner(folder, "c"):
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=60)
