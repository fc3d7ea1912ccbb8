"""The report of a run: exact figures from a ledger with known events, and a page that nothing from documents can break."""

from __future__ import annotations

import random
from pathlib import Path

from lxml import html as lxml_html
from sqlalchemy import bindparam, text

from pipeline.ledger import Ledger
from pipeline.ledger.intake import Refused
from pipeline.ledger.retrospect import Step
from pipeline.ledger.work import IndexedResult, ParsedResult
from pipeline.reports.run import MAX_NAMED, NONE, PARTLY, WHOLE, Bin, Failure, Group, RunReport, StageTime, gather
from pipeline.reports.run.fold import TOP, Fold
from pipeline.reports.run.page import report_page
from pipeline.sources.uris import uri_of
from pipeline.telemetry.counters import CHUNK_LIMIT, CHUNK_TOKENS, Measured
from pipeline.types import Reason, SourceFile, Stage, StagedFile, document_id

START = 1_700_000_000.0


def stage(ledger: Ledger, run: int, sizes: dict[str, int], version: str = "1") -> dict[str, str]:
    """Stage files below /doc; return their documents' ids by name."""
    sources = {name: SourceFile(uri_of(Path("/doc") / name), None, size, 1) for name, size in sizes.items()}
    ids = {name: document_id("docs", source.uri) for name, source in sources.items()}
    ledger.intake.record_staged("docs", run, {ids[name]: StagedFile(source, version * 64, "") for name, source in sources.items()})
    return ids


def index(
    ledger: Ledger, key: str, chunks: int, *, embedded: int | None = None, parse_s: float = 0.1, embed_s: float = 0.2
) -> None:
    """Take a document through both stages."""
    claim = ledger.work.claim(Stage.PARSE, [key], "w@host/1")
    ledger.work.parsed(claim, [ParsedResult(key, f"Title {key[:4]}", "text/plain", "p", 10 * chunks, parse_s)])
    ledger.work.release(claim)
    claim = ledger.work.claim(Stage.EMBED, [key], "w@host/2")
    (document,) = claim.documents
    made = chunks if embedded is None else embedded
    ledger.work.indexed(claim, [IndexedResult(key, document.content_hash, "p", "e", chunks, made, 10 * chunks, embed_s)])
    ledger.work.release(claim)


def fail(ledger: Ledger, key: str, reason: Reason, detail: str) -> None:
    claim = ledger.work.claim(Stage.PARSE, [key], "w@host/1")
    ledger.work.fail(claim, key, reason, detail)
    ledger.work.release(claim)


def set_times(ledger: Ledger, run: int, times: dict[str, tuple[float, ...]], end: float | None = None) -> None:
    """Put a run and the events of its documents at known times, in seconds since START."""
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET started_at = :at WHERE id = :run"), {"at": START, "run": run})
        if end is not None:
            connection.execute(text("UPDATE runs SET finished_at = :at WHERE id = :run"), {"at": START + end, "run": run})
        for key, moments in times.items():
            ids = connection.execute(text("SELECT id FROM events WHERE document = :key ORDER BY id"), {"key": key}).scalars().all()
            change = text("UPDATE events SET at = :at WHERE id = :id").bindparams(bindparam("at"), bindparam("id"))
            rows = [{"at": START + moment, "id": number} for number, moment in zip(ids, moments, strict=True)]
            connection.execute(change, rows)


def report_of(ledger: Ledger, run: int) -> RunReport:
    past = ledger.runs.past(run)
    assert past is not None
    return gather(ledger, past)


def value_of(shown: str, name: str) -> str:
    """A figure of the page."""
    (found,) = lxml_html.fromstring(shown).xpath(f"//dd[@id='{name}']")
    return str(found.text_content())


