"""Backups: interrupted anywhere they are none, damaged anywhere they are refused, and meanwhile nothing else removes files."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import update

from pipeline.errors import BackupError, ConfigError
from pipeline.files.copy import copy_file
from pipeline.ledger import Ledger
from pipeline.ledger.schema import SCHEMA_VERSION, documents, writing
from pipeline.settings import load_settings
from pipeline.staging import batch, open_staging
from pipeline.staging.contents import PACKED_BYTES
from pipeline.staging.copies import blob_key, chunks_key
from pipeline.staging.local import LocalStaging
from pipeline.steps import backup
from pipeline.steps.backup import FILES, LEDGER, MANIFEST, POINTS, STAGED, UNFINISHED, Made, check, make
from pipeline.steps.restore import check_empty, put_back
from pipeline.store.edge import EdgeStore
from pipeline.types import SourceFile, StagedFile, document_id
from tests.made_points import DIMENSION
from tests.packed import packs
from workers.jobs.upkeep import alone, collect


class Place:
    """A data folder with two staged documents, one copy that no document needs, and a collection."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.staging = LocalStaging(root / "staging")
        self.ledger = Ledger.open(f"sqlite:///{root / 'kb.db'}")
        self.store = EdgeStore(root / "qdrant")
        self.store.create("docs-0123abcd", DIMENSION)
        self.store.set_alias("docs", "docs-0123abcd")
        self.hashes = [self.keep(text) for text in ("a", "b")]
        for number, content_hash in enumerate(self.hashes):
            source = SourceFile(f"file:///{number}.md", Path(f"/{number}.md"), 1, 1)
            self.ledger.intake.record_staged("docs", 1, {document_id("docs", source.uri): StagedFile(source, content_hash, "")})
        self.keep("nobody needs this")

    def keep(self, text: str) -> str:
        content_hash = hashlib.sha256(text.encode()).hexdigest()
        self.staging.put_bytes({content_hash: text.encode()}, lambda: None)
        return content_hash

    def back_up(self, folder: Path, stop_at: int = 0) -> Made:
        def stop(files: int, _size: int) -> None:
            if files == stop_at:
                raise KeyboardInterrupt

        return make(folder, self.ledger, self.staging, partial(self.store.copy, folder / POINTS), {}, stop)

    def close(self) -> None:
        self.store.close()
        self.ledger.close()


