"""Files that processes share: one has the lock, a replacement is whole, and an error says what to do."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, NoSpace, StoreUnavailable
from pipeline.files.errors import disk_is_full, translated, translating
from pipeline.files.lock import FileLock
from pipeline.files.replace import move_file, replace_file


def add_many(folder: Path, numbers: range) -> None:
    """Add lines to a file that is written anew each time: without a lock most of them would be lost."""
    for number in numbers:
        with FileLock(folder / "lock"):
            before = (folder / "lines").read_text() if (folder / "lines").exists() else ""
            replace_file(folder / "lines", f"{before}{number}\n".encode())


def test_whoever_waits_for_a_lock_gets_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=add_many, args=(tmp_path, range(start, start + 30))) for start in (0, 30)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert sorted(map(int, (tmp_path / "lines").read_text().split())) == list(range(60))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines", "lock"]


def test_a_lock_that_is_taken_is_not_waited_for_beyond_the_deadline(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.take()
    assert (second.take(), second.take(time.monotonic() + 0.1), second.wanted()) == (False, False, True)
    first.release()
    assert (second.wanted(), second.take(), second.held) == (False, True, True)
    second.release()


@pytest.mark.parametrize("use", [FileLock.take, FileLock.wanted, FileLock.__enter__])
def test_a_lock_that_cannot_be_opened_says_what_to_do(tmp_path: Path, use: object) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(ConfigError) as caught:
        use(FileLock(tmp_path / "lock"))  # type: ignore[operator]
    assert str(caught.value) == f"cannot use {tmp_path}/lock: Is a directory; move away the folder that takes the place of a file"
    with pytest.raises(FileNotFoundError):
        use(FileLock(tmp_path / "nowhere" / "lock"))  # type: ignore[operator]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_new_file_has_the_mode_that_is_asked_for(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        replace_file(tmp_path / "plain", b"x")
        replace_file(tmp_path / "secret", b"x", mode=0o600, durable=True)
        replace_file(tmp_path / "open", b"x", mode=0o664)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"plain": 0o666 & ~umask, "secret": 0o600, "open": 0o664}


def test_a_replacement_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "folder", b"new")
    replace_file(tmp_path / ("n" * 255), b"as long as a name can be")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "n" * 255]


def test_a_finished_file_is_moved_into_a_folder_that_is_made(tmp_path: Path) -> None:
    (tmp_path / "written").write_text("x")
    move_file(tmp_path / "written", tmp_path / "a" / "b" / "target")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b", "target"]


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, NoSpace, "no room for /data/x: free some disk space"),
        (errno.EDQUOT, NoSpace, "no room for /data/x: free some disk space"),
        (errno.EACCES, ConfigError, "cannot use /data/x: Permission denied; give this user read and write permission"),
        (errno.EROFS, ConfigError, "cannot use /data/x: Read-only file system; mount its file system as writable"),
        (errno.EIO, StoreUnavailable, "cannot use /data/x: Input/output error; check the disk"),
    ],
)
def test_an_error_names_the_file_the_reason_and_what_to_do(number: int, kind: type[Exception], words: str) -> None:
    error = OSError(number, os.strerror(number))
    assert disk_is_full(error) == (kind is NoSpace)
    found = translated(error, Path("/data/x"), StoreUnavailable)
    assert (type(found), str(found).startswith(words)) == (kind, True)
    with pytest.raises(kind) as caught, translating(Path("/data"), StoreUnavailable):
        raise OSError(number, os.strerror(number), "/data/x")
    assert str(caught.value).startswith(words)  # the file of the error itself
    assert caught.value.__cause__ is not None