def test_figures_are_exactly_those_of_the_events(ledger: Ledger) -> None:
    run = ledger.runs.start("docs")
    ids = stage(ledger, run, {"a.txt": 1000, "b.txt": 5000, "c.pdf": 300})
    index(ledger, ids["a.txt"], 4, parse_s=0.5, embed_s=1.0)
    index(ledger, ids["b.txt"], 20, embedded=15, parse_s=0.25, embed_s=0.5)
    fail(ledger, ids["c.pdf"], Reason.CORRUPT, "its end is cut off")
    measured = Measured()
    for bound, number in ((16, 3), (32, 20), (256, 1)):
        measured.add(CHUNK_TOKENS, str(run), number, str(bound))
    measured.add(CHUNK_TOKENS, str(run + 1), 9, "16")
    measured.add(CHUNK_LIMIT, str(run), bound="256")
    ledger.measures.record(measured)
    ledger.runs.update(run, discovered=5, unchanged=2, added=3, bytes=6300)
    ledger.runs.end(run, "partly")
    times = {
        ids["a.txt"]: (0.5, 1.5, 2.5, 3.0, 4.25),  # waits 1 s, is parsed within 1 s, waits 0.5 s, is embedded within 1.25 s
        ids["b.txt"]: (0.5, 3.5, 4.0, 4.0, 9.75),
        ids["c.pdf"]: (0.5, 1.0, 1.75),
    }
    set_times(ledger, run, times, 10.0)
    found = report_of(ledger, run)
    assert (found.outcome, found.seconds, found.so_far, found.events) == ("partly", 10.0, False, WHOLE)
    totals = found.totals
    assert (totals.discovered, totals.unchanged, totals.added, totals.indexed, totals.quarantined) == (5, 2, 3, 2, 1)
    assert (totals.chunks, totals.embedded, totals.tokens, totals.bytes, totals.indexed_bytes) == (24, 19, 240, 6300, 6000)
    assert (totals.chunks_per_s, totals.documents_per_s, totals.bytes_per_s) == (1.9, 0.2, 600.0)
    assert found.bins == (Bin(0.0, 5.0, 1, 4, 1000), Bin(5.0, 5.0, 1, 15, 5000))
    # a waits 1, b 3, c 0.5; held for 1 + 0.5 + 0.75 of which 0.75 were work.
    assert found.stages == (StageTime("parse", 3, 4.5, 3.0, 0.75, 1.5), StageTime("embed", 2, 0.5, 0.5, 1.5, 5.5))
    assert [one.uri for one in found.largest] == ["file:///doc/b.txt", "file:///doc/a.txt"] == [one.uri for one in found.longest]
    assert [(one.uri, one.parse_s, one.embed_s) for one in found.slowest] == [
        ("file:///doc/a.txt", 0.5, 1.0), ("file:///doc/b.txt", 0.25, 0.5),
    ]  # fmt: skip
    assert found.slowest[0].title == f"Title {ids['a.txt'][:4]}"
    assert found.failures == (Group("corrupt", 1, (Failure(ids["c.pdf"], "file:///doc/c.pdf", "its end is cut off", ""),)),)
    assert (found.failures_untold, found.skipped, found.comparison) == (0, (), None)
    lengths = found.lengths
    assert (lengths.limit, lengths.width, lengths.chunks, lengths.over) == (256, 16, 24, 0)
    assert lengths.bins == (3, 20, *[0] * 13, 1)


