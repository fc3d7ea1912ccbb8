"""Steps tell of a document what the ledger has taken, and nothing of one that was no longer theirs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.chunk.file import ChunkFileHeader, write_chunks
from pipeline.chunk.units import ChunkOptions
from pipeline.ledger import Ledger
from pipeline.ledger.claims import Claim
from pipeline.parse.gate import Limits
from pipeline.sandbox.guard import GuardOptions, ParseGuard
from pipeline.staging.copies import chunks_key
from pipeline.staging.local import LocalStaging
from pipeline.steps.parse import ParseStep
from pipeline.telemetry.spans import Span, Tracing, Version
from pipeline.types import Reason, SourceFile, Stage, StagedFile, document_id

FINGERPRINT = "f" * 16
NAMES = ("there", "lost", "anew", "anew-lost")


class Kept(Tracing):
    """Keeps spans instead of sending them."""

    on = True

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}

    def send(self, version: Version, span: Span) -> None:
        self.spans[version.uri.removeprefix("file:///")] = span


@pytest.fixture
def guard() -> Iterator[ParseGuard]:
    """One that has nothing to do here: chunk files are there, or staged copies are lost."""
    with ParseGuard(GuardOptions("", ChunkOptions(256, 0, 4096), Limits(1, 1, 1.0), 1, 1.0)) as guard:
        yield guard


def stage(ledger: Ledger, names: tuple[str, ...], version: int) -> dict[str, str]:
    """Stage documents without bytes; their ids by name."""
    staged = {}
    for number, name in enumerate(names):
        source = SourceFile(f"file:///{name}", Path(f"/{name}"), 10, version)
        staged[document_id("c", source.uri)] = StagedFile(source, f"{version}{number:063x}", "")
    ledger.intake.record_staged("c", ledger.runs.start("c"), staged)
    return dict(zip(names, staged, strict=True))


def claimed(ledger: Ledger, staging: LocalStaging) -> tuple[Claim, dict[str, str]]:
    """A claim on documents of which half have their chunk files, and half are loaded anew after it."""
    ids = stage(ledger, NAMES, 1)
    claim = ledger.work.claim(Stage.PARSE, list(ids.values()), "p")
    for document in claim.documents:
        name = document.uri.removeprefix("file:///")
        if "lost" not in name:
            path = staging.scratch()
            write_chunks(path, ChunkFileHeader("text/plain", ""), [])
            staging.put_chunks(chunks_key(FINGERPRINT, document.content_hash, name), path)
    stage(ledger, NAMES[2:], 2)
    return claim, ids


def test_what_was_no_longer_ours_is_not_told(
    ledger: Ledger, tmp_path: Path, guard: ParseGuard, caplog: pytest.LogCaptureFixture
) -> None:
    staging, tracing = LocalStaging(tmp_path / "staging"), Kept()
    claim, ids = claimed(ledger, staging)
    with caplog.at_level(logging.DEBUG, "pipeline.steps.outcomes"):
        done = ParseStep(ledger, staging, guard, FINGERPRINT, tracing=tracing).run(claim, "b")
    assert done == [ids["there"]]
    said = [record.getMessage() for record in caplog.records if record.name == "pipeline.steps.outcomes"]
    assert said[0].startswith("file:///lost is quarantined: staged_lost")
    assert said[1] == "file:///there has a chunk file already"
    assert said[2].startswith("parsed 1 of 4 documents, 0 new chunks in ")
    assert said[2].endswith(", 1 with an existing chunk file")
    assert len(said) == 3
    assert {name: (span.reason, span.reused) for name, span in tracing.spans.items()} == {
        "lost": (Reason.STAGED_LOST, False), "there": ("", True),
    }  # fmt: skip


def test_a_failure_says_whether_it_was_recorded(ledger: Ledger, tmp_path: Path) -> None:
    claim, ids = claimed(ledger, LocalStaging(tmp_path / "staging"))
    assert ledger.work.fail(claim, ids["lost"], Reason.CORRUPT, "broken")
    assert not ledger.work.fail(claim, ids["lost"], Reason.CORRUPT, "again")
    assert not ledger.work.fail(claim, ids["anew-lost"], Reason.CORRUPT, "broken")
    assert [failure.uri for failure in ledger.report.failures()] == ["file:///lost"]
