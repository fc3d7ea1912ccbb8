"""The socket at which the process that has a shard open answers: who can connect, and what killed processes leave."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.store import doors
from pipeline.store.doors import SOCKET
from tests.unit.test_store_owner import asker, filled, has_opened, owner


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path / "qdrant", "c")


OTHERS = ["doors.MESSAGES += 1", "doors._user = lambda connection: 4711"]


@pytest.mark.parametrize(("before", "opened"), [(OTHERS[0], ["c"]), (OTHERS[1], ["c"]), ("", [])])
def test_who_cannot_be_asked_gives_the_shard_up(folder: Path, before: str, opened: list[str]) -> None:
    """Other messages, and a user that is not this one."""
    with owner(folder, "c", before=before), asker(folder) as store:
        assert store.count("c") == 600
        assert has_opened(store) == opened


def test_a_folder_without_sockets_is_used_in_turns(folder: Path) -> None:
    (folder / "c" / SOCKET).mkdir()  # so that none can be made
    with owner(folder, "c"), asker(folder) as store:
        assert store.count("c") == 600
        assert has_opened(store) == ["c"]
        assert (folder / "c" / SOCKET).is_dir()


def test_a_path_that_is_too_long_for_a_socket(folder: Path, tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 30) / ("é" * 60)
    deep.parent.mkdir()
    folder.rename(deep)
    with owner(deep, "c"), asker(deep) as store:
        assert store.count("c") == 600
        assert has_opened(store) == []


def test_only_this_user_can_connect(folder: Path) -> None:
    path = folder / "c" / SOCKET
    with asker(folder) as store:
        for mode, wanted in ((0o755, 0o600), (0o700, 0o600), (0o770, 0o660)):
            path.parent.chmod(mode)
            store.count("c")
            assert stat.S_IMODE(path.stat().st_mode) == wanted
            store.close()
            assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_not_answered_even_if_it_could_connect(folder: Path) -> None:
    code = f"""
import os, socket, sys
os.chdir(sys.argv[1])
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(10)
    connection.connect({SOCKET!r})
    print(len(connection.recv(100)))
"""
    with asker(folder) as store:
        store.count("c")
        (folder / "c").chmod(0o755)
        (folder / "c" / SOCKET).chmod(0o666)
        command = [sys.executable, "-c", code, str(folder / "c")]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0\n"


def test_what_a_killed_owner_leaves_can_be_removed(folder: Path) -> None:
    with owner(folder, "c") as process:
        process.kill()
        process.wait()
    assert (folder / "c" / SOCKET).is_socket()
    (folder / "d").mkdir()
    with asker(folder) as store:
        filled(folder, "e")
        store.count("e")
        (folder / "d" / SOCKET).hardlink_to(folder / "c" / SOCKET)
        doors.tidy(folder)  # only those of nobody
        assert [path.parent.name for path in folder.glob(f"*/{SOCKET}")] == ["e"]


def test_the_next_owner_replaces_what_a_killed_one_has_left(folder: Path) -> None:
    with owner(folder, "c") as process:
        process.kill()
        process.wait()
    assert (folder / "c" / SOCKET).is_socket()
    with asker(folder) as store, asker(folder) as other:
        assert store.count("c") == other.count("c") == 600
        assert (has_opened(store), has_opened(other)) == (["c"], [])
    assert not (folder / "c" / SOCKET).exists()


def test_anything_else_that_is_sent_gets_no_answer(folder: Path) -> None:
    with asker(folder) as store:
        store.count("c")
        odd = (b"", b"{}", b'["tuple","nothing",null]', b'["tuple","count",["Chosen",null]]', b"\xff", b'["os.system","x"]')
        for request in odd:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(str(folder / "c" / SOCKET))
                greeting = connection.recv(int.from_bytes(connection.recv(4), "big"))
                assert greeting.startswith(b"kb-ingest ")
                connection.sendall(len(request).to_bytes(4, "big") + request)
                assert connection.recv(4) == bytes(4)  # no answer
        assert store.count("c") == 600
