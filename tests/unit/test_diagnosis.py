"""Whether it is stuck, and why: one line for each way in which work can stand."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table

from pipeline.ledger.flow import Lease
from pipeline.ledger.life import Rates
from pipeline.ledger.registry import WorkerRow
from pipeline.ledger.report import Progress, QuarantinedDocument
from pipeline.steps.load import LoadCounts
from pipeline.types import Stage
from workers import logs
from workers.cli.display import Utilisation, line, picture, progress_display
from workers.monitoring.diagnosis import Diagnosis, Situation, Verdict, diagnose
from workers.monitoring.snapshot import Moment


def worker(stage: str, note: str = "", busy_s: float = 0.0, processes: int = 1, up_s: float = 60.0) -> WorkerRow:
    device = "cpu" if stage == "embed" else ""
    return WorkerRow(f"{stage}@host", stage, "host", 7, device, "float32", 90.0, note, processes, busy_s, 1 << 30, up_s, 1.0)


BOTH = (worker("parse"), worker("embed"))

#: Work as it should be: ten documents wait or are worked on, and something moved a moment ago.
WELL = Situation(
    {"pending": 4, "parsing": 2, "parsed": 2, "embedding": 2, "indexed": 30}, {Stage.PARSE: 1, Stage.EMBED: 0}, BOTH, (),
    unqueued=0, in_flight=10, max_in_flight=256, quiet_s=0.4,
)  # fmt: skip

NO_BROKER: dict[Stage, int | None] = {Stage.PARSE: None, Stage.EMBED: None}

#: Its stage embed is about to be served; and with more documents than may be in flight.
LOADS_ITS_MODEL = replace(WELL, workers=(BOTH[0], worker("embed", "starting")))
FULL = replace(WELL, unqueued=5000, in_flight=250)

HELD = Lease("l", 3, "embed@host/9", "embed")


@pytest.mark.parametrize(
    ("situation", "verdict", "words"),
    [
        (WELL, Verdict.WORKING, "10 documents left to process"),
        (replace(WELL, quiet_s=12.0), Verdict.WORKING, "last progress 12 s ago"),
        (replace(WELL, states={"indexed": 3, "quarantined": 2}, quiet_s=9e9), Verdict.IDLE, "2 documents quarantined"),
        (replace(WELL, states={}, workers=(), quiet_s=None), Verdict.IDLE, "nothing left to do"),
        (replace(WELL, workers=BOTH[:1]), Verdict.STARVED, "2 documents wait for the embed stage"),
        (replace(WELL, workers=BOTH[:1]), Verdict.STARVED, "`kb-ingest worker --stage embed`"),
        (replace(WELL, workers=()), Verdict.STARVED, "the parse stage and 2 documents wait for the embed stage"),
        (replace(WELL, workers=(), own_workers=True), Verdict.STARTING, "10 documents wait until the workers are ready"),
        # Parsing goes on while the model is loaded; the embed stage has nothing to do yet.
        (replace(LOADS_ITS_MODEL, states={"pending": 4}), Verdict.WORKING, "4 documents"),
        (replace(LOADS_ITS_MODEL, states={"parsed": 2}, quiet_s=90.0), Verdict.STARTING, "2 documents wait until the workers are"),
        (FULL, Verdict.PAUSED, "250 documents in flight (KB_MAX_IN_FLIGHT 256), 5000 wait"),
        (replace(FULL, states={"pending": 5001, "parsed": 200, "embedding": 49}), Verdict.PAUSED, "embed stage is the bottleneck"),
        (replace(FULL, states={"pending": 5200, "parsed": 2}), Verdict.PAUSED, "the parse stage is"),
        (replace(WELL, quiet_s=40.0, unqueued=4, in_flight=6), Verdict.STALLED, "4 documents not queued"),
        (replace(WELL, quiet_s=40.0, leases=(HELD,)), Verdict.STALLED, "embed@host/9 holds documents and shows no progress"),
        (replace(WELL, quiet_s=40.0), Verdict.STALLED, "1 message waits in the parse queue, and its workers fetch none"),
        (replace(WELL, quiet_s=40.0, queues={Stage.PARSE: 0, Stage.EMBED: 0}), Verdict.STALLED, "resent after KB_REQUEUE_S"),
        (replace(WELL, quiet_s=16.0, queues=NO_BROKER), Verdict.STALLED, "the broker does not answer"),
        # Without a broker workers send no heartbeats, but they exist.
        (replace(WELL, quiet_s=60.0, queues=NO_BROKER, workers=()), Verdict.STALLED, "the broker does not answer"),
        (replace(WELL, quiet_s=16.0, workers=(BOTH[0], worker("embed", "fatal: no such model"))), Verdict.STALLED,
         "embed@host: no such model"),
        (replace(WELL, quiet_s=16.0, trouble="the ledger is locked"), Verdict.STALLED, "the ledger is locked"),
        # One of two complains, and the other one is at a long document.
        (replace(WELL, quiet_s=16.0, workers=(*BOTH, worker("embed", "CUDA error"))), Verdict.WORKING, "10 documents"),
        # Nobody waits for a model for ever, and what else stands still is not hidden by one that is loaded.
        (replace(LOADS_ITS_MODEL, quiet_s=90.0, leases=(replace(HELD, owner="parse@host/9"),)), Verdict.STALLED,
         "parse@host/9 holds documents and shows no progress;"),
        (replace(LOADS_ITS_MODEL, quiet_s=90.0, leases=(HELD,)), Verdict.STALLED, "progress, because it is loading a model"),
        (replace(WELL, quiet_s=900.0, workers=(BOTH[0], worker("embed", "starting", up_s=900.0))), Verdict.STALLED, "900 s"),
        # Workers that have just become ready, after documents had waited for them, get their time to begin.
        (replace(WELL, quiet_s=3600.0, workers=(worker("parse", up_s=1.0), LOADS_ITS_MODEL.workers[1]), leases=(HELD,)),
         Verdict.WORKING, "last progress 3600 s ago"),
        (replace(WELL, states={"parsed": 9}, quiet_s=90.0, workers=(BOTH[0], worker("embed", up_s=2.0))), Verdict.WORKING, "9"),
        (replace(WELL, quiet_s=90.0, workers=(*BOTH, worker("embed", up_s=2.0))), Verdict.STALLED, "for 90 s"),
        # As much is parsed as may be, and the parse worker has nothing to do until the model is loaded.
        (replace(FULL, states={"pending": 5000, "parsed": 250}, quiet_s=90.0, workers=LOADS_ITS_MODEL.workers),
         Verdict.STARTING, "5,250 documents wait until"),
        (replace(FULL, states={"pending": 5001, "parsed": 249}, quiet_s=90.0, workers=LOADS_ITS_MODEL.workers),
         Verdict.STALLED, "a worker is taking very long to load its model"),
        # Of a run that waits its turn behind others.
        (replace(FULL, states={"pending": 9}, unqueued=9), Verdict.PAUSED, "9 waiting their turn"),
        # The worker of another host is not meant, and what a library says may have several lines.
        (replace(LOADS_ITS_MODEL, quiet_s=90.0, leases=(replace(HELD, owner="embed@host2/9"),)), Verdict.STALLED, "progress;"),
        (replace(WELL, quiet_s=16.0, trouble="connection failed:\n\tIs the server running?"), Verdict.STALLED,
         "connection failed: Is the server running?"),
        # A word of a worker alone is no stop: the others go on.
        (replace(WELL, workers=(*BOTH, worker("embed", "Qdrant does not answer"))), Verdict.WORKING, "10 documents"),
    ],
)  # fmt: skip
def test_each_way_to_stand_has_its_verdict_and_its_cause(situation: Situation, verdict: Verdict, words: str) -> None:
    found = diagnose(situation)
    assert (found.verdict, words in found.words) == (verdict, True), found
    assert found.stuck == (verdict in (Verdict.STARVED, Verdict.STALLED))
    assert "\n" not in str(found)


MOMENT = Moment(
    Progress({"pending": 10, "indexed": 30}, 900, 600, 10, 60_000, 20_000, 1300, 1000, 65_000, 4000, 1000),
    [QuarantinedDocument("file:///doc/a%20scan.pdf", "needs_ocr", "pages of pictures", 1)],
    list(BOTH), {Stage.PARSE: 1, Stage.EMBED: None}, Rates(2.0, 96.4, 400.0), Diagnosis(Verdict.WORKING, "10 documents"), "",
    LoadCounts(discovered=45, unchanged=5),
)  # fmt: skip


def shown(moment: Moment, busy: Utilisation | None = None, width: int = 120) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=False)
    console.print(picture(moment, busy or Utilisation()))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_live_picture_shows_stages_speed_workers_queues_and_failures() -> None:
    text = shown(MOMENT)
    for words in ("45 files, 5 unchanged", "30 of 40 documents, 1,300 chunks", "30 of 40 documents, 1,000 chunks",
                  "96 chunks/s, 2 documents/s, 50 s left", "parse@host",
                  "cpu float32", "1.0 GB", "parse 1, embed does not answer", "10 for parse, 0 for embed",
                  "quarantined a scan.pdf: needs_ocr: pages of pictures"):  # fmt: skip
        assert words in text, text
    assert "10 documents\n" not in text  # all is well: no verdict is needed
    for verdict in (Verdict.STARVED, Verdict.STALLED, Verdict.PAUSED, Verdict.STARTING):
        assert f"{verdict}: the cause" in shown(replace(MOMENT, diagnosis=Diagnosis(verdict, "the cause")))


def test_words_of_strangers_neither_move_the_cursor_nor_change_colours() -> None:
    odd = "[red]\x1b[31m\r\u202e"
    moment = replace(
        MOMENT,
        failures=[QuarantinedDocument("file:///doc/%5Bred%5D%1B%0A.pdf", "corrupt", odd, 1)],
        workers=[worker("parse", odd)],
        diagnosis=Diagnosis(Verdict.STALLED, odd),
    )
    for text in (shown(moment), shown(replace(moment, diagnosis=Diagnosis(Verdict.WORKING, ""), trouble=odd))):
        assert not set("\x1b\r\u202e") & set(text)
        assert "quarantined [red]\\u001b\\u000a.pdf" in text
        assert text.count("[red]\\u001b[31m") == 3, text


def test_the_picture_fits_a_narrow_terminal() -> None:
    rows = shown(MOMENT, width=40).splitlines()
    assert max(map(len, rows)) <= 40
    assert "96 chunks/s, 2 documents/s, 50 s left" in rows


@pytest.mark.parametrize(("rate", "words"), [(0.0033, "0.0033"), (12.345, "12.3"), (1234.5, "1234"), (0.0, "0")])
def test_rates_are_plain_numbers(rate: float, words: str) -> None:
    assert f" {words} documents/s" in line(replace(MOMENT, rates=Rates(rate, 96.4, 400.0)))


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich takes it for a terminal
    monkeypatch.setenv("TERM", "dumb")
    with progress_display() as display:
        display(MOMENT)
    assert "30 of 40 documents done" in capsys.readouterr().err


def test_our_own_log_lines_go_above_the_live_picture(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    logs.set_up("info")
    with progress_display() as display:
        os.write(display.stderr, b"embed WARNING \x1b[31m of\ta worker\n")
        display(MOMENT)
        display._live.refresh()  # type: ignore[union-attr]
        logging.getLogger("dispatch").warning("took back 64 documents")
    logging.getLogger("dispatch").warning("after the end")
    said = capsys.readouterr().err
    assert re.search(r"(\n|\x1b\[2K)\S+ WARNING dispatch: took back 64 documents *\n", said), said
    assert "quarantined a scan.pdf" in said
    assert re.search(r"embed WARNING \\u001b\[31m of +a worker", said)
    assert said.endswith("WARNING dispatch: after the end\n")


def test_no_end_is_foretold_while_files_are_still_being_found_or_nothing_moves() -> None:
    stalled = replace(MOMENT, diagnosis=Diagnosis(Verdict.STALLED, "the cause"))
    for moment in (stalled, replace(MOMENT, staging=True), replace(MOMENT, rates=Rates(0, 0, 0)),
                   replace(MOMENT, progress=replace(MOMENT.progress, left_tokens=None))):  # fmt: skip
        assert "left" not in line(moment)
    assert "45 files, 5 unchanged so far · " in line(replace(MOMENT, staging=True))
    assert line(MOMENT).endswith(
        "30 of 40 documents done · 0 quarantined · 1,300 chunks parsed so far, 1,000 written"
        " · 96 chunks/s, 2 documents/s, 50 s left"
    )


def test_one_large_document_moves_what_is_shown_long_before_its_end() -> None:
    """As it is parsed, and then as it is written; by bytes and tokens, as there is one document only."""
    parsed = Progress({"parsing": 1}, 0, 0, 1, 0, 90_000, 1240, 0, 0, 4000, 1000)
    parsing = replace(MOMENT, progress=parsed, rates=Rates(0, 0, 0, 100.0))
    assert line(parsing).endswith(
        "0 of 1 document done · 0 quarantined · 1,240 chunks parsed so far, 0 written"
        " · 0 chunks/s, 0 documents/s, 10 s left to parse"
    )
    assert filled(parsing) == [100, 75, 0]  # staged, and three quarters are parsed
    written = Progress({"embedding": 1}, 0, 0, 1, 0, 54_000, 1640, 820, 54_000, 4000, 0)
    writing = replace(parsing, progress=written, rates=Rates(0, 10.0, 1000.0))
    assert line(writing).endswith("820 of 1,640 chunks written · 10 chunks/s, 0 documents/s, 54 s left")
    assert filled(writing) == [100, 100, 50]
    assert "left" not in line(replace(writing, rates=Rates(0, 0, 0, 100.0)))  # all is parsed, and nothing is known of the rest
    done = replace(writing, progress=Progress({"indexed": 1}, 1640, 1640, 0, 108_000, 0, 1640, 1640, 108_000, 4000, 0))
    assert filled(done) == [100, 100, 100]
    assert filled(replace(done, progress=Progress({"quarantined": 1}, 0, 0, 0, left_tokens=0))) == [100, 100, 100]


def filled(moment: Moment) -> list[int]:
    """How full the bars of the stages are, in percent."""
    table = picture(moment, Utilisation()).renderables[0]
    assert isinstance(table, Table)
    return [round(bar.percentage_completed or 0) for bar in table.columns[1].cells if isinstance(bar, ProgressBar)]


def test_utilisation_is_the_share_of_all_processes_and_starts_again_with_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("workers.cli.display.time", SimpleNamespace(monotonic=lambda: now[0]))
    busy = Utilisation()
    for second in range(21):
        now[0] = 100.0 + second
        busy.add(worker("parse", busy_s=1.5 * second, processes=2))
        if second < 4:
            assert busy.of(worker("parse", processes=2)) is None  # too soon to say
    assert busy.of(worker("parse", processes=2)) == pytest.approx(0.75)
    assert " 75%" in shown(replace(MOMENT, workers=[worker("parse", processes=2)]), busy)
    busy.add(worker("parse", busy_s=0.1, processes=2))
    assert busy.of(worker("parse", processes=2)) is None


@pytest.mark.parametrize("before_s", [0.0, 500.0], ids=["from its start", "later"])
def test_utilisation_is_right_from_the_first_although_work_is_written_down_now_and_then(
    monkeypatch: pytest.MonkeyPatch, before_s: float
) -> None:
    """A worker that always works and says so every 5 s; looked at four times a second, at first while it loads its model."""
    now = [0.0]
    monkeypatch.setattr("workers.cli.display.time", SimpleNamespace(monotonic=lambda: now[0]))
    busy, shares, written = Utilisation(), [], before_s
    for quarter in range(60 * 4):
        now[0] = quarter / 4
        note = "starting" if not before_s and now[0] < 9 else ""
        if now[0] >= 10 and (now[0] - 10) % 5 == 2.25:
            written = before_s + now[0] - 9
        busy.add(worker("embed", note=note, busy_s=written))
        shares.append(busy.of(worker("embed")))
    known = [share for share in shares if share is not None]
    assert len(known) > 40 * 4
    assert min(known) == pytest.approx(1.0, abs=0.01)
    for quarter in range(60 * 4, 90 * 4):  # nothing is left to do
        now[0] = quarter / 4
        busy.add(worker("embed", busy_s=written))
    assert busy.of(worker("embed")) == 0
