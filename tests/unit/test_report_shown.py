"""The page and the command of a report: escaping, warnings, axes and words."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from lxml import html as lxml_html

from pipeline.ledger import Ledger
from pipeline.ledger.work import IndexedResult, ParsedResult
from pipeline.reports.run.charts import compact, scale, time_marks
from pipeline.reports.run.page import report_page
from pipeline.settings import Settings
from pipeline.sources.uris import shown_path, uri_of
from pipeline.telemetry.counters import CHUNK_LIMIT, CHUNK_TOKENS, UNBOUNDED, Measured
from pipeline.text import duration, size
from pipeline.types import Reason, SourceFile, Stage, StagedFile, document_id
from tests.unit.test_report import fail, index, report_of, stage, value_of
from workers.cli import run as command

HOSTILE = (
    "<script>alert(1)</script>.txt", 'quo"te\'s & <b>.txt', "line\u2028end\u202egnp.exe", "percent%20%41.txt", "$name ${x}.txt",
    "</title></svg><img src=x onerror=alert(1)>",
)  # fmt: skip


def test_nothing_that_a_name_holds_can_break_the_page(ledger: Ledger) -> None:
    run = ledger.runs.start("docs", source="<i>source</i>")
    names = [name.replace("/", "∕") for name in HOSTILE]
    uris = [uri_of(Path("/doc") / name) for name in names] + ["file:///doc/caf%E9%0Aend.txt"]
    sources = [SourceFile(uri, None, 10, 1) for uri in uris]
    ids = [document_id("docs", uri) for uri in uris]
    ledger.intake.record_staged(
        "docs", run, {key: StagedFile(source, "1" * 64, "") for key, source in zip(ids, sources, strict=True)}
    )
    for key in ids[:3]:
        claim = ledger.work.claim(Stage.PARSE, [key], "w")
        ledger.work.parsed(claim, [ParsedResult(key, '</td><script src="http://x"></script>', "text/plain", "p", 10, 0.1)])
        ledger.work.release(claim)
        claim = ledger.work.claim(Stage.EMBED, [key], "w")
        ledger.work.indexed(claim, [IndexedResult(key, "1" * 64, "p", "e", 1, 1, 10, 0.1)])
        ledger.work.release(claim)
    for key in ids[3:]:
        fail(ledger, key, Reason.CORRUPT, "<script>detail</script> at \x1b[31m")
    ledger.runs.end(run, "partly")
    shown = report_page(report_of(ledger, run))
    assert shown.encode("utf-8").decode("utf-8") == shown
    tree = lxml_html.fromstring(shown)
    assert tree.xpath("//script | //img | //*[@onerror] | //i[not(ancestor::ul)]") == []
    assert tree.xpath("//*[@src] | //*[@href]") == []
    words = tree.text_content()
    for name in (
        names[0],
        names[1],
        names[3],
        names[4],
        "line\\u2028end\\u202egnp.exe",
        "caf\\udce9\\u000aend.txt",
        "at \\u001b[31m",
    ):
        assert name in words, name
    for svg in re.findall(r"<svg.*?</svg>", shown, re.DOTALL):
        ElementTree.fromstring(svg)


def test_chunks_over_the_limit_are_told_in_red(ledger: Ledger) -> None:
    run = ledger.runs.start("docs")
    measured = Measured()
    for bound, number in (("256", 5), ("272", 2), (UNBOUNDED, 2)):
        measured.add(CHUNK_TOKENS, str(run), number, bound)
    measured.add(CHUNK_LIMIT, str(run), bound="256")
    ledger.measures.record(measured)
    ledger.runs.end(run, "done")
    found = report_of(ledger, run)
    assert (found.lengths.chunks, found.lengths.over, len(found.lengths.bins)) == (7, 2, 17)
    tree = lxml_html.fromstring(report_page(found))
    (cut,) = tree.xpath("//*[@id='cut']")
    assert cut.get("class") == "note bad"
    assert cut.text_content().startswith("2 chunks were cut.")
    assert len(tree.xpath("//*[@id='lengths']//rect")) == 17
    assert len(tree.xpath("//*[@id='lengths']//rect[@class='over']")) == 1


def test_the_command_speaks_of_the_last_run_and_knows_no_other(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["report"]) == 1
    assert capsys.readouterr() == ("", "error: no runs yet; `kb-ingest load PATH` starts one\n")
    ledger = Ledger.open(Settings(data_dir=data_dir).prepare().ledger_url)
    run = ledger.runs.start("docs")
    ids = stage(ledger, run, {"a.txt": 1000, "b.txt": 10, "c.png": 10})
    index(ledger, ids["a.txt"], 4)
    fail(ledger, ids["b.txt"], Reason.CORRUPT, "its end is cut off")
    fail(ledger, ids["c.png"], Reason.UNSUPPORTED, "PNG image")
    ledger.runs.end(run, "partly")
    ledger.close()
    assert command(["report", "7"]) == 1
    assert capsys.readouterr() == ("", "error: run 7 does not exist; `kb-ingest runs` lists all runs\n")
    assert command(["report"]) == 0
    said = capsys.readouterr().out
    assert "corrupt: 1 document\n    file:///doc/b.txt: its end is cut off" in said
    assert "skipped: 1 document: unsupported" in said
    assert "4 chunks: file:///doc/a.txt" in said
    assert command(["report", "1", "--html", str(tmp_path / "no" / "x.html")]) == 1
    assert "cannot write" in capsys.readouterr().err
    assert command(["report", "--html", str(tmp_path / "x.html"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["run"]["id"], record["totals"]["indexed"], record["failures"][0]["reason"]) == (1, 1, "corrupt")
    assert value_of((tmp_path / "x.html").read_text("utf-8"), "indexed") == "1"


@pytest.mark.parametrize(
    ("most", "whole", "top", "count"),
    [(0, False, 1, 2), (1, False, 1, 6), (1, True, 1, 2), (3, True, 3, 4), (7, True, 8, 5), (99, False, 100, 6),
     (101, True, 150, 4), (0.03, False, 0.03, 4)],
)  # fmt: skip
def test_axes_hold_what_they_show(most: float, whole: bool, top: float, count: int) -> None:
    end, ticks = scale(most, whole=whole)
    assert end == pytest.approx(top)
    assert len(ticks) == count
    assert ticks[-1] == pytest.approx(end)


def test_words() -> None:
    assert [mark.words for mark in time_marks(100)] == ["0 s", "30 s", "1 min", "1.5 min"]
    assert [mark.words for mark in time_marks(0.5)] == ["0 s", "0.1 s", "0.2 s", "0.3 s", "0.4 s", "0.5 s"]
    assert [mark.words for mark in time_marks(3600 * 30)] == ["0 s", "6 h", "12 h", "18 h", "1 d", "30 h"]
    assert [compact(value) for value in (0.5, 20, 1500, 2e6)] == ["0.5", "20", "1.5k", "2M"]
    assert [duration(value) for value in (0.25, 41.2, 723, 7500)] == ["0.25 s", "41.2 s", "12 min 3 s", "2 h 5 min"]
    assert [size(value) for value in (820, 1500, 12e6)] == ["820 B", "1.5 kB", "12.0 MB"]
    assert shown_path("file:///a%20b/caf%C3%A9.txt") == "/a b/café.txt"
    assert shown_path("s3://bucket/a/b.txt") == "s3://bucket/a/b.txt"