def test_a_later_run_does_not_rewrite_what_happened(ledger: Ledger) -> None:
    first = ledger.runs.start("docs")
    names = {"mended.pdf": 9, "same.pdf": 9, "gone.pdf": 9, "tried.pdf": 9, "other.pdf": 9}
    ids = stage(ledger, first, names)
    for name in names:
        fail(ledger, ids[name], Reason.CORRUPT, f"{name} is broken")
    nothing = SourceFile("file:///doc/nothing.txt", None, 0, 1)
    ledger.intake.refuse("docs", first, {"nothing": Refused(nothing, Reason.EMPTY_FILE, "zero bytes")})
    ledger.runs.end(first, "partly")
    second = ledger.runs.start("docs")
    index(ledger, stage(ledger, second, {"mended.pdf": 10}, "2")["mended.pdf"], 1)
    stage(ledger, second, {"other.pdf": 10}, "2")
    fail(ledger, ids["other.pdf"], Reason.TIMEOUT, "too slow")
    ledger.intake.adopt(second, [ids["same.pdf"]])
    ledger.runs.end(second, "partly")
    assert ledger.intake.drop([ids["gone.pdf"]]) == 1
    assert ledger.intake.retry(uris=["file:///doc/tried.pdf"]) == 1

    before = report_of(ledger, first)
    (group,) = before.failures
    assert (group.reason, group.documents, before.totals.quarantined) == ("corrupt", 5, 5)
    assert {one.uri: one.since for one in group.named} == {
        "file:///doc/mended.pdf": "fixed since", "file:///doc/other.pdf": "now: timeout", "file:///doc/same.pdf": "",
        "file:///doc/tried.pdf": "being retried", "": "no longer in the ledger",
    }  # fmt: skip
    assert {one.detail for one in group.named} == {f"{name} is broken" for name in names}
    assert [(skipped.reason, skipped.documents) for skipped in before.skipped] == [("empty_file", 1)]
    assert before.totals.skipped == 1

    after = report_of(ledger, second)
    assert [(found.reason, found.documents) for found in after.failures] == [("corrupt", 1), ("timeout", 1)]
    assert after.failures[0].named[0].since == "refused before this run, and unchanged"
    assert after.failures_untold == 0
    assert after.comparison is not None
    assert after.comparison.run == first
    figures = {one.name: one for one in after.comparison.figures}
    assert (figures["quarantined"].value, figures["quarantined"].before, figures["quarantined"].difference) == (2, 5, -3)
    assert (figures["indexed"].value, figures["indexed"].difference) == (1, 1)

    third = ledger.runs.start("docs")
    ledger.intake.adopt(third, [ids["same.pdf"]])
    again = report_of(ledger, second)
    assert [found.reason for found in again.failures] == ["timeout"]
    assert again.failures_untold == 1
    assert "had failed before this run" in report_page(again)
    # Another document of the first run is put to rights by hand: the event came after the run's end.
    index(ledger, ids["tried.pdf"], 3)
    (group,) = report_of(ledger, first).failures
    assert group.documents == 5
    assert report_of(ledger, first).slowest == ()


def test_a_document_that_is_compared_again_counts_once(ledger: Ledger) -> None:
    run = ledger.runs.start("docs")
    (key,) = stage(ledger, run, {"a.txt": 100}).values()
    index(ledger, key, 4, embed_s=1.0)
    ledger.work.recheck([key])
    claim = ledger.work.claim(Stage.EMBED, [key], "w@host/3")
    ledger.work.indexed(claim, [IndexedResult(key, "1" * 64, "p", "e", 4, 1, 40, 0.5)])
    ledger.work.release(claim)
    ledger.runs.end(run, "done")
    found = report_of(ledger, run)
    assert (sum(one.documents for one in found.bins), sum(one.chunks for one in found.bins)) == (1, 1)
    assert (found.totals.embedded, found.totals.tokens) == (1, 40)
    assert [(one.parse_s, one.embed_s) for one in found.slowest] == [(0.1, 1.5)]


def test_the_parsers_time_is_that_of_the_run_that_parsed(ledger: Ledger) -> None:
    first = ledger.runs.start("docs")
    (key,) = stage(ledger, first, {"a.txt": 100}).values()
    claim = ledger.work.claim(Stage.PARSE, [key], "w@host/1")
    ledger.work.parsed(claim, [ParsedResult(key, "A", "text/plain", "p", 40, 7.0)])
    ledger.work.release(claim)
    second = ledger.runs.start("docs")
    ledger.intake.adopt(second, [key])
    claim = ledger.work.claim(Stage.EMBED, [key], "w@host/2")
    ledger.work.indexed(claim, [IndexedResult(key, "1" * 64, "p", "e", 4, 4, 40, 0.5)])
    ledger.work.release(claim)
    ledger.runs.end(second, "done")
    found = report_of(ledger, second)
    assert [(one.parse_s, one.embed_s) for one in found.slowest] == [(0.0, 0.5)]
    assert {one.stage: one.work_s for one in found.stages} == {"parse": 0.0, "embed": 0.5}
    assert found.events == WHOLE


