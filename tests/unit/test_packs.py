"""Packs: whole or not there, wherever a process is killed; several processes beside each other; deleted bytes leave the disk."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError, DocumentError, NoSpace
from pipeline.sources.uris import uri_of
from pipeline.staging import packs as packs_module
from pipeline.staging.contents import IN_USE_S, PACKED_BYTES
from pipeline.staging.copies import blob_key, chunks_key
from pipeline.staging.local import SCRATCH_MAX_AGE_S, LocalStaging
from pipeline.staging.pack import Pack
from pipeline.types import Reason, SourceFile
from tests.packed import make_older, packs

#: Texts that are found on the disk wherever they are.
KEPT = [f"a text that stays, number {number} of ten" for number in range(10)]
GONE = [f"a text that somebody wants deleted, {number}" for number in range(10)]


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def keys_of(texts: Iterable[str]) -> list[str]:
    return [blob_key(hash_of(text)) for text in texts]


def keep(staging: LocalStaging, texts: Iterable[str]) -> None:
    staging.put_bytes({hash_of(text): text.encode() for text in texts}, lambda: None)


def found(staging: LocalStaging, texts: Iterable[str]) -> set[str]:
    """Those of these texts that staging serves, each as it is."""
    with staging.pieces(map(hash_of, texts)) as pieces:
        served = {
            content_hash: piece.path.read_bytes()[piece.offset : piece.offset + piece.length].decode()
            for content_hash, piece in pieces.items()
        }
    assert all(hash_of(text) == content_hash for content_hash, text in served.items())
    return set(served.values())


def on_disk(root: Path, texts: Iterable[str]) -> list[str]:
    """Those of these texts of which some file still has the bytes."""
    everything = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    return [text for text in texts if text.encode() in everything]


@pytest.fixture
def staging(tmp_path: Path) -> LocalStaging:
    return LocalStaging(tmp_path / "staging")


def test_many_small_files_become_few(staging: LocalStaging, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.txt" for number in range(300)]
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(PACKED_BYTES + 1))
    with staging.batch() as batch:
        for path in (*paths, large):
            if path is not large:
                path.write_text(f"text {path.name}")
            staged = batch.put(SourceFile(uri_of(path), path, path.stat().st_size, path.stat().st_mtime_ns))
            assert staged.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()
            if path is not large:
                written = staging.scratch()
                written.write_text(f"chunks of {path.name}")
                batch.put_chunks(chunks_key("p", staged.content_hash, path.name), written)
    files = [path.relative_to(staging.root).parts[:2] for path in staging.root.rglob("*") if path.is_file()]
    assert sorted(files)[1:] == [("files.lock",), ("packs", "blobs"), ("packs", "chunks")]
    assert sorted(files)[0][0] == "blobs"
    for path in paths:
        content_hash = hash_of(f"text {path.name}")
        with staging.blob(content_hash) as copy, staging.chunks(chunks_key("p", content_hash, path.name)) as chunks:
            assert copy.read_text() == f"text {path.name}"
            assert chunks.read().decode() == f"chunks of {path.name}"
    assert not list((staging.root / "tmp").iterdir())


def test_a_pack_that_is_cut_short_is_never_served_and_is_swept(staging: LocalStaging) -> None:
    keep(staging, KEPT)
    (whole,) = packs(staging.root)
    content = whole.read_bytes()
    for size in range(len(content)):
        whole.write_bytes(content[:size])
        assert found(LocalStaging(staging.root), KEPT) == set(), size
    with pytest.raises(DocumentError) as caught, LocalStaging(staging.root).blob(hash_of(KEPT[0])):
        pass
    assert caught.value.reason is Reason.STAGED_LOST
    keep(LocalStaging(staging.root), KEPT)
    assert found(LocalStaging(staging.root), KEPT) == set(KEPT)
    assert LocalStaging(staging.root).sweep() == 0
    then = time.time() - SCRATCH_MAX_AGE_S - 1
    os.utime(whole, (then, then))
    assert LocalStaging(staging.root).sweep() == 1
    assert not whole.exists()


def test_a_changed_byte_loses_one_content_and_no_other(staging: LocalStaging) -> None:
    keep(staging, KEPT)
    (pack,) = packs(staging.root)
    content = bytearray(pack.read_bytes())
    content[content.index(KEPT[3].encode()) + 5] ^= 1
    pack.write_bytes(content)
    other = LocalStaging(staging.root)
    assert found(other, KEPT) == {*KEPT} - {KEPT[3]}
    keep(other, [KEPT[3]])  # the next load makes it again
    assert found(LocalStaging(staging.root), KEPT) == set(KEPT)


def test_a_pack_of_a_later_version_is_named_and_stays(staging: LocalStaging) -> None:
    keep(staging, KEPT)
    (pack,) = packs(staging.root)
    pack.write_bytes(pack.read_bytes()[:-1] + b"\x02")
    os.utime(pack, (0, 0))
    for work in (lambda: found(LocalStaging(staging.root), KEPT), LocalStaging(staging.root).sweep):
        with pytest.raises(ConfigError, match=f"{pack.name} was written by a later version"):
            work()
    assert pack.exists()


def test_contents_that_others_add_and_merge_are_found(staging: LocalStaging) -> None:
    other = LocalStaging(staging.root)
    keep(other, KEPT[:3])
    assert found(staging, KEPT) == set(KEPT[:3])
    keep(other, KEPT[3:])
    assert found(staging, KEPT) == set(KEPT)
    other.compact(lambda: None)
    assert len(packs(staging.root)) == 1
    assert found(staging, KEPT) == set(KEPT)


def test_many_small_packs_become_one_while_others_read(staging: LocalStaging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs_module, "SMALL_PACKS", 4)
    reader = LocalStaging(staging.root)
    for text in KEPT:
        keep(staging, [text])
        found(reader, [text])
    assert len(packs(staging.root)) < 4
    assert found(reader, KEPT) == set(KEPT)
    assert {one.key for one in reader.contents()} == {*keys_of(KEPT)}


def test_a_disk_without_room_for_merging_fails_no_load(
    staging: LocalStaging, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packs_module, "SMALL_PACKS", 2)
    keep(staging, KEPT[:5])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(packs_module.Packs, "unite", full)
    keep(staging, KEPT[5:])
    assert "are not merged: [Errno 28] No space left on device" in caplog.text
    assert found(LocalStaging(staging.root), KEPT) == set(KEPT)


def test_a_full_disk_leaves_no_half_pack(staging: LocalStaging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs_module.Packs, "_new", lambda _: "/dev/full")
    monkeypatch.setattr(os, "O_EXCL", 0)
    unlinked: list[str] = []
    monkeypatch.setattr(os, "unlink", unlinked.append)
    with pytest.raises(NoSpace, match="free some disk space"):
        keep(staging, KEPT)
    assert unlinked == ["/dev/full"]
    assert not list(staging.contents())


def test_a_large_pack_is_not_written_again(staging: LocalStaging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs_module, "SMALL_ENTRIES", 5)
    keep(staging, KEPT)
    (large,) = packs(staging.root)
    for text in GONE[:3]:
        keep(staging, [text])
    staging.compact(lambda: None)
    assert large in packs(staging.root)
    assert len(packs(staging.root)) == 2


def test_what_is_deleted_is_overwritten_at_once_and_its_room_given_back_later(staging: LocalStaging) -> None:
    keep(staging, [*KEPT, *GONE[:9]])
    (pack,) = packs(staging.root)
    size = pack.stat().st_size
    make_older(staging.root, time.time() - 2 * IN_USE_S)
    before = time.time() - IN_USE_S
    assert set(staging.discard(keys_of(GONE[:9]), before)) == {*keys_of(GONE[:9])}
    assert on_disk(staging.root, [*KEPT, *GONE]) == KEPT
    assert pack.stat().st_size == size
    assert {one.key for one in staging.contents()} == {*keys_of(KEPT)}
    assert found(LocalStaging(staging.root), [*KEPT, *GONE]) == set(KEPT)
    staging.compact(lambda: None)
    assert packs(staging.root) == [pack], "less than half of it is gone"
    staging.discard(keys_of(KEPT[:6]), before)
    staging.compact(lambda: None)
    (smaller,) = packs(staging.root)
    assert smaller.stat().st_size < size / 2
    assert found(LocalStaging(staging.root), KEPT) == set(KEPT[6:])
    staging.discard(keys_of(KEPT), before)
    staging.compact(lambda: None)
    assert packs(staging.root) == []


def test_one_that_is_put_again_is_safe_from_then_on_wherever_it_is_moved(staging: LocalStaging) -> None:
    keep(staging, KEPT)
    make_older(staging.root, time.time() - 2 * IN_USE_S)
    keep(staging, KEPT[:2])
    assert len(packs(staging.root)) == 2
    keep(staging, KEPT[:2])
    assert len(packs(staging.root)) == 2
    staging.compact(lambda: None)
    assert len(packs(staging.root)) == 1
    staging.discard(keys_of(KEPT), time.time() - IN_USE_S)
    assert found(staging, KEPT) == set(KEPT[:2])


def test_a_copy_that_the_ledger_needs_is_not_put_again(staging: LocalStaging, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(KEPT[0])
    source = SourceFile(uri_of(path), path, path.stat().st_size, 1)
    keep(staging, KEPT[:1])
    make_older(staging.root, time.time() - 2 * IN_USE_S)
    with staging.batch() as batch:
        assert batch.put(source, hash_of(KEPT[0])).content_hash == hash_of(KEPT[0])
    assert len(packs(staging.root)) == 1
    with staging.batch() as batch:
        batch.put(source, hash_of("another version"))
    assert len(packs(staging.root)) == 2


def test_a_folder_of_single_files_is_used_as_it_is(staging: LocalStaging, tmp_path: Path) -> None:
    for number, text in enumerate(KEPT):
        path = tmp_path / str(number)
        path.write_text(text)
        staging.put(SourceFile(uri_of(path), path, path.stat().st_size, 1))
        written = staging.scratch()
        written.write_text(text)
        staging.put_chunks(chunks_key("p", hash_of(text), "a.md"), written)
    assert packs(staging.root) == []
    keep(staging, KEPT)
    assert packs(staging.root) == []
    for text in KEPT:
        with staging.blob(hash_of(text)) as copy, staging.chunks(chunks_key("p", hash_of(text), "a.md")) as chunks:
            assert copy.read_text() == chunks.read().decode() == text
    assert staging.with_chunks(chunks_key("p", hash_of(text), "a.md") for text in [*KEPT, *GONE]) == {
        chunks_key("p", hash_of(text), "a.md") for text in KEPT
    }


def test_an_error_inside_a_batch_adds_nothing(staging: LocalStaging) -> None:
    def fail() -> None:
        with staging.batch() as batch:
            batch.keep(*next(zip(keys_of(KEPT), map(str.encode, KEPT), strict=True)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list(staging.contents())
    assert not list((staging.root / "tmp").iterdir())


# --- several processes, and processes that are killed


def child(work: Callable[[], None]) -> int:
    """Run something in a process of its own; return the process."""
    process = os.fork()
    if process:
        return process
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def test_processes_write_and_merge_beside_each_other(staging: LocalStaging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs_module, "SMALL_PACKS", 3)
    texts = {name: [f"{name} {number}" for number in range(60)] for name in "abc"}

    def write(name: str) -> None:
        mine = LocalStaging(staging.root)
        for start in range(0, 60, 3):
            keep(mine, texts[name][start : start + 3])
            assert found(mine, texts[name][: start + 3]) == set(texts[name][: start + 3])

    processes = [child(lambda name=name: write(name)) for name in texts]  # type: ignore[misc]
    everything = {text for some in texts.values() for text in some}
    seen: set[str] = set()
    while len(seen) < len(everything):
        now = found(staging, everything)
        assert now >= seen, "a content that was there is gone while packs are merged"
        seen = now
        if all(os.waitid(os.P_PID, one, os.WEXITED | os.WNOHANG | os.WNOWAIT) for one in processes):
            break
    assert [os.waitpid(one, 0)[1] for one in processes] == [0, 0, 0]
    assert found(staging, everything) == everything
    assert len(packs(staging.root)) < 60


def killed_at(number: int, work: Callable[[], None]) -> bool:
    """Run something in a process that is killed before, or after, the call with this number; whether it was killed."""

    def run() -> None:
        count = itertools.count(1)

        def boundary() -> None:
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        for name in ("open", "rename", "replace", "unlink", "pwrite", "fsync"):
            original = getattr(os, name)

            def changed(*arguments: Any, _original: Any = original, **named: Any) -> Any:
                boundary()
                result = _original(*arguments, **named)
                boundary()
                return result

            setattr(os, name, changed)
        work()

    _, status = os.waitpid(child(run), 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def test_killed_anywhere_while_it_adds_it_leaves_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs_module, "SMALL_PACKS", 3)
    at, was_killed = 0, True
    while was_killed:
        at += 1
        staging = LocalStaging(tmp_path / str(at))
        for text in KEPT[:2]:
            keep(staging, [text])
        was_killed = killed_at(at, lambda: keep(LocalStaging(staging.root), KEPT[2:]))  # noqa: B023 - it has run by then
        after = LocalStaging(staging.root)
        there = found(after, KEPT)
        assert there in (set(KEPT[:2]), set(KEPT))
        keep(after, KEPT)
        after.compact(lambda: None)
        assert found(after, KEPT) == set(KEPT)
        assert len(packs(staging.root)) == 1
    assert at > 20, "boundaries were not reached"


@pytest.mark.parametrize(
    ("layout", "small", "gone"),
    [
        ([KEPT[:2] + GONE[:7], KEPT[2:] + GONE[7:]], packs_module.SMALL_ENTRIES, GONE),
        ([KEPT + GONE[:3]], packs_module.SMALL_ENTRIES, GONE[:3]),
        ([KEPT + GONE], 3, GONE),
    ],
    ids=["small packs are merged", "a pack that stays", "a large pack is written again"],
)
def test_killed_anywhere_while_it_deletes_it_loses_nothing_and_the_next_one_completes_it(
    layout: list[list[str]], small: int, gone: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs_module, "SMALL_ENTRIES", small)

    def delete(root: Path) -> None:
        staging = LocalStaging(root)
        staging.discard(keys_of(gone), time.time() - IN_USE_S)
        staging.compact(lambda: None)

    at, was_killed = 0, True
    while was_killed:
        at += 1
        root = tmp_path / str(at)
        for texts in layout:
            keep(LocalStaging(root), texts)
        make_older(root, time.time() - 2 * IN_USE_S)
        was_killed = killed_at(at, lambda: delete(root))  # noqa: B023 - it has run by then
        assert found(LocalStaging(root), KEPT) == set(KEPT)
        delete(root)
        assert found(LocalStaging(root), [*KEPT, *gone]) == set(KEPT)
        for temporary in (root / "tmp").iterdir():
            os.utime(temporary, (0, 0))
        LocalStaging(root).sweep()
        assert on_disk(root, [*KEPT, *gone]) == KEPT
        (left,) = packs(root)
        assert len(list(Pack.open(str(left)).entries())) == len(KEPT)
    assert at > 12, "boundaries were not reached"