@pytest.fixture(params=[0, PACKED_BYTES], ids=["files", "packs"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(batch, "PACKED_BYTES", request.param)
    (tmp_path / "data").mkdir()
    with closing(Place(tmp_path / "data")) as made:
        yield made


def test_it_holds_what_the_ledger_names_and_nothing_else(place: Place, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    made = place.back_up(kept)
    assert {one.key for one in LocalStaging(kept / STAGED).contents()} == {blob_key(one) for one in place.hashes}
    (kept / STAGED / "tmp").rmdir()
    listed = [json.loads(line) for line in (tmp_path / "kept" / FILES).read_text().splitlines()]
    assert len(listed) == made.files
    there = {path.relative_to(tmp_path / "kept").as_posix() for path in (tmp_path / "kept").rglob("*") if path.is_file()}
    assert there == {one["path"] for one in listed} | {MANIFEST, FILES}
    inodes = {path.stat().st_ino for path in (kept / STAGED).rglob("*") if path.is_file()}
    theirs = {path.stat().st_ino for path in place.staging.root.rglob("*") if path.is_file()}
    # A pack must not be linked: what nobody needs any more is overwritten in it.
    assert inodes & theirs == (set() if packs(kept / STAGED) else inodes)


@pytest.mark.slow
def test_interrupted_at_any_file_it_is_refused_until_it_is_made_again(place: Place, tmp_path: Path) -> None:
    whole = place.back_up(tmp_path / "whole")
    for number in range(1, whole.files + 1):
        folder = tmp_path / str(number)
        with pytest.raises(KeyboardInterrupt):
            place.back_up(folder, stop_at=number)
        with pytest.raises(BackupError, match="was not finished"):
            check(folder)
        assert place.back_up(folder).files == whole.files
        assert check(folder).files == whole.files


def test_killed_between_manifest_and_end_it_starts_again(place: Place, tmp_path: Path) -> None:
    place.back_up(tmp_path / "kept")
    (tmp_path / "kept" / UNFINISHED).write_text("")
    with pytest.raises(BackupError, match="was not finished"):
        check(tmp_path / "kept")
    place.back_up(tmp_path / "kept")
    check(tmp_path / "kept")


@pytest.mark.parametrize("part", [STAGED, POINTS, LEDGER, FILES])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_damaged_part_is_named(part: str, how: str, place: Place, tmp_path: Path) -> None:
    place.back_up(tmp_path / "kept")
    path = tmp_path / "kept" / part
    if path.is_dir():
        path = next(one for one in sorted(path.rglob("*")) if one.is_file() and one.stat().st_size)
    contents = path.read_bytes()
    path.unlink()
    if how == "changed":
        path.write_bytes(contents[:-1] + bytes([contents[-1] ^ 1]))
    with pytest.raises((BackupError, ConfigError), match=path.name):
        check(tmp_path / "kept")


def test_a_listing_that_names_other_places_is_refused(place: Place, tmp_path: Path) -> None:
    place.back_up(tmp_path / "kept")
    listing, manifest = tmp_path / "kept" / FILES, tmp_path / "kept" / MANIFEST
    listing.write_text(json.dumps({"path": "staging/../../kb.db", "bytes": 0, "sha256": ""}) + "\n")
    about = json.loads(manifest.read_text()) | {"listing": hashlib.sha256(listing.read_bytes()).hexdigest()}
    manifest.write_text(json.dumps(about))
    with pytest.raises(BackupError, match="no part of a backup"):
        check(tmp_path / "kept")


def test_a_backup_of_a_later_version_is_refused_before_anything_changes(place: Place, tmp_path: Path) -> None:
    place.back_up(tmp_path / "kept")
    manifest = tmp_path / "kept" / MANIFEST
    about = json.loads(manifest.read_text())
    for later in ({"format": 3}, {"schema": SCHEMA_VERSION + 1}):
        manifest.write_text(json.dumps(about | later))
        with pytest.raises(BackupError, match="use the version that made it"):
            check(tmp_path / "kept")


def test_other_folders_and_complete_backups_are_left_alone(place: Place, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("picture")
    with pytest.raises(BackupError, match=r"holds 'a\.jpg'"):
        place.back_up(tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]
    place.back_up(tmp_path / "kept")
    with pytest.raises(BackupError, match="complete backup"):
        place.back_up(tmp_path / "kept")
    check(tmp_path / "kept")


def test_no_writer_comes_between_ledger_and_points(place: Place, tmp_path: Path) -> None:
    """Whoever opens the store while the ledger is copied waits until its files are copied too."""
    order: list[str] = []
    other = EdgeStore(tmp_path / "data" / "qdrant")

    def write() -> None:
        other.count("docs-0123abcd")
        order.append("other")

    thread = threading.Thread(target=write)

    def before() -> None:
        thread.start()
        thread.join(timeout=0.5)
        order.append("ledger")

    def copied(source: Path, target: Path) -> None:
        copy_file(source, target)
        order.append("file")

    with closing(other):
        place.store.copy(tmp_path / "points", before, copied)
        order.append("done")
        thread.join()
    assert order[0] == "ledger"
    assert order.index("other") > max(index for index, what in enumerate(order) if what == "file")
    with closing(EdgeStore(tmp_path / "points")) as copy:
        assert copy.aliases() == {"docs": "docs-0123abcd"}
        assert copy.count("docs") == 0


def test_it_is_put_back_and_empty_windows_take_no_space(place: Place, tmp_path: Path) -> None:
    place.back_up(tmp_path / "kept")
    target = tmp_path / "other"
    check_empty(target)
    put_back(check(tmp_path / "kept"), target, LocalStaging(target / "staging"), points=True)
    with closing(EdgeStore(target / "qdrant")) as store, Ledger.open(f"sqlite:///{target / 'kb.db'}") as ledger:
        assert store.count("docs") == 0
        assert ledger.report.progress().states == {"pending": 2}
    with pytest.raises(BackupError, match="is not empty"):
        check_empty(target)
    reserved = next(path for path in (tmp_path / "kept" / POINTS).rglob("*") if path.is_file() and path.stat().st_size > 16 << 20)
    assert 512 * os.stat(reserved).st_blocks < reserved.stat().st_size / 4


@pytest.mark.parametrize("target", ["folder", "memory"])
def test_staged_files_are_put_back_into_any_staging_area(target: str, place: Place, tmp_path: Path) -> None:
    key = chunks_key("p", place.hashes[0], "a.md")
    place.staging.scratch().write_bytes(b"chunks")
    with place.staging.batch() as batch:
        batch.put_chunks(key, next((place.root / "staging" / "tmp").iterdir()))
    with writing(place.ledger.engine) as connection:
        connection.execute(update(documents).values(parse_fingerprint="p", state="parsed"))
    place.back_up(tmp_path / "kept")
    other = open_staging(str(tmp_path / "other" / "staging") if target == "folder" else f"memory://{tmp_path.name}")
    (tmp_path / "other").mkdir(exist_ok=True)
    put_back(check(tmp_path / "kept"), tmp_path / "other", other, points=False)
    for text, content_hash in zip(("a", "b"), place.hashes, strict=True):
        with other.blob(content_hash) as path:
            assert path.read_text() == text
    with other.chunks(key) as file:
        assert file.read() == b"chunks"
    assert {one.key for one in other.contents()} == {*map(blob_key, place.hashes), key}


def test_a_backup_without_packs_of_an_earlier_version_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    with monkeypatch.context() as before:
        before.setattr(batch, "PACKED_BYTES", 0)
        before.setattr(backup, "FORMAT", 1)
        with closing(Place(tmp_path / "data")) as place:
            place.back_up(tmp_path / "kept")
    target = LocalStaging(tmp_path / "other" / "staging")
    put_back(check(tmp_path / "kept"), tmp_path / "other", target, points=False)
    assert len(packs(target.root)) == 1
    with target.pieces(place.hashes) as pieces:
        assert pieces.keys() == set(place.hashes)


def test_removals_and_backups_keep_each_other_out(place: Place) -> None:
    settings = load_settings(data_dir=place.root)
    with alone(settings), pytest.raises(ConfigError, match="is going on"):
        collect(settings, place.ledger)
    collect(settings, place.ledger)