def test_workers_whose_clocks_run_ahead_lose_nothing(ledger: Ledger) -> None:
    run = ledger.runs.start("docs")
    ids = stage(ledger, run, {"a.txt": 100, "b.txt": 100, "c.txt": 100})
    index(ledger, ids["a.txt"], 3)
    index(ledger, ids["b.txt"], 2)
    fail(ledger, ids["c.txt"], Reason.CORRUPT, "broken")
    ledger.runs.end(run, "partly")
    times = {
        ids["a.txt"]: (0.0, 3.5, 4.0, 4.0, 4.5), ids["b.txt"]: (0.0, 3.5, 4.0, 4.5, 4.9), ids["c.txt"]: (0.0, 3.5, 4.5),
    }  # fmt: skip
    set_times(ledger, run, times, 2.0)  # by the clock of the load; the workers' is 3 s ahead
    found = report_of(ledger, run)
    assert (found.events, found.totals.tokens, len(found.slowest)) == (WHOLE, 50, 2)
    assert [(one.documents, one.chunks) for one in found.bins] == [(2, 5)]
    assert [(group.reason, group.documents) for group in found.failures] == [("corrupt", 1)]
    # What is begun again by hand keeps the run's number, and is none of its matter.
    ledger.intake.retry()
    index(ledger, ids["c.txt"], 9)
    again = report_of(ledger, run)
    assert (again.totals.tokens, again.failures[0].documents, again.bins) == (50, 1, found.bins)


def test_what_comes_after_the_end_of_a_failed_run_is_left_out_and_said_to_be(ledger: Ledger) -> None:
    run = ledger.runs.start("docs")
    ids = stage(ledger, run, {"a.txt": 100, "b.txt": 100})
    index(ledger, ids["a.txt"], 3)
    ledger.runs.end(run, "failed", "too many")
    index(ledger, ids["b.txt"], 2)
    found = report_of(ledger, run)
    assert (found.events, len(found.slowest), found.totals.tokens) == (WHOLE, 1, 30)
    set_times(ledger, run, {ids["a.txt"]: (0, 1, 1, 1, 5), ids["b.txt"]: (0, 6, 6, 6, 6)}, 3.0)
    found = report_of(ledger, run)
    assert (found.events, found.totals.indexed, found.slowest) == (PARTLY, 1, ())
    assert "after the end of a failed run" in report_page(found)


def test_only_so_many_failures_are_named_and_all_are_counted(ledger: Ledger) -> None:
    run = ledger.runs.start("docs")
    refused = {}
    for number in range(MAX_NAMED + 7):
        source = SourceFile(f"file:///doc/{number:04}.bin", None, 9, 1)
        refused[document_id("docs", source.uri)] = Refused(source, Reason.UNREADABLE, "no")
    ledger.intake.refuse("docs", run, refused)
    ledger.runs.end(run, "partly")
    found = report_of(ledger, run)
    (group,) = found.failures
    assert (group.documents, len(group.named)) == (MAX_NAMED + 7, MAX_NAMED)
    assert "and 7 more documents" in report_page(found)


def test_what_is_forgotten_is_said_and_not_drawn_as_nothing(ledger: Ledger) -> None:
    run = ledger.runs.start("docs")
    ids = stage(ledger, run, {"a.txt": 100, "b.txt": 100, "c.txt": 100})
    index(ledger, ids["a.txt"], 3)
    index(ledger, ids["b.txt"], 3)
    fail(ledger, ids["c.txt"], Reason.CORRUPT, "broken")
    ledger.runs.update(run, discovered=3, bytes=300)
    ledger.runs.end(run, "partly")
    whole = report_of(ledger, run)
    assert whole.events == WHOLE
    assert ledger.life.forget_steps(-1) > 0
    found = report_of(ledger, run)
    assert (found.events, found.slowest, found.totals) == (PARTLY, whole.slowest, whole.totals)
    assert "KB_STEPS_DAYS" in report_page(found)
    with ledger.engine.begin() as connection:
        connection.execute(text("DELETE FROM events WHERE document = :key"), {"key": ids["a.txt"]})
    assert report_of(ledger, run).events == PARTLY
    with ledger.engine.begin() as connection:
        connection.execute(text("DELETE FROM events"))
    found = report_of(ledger, run)
    assert found.events == NONE
    assert (found.totals.indexed, found.totals.embedded, found.totals.quarantined, found.totals.tokens) == (2, 6, 1, 0)
    assert [(group.reason, group.documents) for group in found.failures] == [("corrupt", 1)]
    measured = Measured()
    measured.add(CHUNK_TOKENS, str(run), 6, "16")
    measured.add(CHUNK_LIMIT, str(run), bound="256")
    ledger.measures.record(measured)
    assert report_of(ledger, run).lengths.limit == 256
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET started_at = started_at - 1000, finished_at = finished_at - 900"))
    ledger.life.forget(500)
    found = report_of(ledger, run)
    assert (found.lengths.limit, found.lengths.chunks) == (0, 0)
    shown = report_page(found)
    assert 'id="forgotten"' in shown
    assert "<svg" not in shown


