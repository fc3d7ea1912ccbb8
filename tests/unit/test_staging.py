"""Staging: the version that was hashed is the version that is kept."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import fsspec
import pytest

from pipeline.errors import DocumentError, NoSpace, SourceError, StagingUnavailable
from pipeline.sources.discover import Patterns, discover, exists
from pipeline.sources.uris import uri_of
from pipeline.staging import Staging, open_staging
from pipeline.staging.copies import blob_key, chunks_key, join_key, split_key
from pipeline.staging.local import LocalStaging
from pipeline.types import Reason, SourceFile
from tests.services import free_port


def source(path: Path) -> SourceFile:
    status = path.stat()
    return SourceFile(uri_of(path), path, status.st_size, status.st_mtime_ns)


@pytest.fixture(params=["folder", "memory", "s3"])
def staging(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staging:
    if request.param == "s3":
        for name, value in request.getfixturevalue("s3").items():
            monkeypatch.setenv(name, value)
        return open_staging(f"s3://kb-unit/{tmp_path.name}")
    return open_staging(str(tmp_path / "staging") if request.param == "folder" else f"memory://{tmp_path.name}")


def test_a_copy_has_the_bytes_and_the_hash(staging: Staging, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(os.urandom(3_000_000))
    staged = staging.put(source(path))
    assert staged.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    with staging.blob(staged.content_hash) as copy:
        assert copy.read_bytes() == path.read_bytes()


def test_the_same_bytes_are_kept_once(tmp_path: Path) -> None:
    staging = LocalStaging(tmp_path / "staging")
    for name in ("a", "b"):
        (tmp_path / name).write_text("same")
    assert staging.put(source(tmp_path / "a")).location == staging.put(source(tmp_path / "b")).location
    assert len(list(staging.contents())) == 1


def test_contents_without_a_file_are_kept_like_copies(staging: Staging) -> None:
    contents = {hashlib.sha256(data).hexdigest(): data for data in (f"record {number}".encode() for number in range(40))}
    ticks: list[None] = []
    for _ in range(2):
        staging.put_bytes(contents, lambda: ticks.append(None))
    assert len(ticks) == 80
    for content_hash, data in contents.items():
        with staging.blob(content_hash) as path:
            assert path.read_bytes() == data


def test_a_damaged_copy_is_reported_and_removed(tmp_path: Path) -> None:
    staging = LocalStaging(tmp_path / "staging")
    (tmp_path / "a").write_text("whole")
    staged = staging.put(source(tmp_path / "a"))
    (staging.root / staged.location).write_text("whol")
    with pytest.raises(DocumentError, match="damaged") as caught, staging.blob(staged.content_hash):
        pass
    assert caught.value.reason is Reason.STAGED_LOST
    assert not (staging.root / staged.location).exists()


def test_a_missing_copy_is_reported(staging: Staging) -> None:
    with pytest.raises(DocumentError) as caught, staging.blob("0" * 64):
        pass
    assert caught.value.reason is Reason.STAGED_LOST


def test_a_file_that_cannot_be_read_or_is_gone_or_no_file(staging: Staging, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.write_text("x")
    file = source(gone)
    gone.unlink()
    os.mkfifo(tmp_path / "pipe")
    for wanted in (file, SourceFile("file:///pipe", tmp_path / "pipe", 1, 1)):
        with pytest.raises(DocumentError) as caught:
            staging.put(wanted)
        assert caught.value.reason is Reason.UNREADABLE


def test_a_file_that_goes_on_changing_is_not_staged(tmp_path: Path) -> None:
    staging = LocalStaging(tmp_path / "staging")
    path = tmp_path / "log"
    path.write_bytes(b"x" * 50_000_000)
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as writer:
            while not stop.is_set():
                writer.write(b"more")

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        with pytest.raises(DocumentError) as caught:
            staging.put(source(path))
    finally:
        stop.set()
        thread.join()
    assert caught.value.reason is Reason.CHANGED
    assert not [left for left in staging.root.rglob("*") if left.is_file()]


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    staging = LocalStaging(tmp_path / "staging")
    path = tmp_path / "a"
    path.write_text("x")
    staging._scratch = _Full(tmp_path)  # type: ignore[assignment]
    with pytest.raises(NoSpace, match="free some disk space"):
        staging.put(source(path))
    assert not [left for left in staging.root.rglob("*") if left.is_file()]


class _Full:
    """A scratch folder whose every file is the kernel's always-full device."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __truediv__(self, name: str) -> Path:
        link = self._folder / name
        link.symlink_to("/dev/full")
        return link


def test_chunk_files_go_in_and_come_out(staging: Staging) -> None:
    key = chunks_key("f" * 16, "ab" * 32, "Manual.PDF")
    assert key.endswith(".pdf.jsonl.gz")
    assert staging.with_chunks([key]) == set()
    written = staging.scratch()
    written.write_bytes(b"chunks")
    staging.put_chunks(key, written)
    assert staging.with_chunks([key]) == {key}
    assert not written.exists()
    with staging.chunks(key) as file:
        assert file.read() == b"chunks"


def test_old_temporary_files_are_swept_and_young_ones_kept(tmp_path: Path) -> None:
    staging = LocalStaging(tmp_path / "staging")
    old, young = staging.scratch(), staging.scratch()
    for path in (old, young):
        path.write_text("x")
    folder = staging.scratch()
    folder.mkdir()
    (folder / "half a chunk file").write_text("x")
    for path in (old, folder):
        os.utime(path, (0, 0))
    assert staging.sweep() == 2
    assert young.exists()
    assert not folder.exists()


def test_an_object_store_that_is_away_is_no_fault_of_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = fsspec.get_filesystem_class("s3")
    clients.clear_instance_cache()  # the one of other tests knows another endpoint
    for name, value in {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    staging = open_staging("s3://nowhere/at-all")
    path = tmp_path / "a.txt"
    path.write_text("a")
    with pytest.raises(StagingUnavailable, match="KB_STAGING_URL"):
        staging.put(source(path))
    with pytest.raises(StagingUnavailable), staging.blob("0" * 64):
        pass
    with pytest.raises(SourceError, match="cannot list s3://nowhere"):
        list(discover(["s3://nowhere/at-all"], Patterns()))
    assert exists("s3://nowhere/at-all/a")  # where it cannot be said, nothing is deleted
    clients.clear_instance_cache()


def test_keys_survive_their_way_through_a_pack() -> None:
    for key in (
        blob_key("ab" * 32),
        chunks_key("f" * 16 + "-0123", "cd" * 32, "Manual.PDF"),
        chunks_key("p", "ef" * 32, "no ending"),
    ):
        parts = split_key(key)
        assert parts is not None
        assert join_key(*parts) == key
    assert split_key("blobs/ab/abc") is None
    assert split_key("blobs/zz/" + "zz" * 32) is None
