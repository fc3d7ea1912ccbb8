"""How often a load looks at its run, and which documents it starts again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import TooManyFailures
from pipeline.ledger import Ledger
from pipeline.ledger.intake import Known, Refused
from pipeline.settings import load_settings
from pipeline.steps.load import LoadCounts
from pipeline.types import DocumentState, Program, Reason, SourceFile, Stage, StagedFile
from workers.jobs.crew import Working
from workers.jobs.load import Watch
from workers.monitoring.snapshot import WAIT_EVERY_S, Lookout, Moment


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'kb.db'}")
    yield ledger
    ledger.close()


def test_windows_that_follow_at_once_share_a_look(ledger: Ledger, tmp_path: Path) -> None:
    moments: list[Moment] = []
    watch = Watch(load_settings(data_dir=tmp_path), ledger, ledger.runs.start("docs"), None, moments.append)
    counts = LoadCounts(discovered=500)
    watch.window(counts)
    watch.window(counts)
    assert len(moments) == 1
    assert moments[0].staging
    assert watch.pause_s >= WAIT_EVERY_S
    watch.look(counts, staging=False)
    assert [moment.staging for moment in moments] == [True, False]


def test_a_look_stops_a_run_that_fails_in_numbers(ledger: Ledger, tmp_path: Path) -> None:
    run = ledger.runs.start("docs")
    files = [SourceFile(f"file:///{number}", Path(f"/{number}"), 5, 1) for number in range(60)]
    ledger.intake.refuse("docs", run, {file.uri[-36:]: Refused(file, Reason.UNREADABLE, "no") for file in files})
    watch = Watch(load_settings(data_dir=tmp_path), ledger, run, None, lambda _: None)
    with pytest.raises(TooManyFailures, match="60 of 60"):
        watch.window(LoadCounts())


def test_one_worker_s_complaint_is_shown_and_is_no_trouble_of_the_load(ledger: Ledger, tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, redis_url="redis://127.0.0.1:1/0")
    ledger.registry.register("embed-a@host", "embed", "host", 1, note="fatal: CUDA error")
    ledger.registry.register("embed-b@host", "embed", "host", 2, note="starting")
    trouble = Working(settings, ledger).tend()
    assert trouble == ""
    assert Lookout(settings, ledger).look(trouble=trouble).trouble == "CUDA error"
    ledger.registry.see("embed-a@host", note="")
    assert Lookout(settings, ledger).look().trouble == ""


@pytest.mark.parametrize(
    ("state", "reason", "detail", "program"),
    [
        (DocumentState.SKIPPED, Reason.NEEDS_OCR, "", Program.OCR),
        (DocumentState.SKIPPED, Reason.UNSUPPORTED, "PNG image; to read it: pip install", Program.OCR),
        (DocumentState.SKIPPED, Reason.UNSUPPORTED, "Word 97", Program.LIBREOFFICE),
        (DocumentState.SKIPPED, Reason.UNSUPPORTED, "PowerPoint 97; to read it: apt-get install", Program.LIBREOFFICE),
        (DocumentState.SKIPPED, Reason.UNSUPPORTED, "DjVu document; to read it: apt-get install", Program.DJVULIBRE),
        (DocumentState.SKIPPED, Reason.UNSUPPORTED, "Visio drawing", None),
        (DocumentState.SKIPPED, Reason.UNSUPPORTED, None, None),
        (DocumentState.SKIPPED, Reason.EMPTY_TEXT, "DjVu document", None),
        (DocumentState.PENDING, Reason.UNSUPPORTED, "Word 97", None),
    ],
)
def test_a_skipped_document_knows_the_program_that_it_needs(
    state: DocumentState, reason: Reason, detail: str | None, program: Program | None
) -> None:
    known = Known(1, 1, "hash", state, reason, "", "", "", detail=detail)
    assert known.needs is program


def test_waiting_ends_with_the_last_open_document(ledger: Ledger, tmp_path: Path) -> None:
    run = ledger.runs.start("docs")
    file = StagedFile(SourceFile("file:///a", Path("/a"), 5, 1), "a" * 64, "")
    ledger.intake.record_staged("docs", run, {"a" * 36: file}, {})
    watch = Watch(load_settings(data_dir=tmp_path), ledger, run, None, lambda _: None)
    watch.look(LoadCounts(), staging=False)
    watch._lookout.next = time.monotonic() + 60
    (batch,) = ledger.flow.take(Stage.PARSE, documents_max=1, batch_documents=1, batch_bytes=1)
    claim = ledger.work.claim(Stage.PARSE, batch.document_ids, "w/1")

    def end() -> None:
        assert ledger.report.is_open(run)
        ledger.work.fail(claim, "a" * 36, Reason.CORRUPT, "no")

    timer = threading.Timer(0.3, end)
    timer.start()
    began = time.monotonic()
    watch.wait()
    timer.join()
    assert not ledger.report.is_open(run)
    assert time.monotonic() - began < 30