def test_runs_of_other_kinds_and_runs_without_anything(ledger: Ledger) -> None:
    assert ledger.runs.past(1) is None
    empty = ledger.runs.start("docs")
    ledger.runs.end(empty, "done")
    found = report_of(ledger, empty)
    assert (found.totals.indexed, found.totals.chunks_per_s, found.events, found.lengths.bins) == (0, 0.0, WHOLE, ())
    assert "No document failed." in report_page(found)
    check = ledger.runs.start("docs", "verify", "handbook", "nightly")
    ledger.runs.end(check, "failed", "2 points missing", (40, 400, 2))
    shown = report_page(report_of(ledger, check))
    assert value_of(shown, "documents") == "40"
    assert value_of(shown, "failures") == "2"
    assert "2 points missing" in shown
    assert "by the schedule nightly" in shown
    assert "No document failed" not in shown
    deletion = ledger.runs.start("docs", "delete")
    ledger.runs.update(deletion, deleted=12)
    ledger.runs.end(deletion, "done")
    assert value_of(report_page(report_of(ledger, deletion)), "deleted") == "12"
    refused = ledger.runs.start("docs", "sync", "handbook")
    ledger.runs.end(refused, "refused", "<b>everything</b> is gone")
    assert "&lt;b&gt;everything&lt;/b&gt; is gone" in report_page(report_of(ledger, refused))


def test_a_run_that_has_no_end_says_so_far(ledger: Ledger) -> None:
    run = ledger.runs.start("docs")
    ids = stage(ledger, run, {"a.txt": 100, "b.txt": 100})
    index(ledger, ids["a.txt"], 3)
    set_times(ledger, run, {ids["a.txt"]: (0, 1, 2, 3, 4), ids["b.txt"]: (0,)})
    found = report_of(ledger, run)
    assert (found.so_far, found.seconds, found.totals.indexed, found.totals.open) == (True, 4.0, 1, 1)
    assert found.totals.embedded == 3
    shown = report_page(found)
    assert "1 document is unfinished" in shown
    assert "4.00 s so far" in shown


def test_rankings_and_sums_of_many_documents_are_those_of_sorting() -> None:
    chance = random.Random(5)
    fold = Fold(START, 700.0, 10)
    rows = [(f"{number:05}", chance.randrange(50), chance.random(), chance.uniform(0, 700)) for number in range(3000)]
    for key, chunks, spent, at in rows:
        fold.add(Step(key, START, "parsing", "", "", 0, 0, 0, 0, 0, 0))
        fold.add(Step(key, START + at, "indexed", "", "", chunks * 7, chunks, chunks, 1, spent, 0))
    fold.close()
    assert [one.chunks for one in fold.longest.items()] == sorted((row[1] for row in rows), reverse=True)[:TOP]
    assert [one.document for one in fold.slowest.items()] == [row[0] for row in sorted(rows, key=lambda row: -row[2])][:TOP]
    bins = fold.bins()
    assert len(bins) == 60
    assert sum(one.documents for one in bins) == 3000
    for one in bins:
        inside = [row for row in rows if one.start_s <= row[3] < one.start_s + one.seconds]
        assert abs(one.documents - len(inside)) <= 1  # the bounds are rounded to milliseconds for people
