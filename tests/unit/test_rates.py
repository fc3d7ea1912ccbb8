"""Rates of documents and chunks, and what is left, from what happened to documents."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text

from pipeline.ledger import Ledger
from pipeline.ledger.advances import Advance
from pipeline.ledger.life import Rates
from pipeline.ledger.work import IndexedResult, ParsedResult
from pipeline.telemetry.counters import COUNT
from pipeline.types import Stage
from tests.unit.test_life import index, stage


def happened(ledger: Ledger, at: float, *states: str, run: int | None = None) -> None:
    """Have all events, or those with these states or of this run, be of one time."""
    states_too = "" if not states else " AND state IN ('" + "', '".join(states) + "')"
    with ledger.engine.begin() as connection:
        where = "1 = 1" if run is None else f"run = {run}"
        connection.execute(text(f"UPDATE events SET at = {at} WHERE {where}{states_too}"))


def reported(ledger: Ledger, since: float, at: float, run: int | None = None) -> None:
    """Have all work, or that of a run, be begun and reported at these times."""
    with ledger.engine.begin() as connection:
        where = "1 = 1" if run is None else f"run = {run}"
        connection.execute(text(f"UPDATE throughput SET since = {since}, at = {at} WHERE {where}"))


def test_rates_are_of_the_last_moments_and_of_one_run(ledger: Ledger) -> None:
    index(ledger, [stage(ledger, f"other {number}", run=1) for number in range(4)])
    index(ledger, [stage(ledger, str(number), run=2) for number in range(4)])
    reported(ledger, 960, 980, run=1)
    reported(ledger, 990, 991, run=2)
    assert ledger.life.rates(30, run=1, now=1000).tokens_per_s == 4 * 60 / 30
    assert ledger.life.rates(30, run=2, now=1000).tokens_per_s == 4 * 60 / 10  # the run is 10 s old
    assert ledger.life.rates(30, now=1000).tokens_per_s == 8 * 60 / 30
    assert ledger.life.rates(30, run=3, now=1000).tokens_per_s == 0
    assert ledger.life.rates(30, now=2000) == ledger.life.rates(30) == Rates(0, 0, 0)


def test_documents_that_take_longer_than_the_window_have_a_rate_all_the_same(ledger: Ledger) -> None:
    index(ledger, [stage(ledger, "long", run=1)], tokens=6000)
    reported(ledger, 880, 1000)
    assert ledger.life.rates(30, run=1, now=1000).tokens_per_s == 6000 / 120
    assert ledger.life.rates(30, now=1000).tokens_per_s == 6000 / 120
    reported(ledger, 600, 1000)
    assert ledger.life.rates(30, run=1, now=1000).tokens_per_s == 6000 / 300  # no more is looked at


def test_what_waited_for_workers_is_as_fast_as_they_are_and_not_as_slow_as_the_waiting(ledger: Ledger) -> None:
    index(ledger, [stage(ledger, "a", run=1)], tokens=200)
    happened(ledger, 900, "pending")
    reported(ledger, 980, 1000)
    assert ledger.life.rates(30, now=1000).tokens_per_s == ledger.life.rates(30, run=1, now=1000).tokens_per_s == 200 / 20
    stage(ledger, "b", run=2)  # what is staged for others changes nothing
    happened(ledger, 901, run=2)
    assert ledger.life.rates(30, now=1000).tokens_per_s == 200 / 20


def test_chunks_count_as_they_are_parsed_and_written_and_none_twice(ledger: Ledger) -> None:
    """A document of 1000 chunks, whose worker dies when 600 of them are in the store."""
    long, other = stage(ledger, "long.jsonl", run=1), stage(ledger, "other", run=2)

    def figures(run: int | None = 1) -> tuple[int, int, int | None]:
        progress = ledger.report.progress(run)
        return progress.parsed, progress.written, progress.left_tokens

    assert figures() == (0, 0, None)
    claim = ledger.work.claim(Stage.PARSE, [long], "p/1")
    ledger.work.beat(claim, reached=[Advance(long, 100, 2_000)])
    assert figures() == (100, 0, None)  # its parser does not know how much it has read
    ledger.work.beat(claim, reached=[Advance(long, 250, 5_000, bytes=25)])
    assert figures() == (250, 0, 20_000)
    assert figures(2) == (0, 0, None)
    assert figures(None) == (250, 0, 40_000)  # and 100 bytes of the other one
    assert ledger.report.progress(1).unparsed_bytes == 75
    ledger.work.parsed(claim, [ParsedResult(long, "", "text/plain", "p", 20_000, 9.0, 1000)])
    ledger.work.release(claim)
    assert figures() == (1000, 0, 20_000)
    claim = ledger.work.claim(Stage.EMBED, [long], "e/1")
    ledger.work.beat(claim, reached=[Advance(long, 200, 4_000, 200)])
    ledger.work.beat(claim, reached=[Advance(long, 600, 12_000, 600)])
    assert figures() == (1000, 600, 8_000)
    (lease,) = ledger.flow.leases()
    ledger.flow.expire(lease, 3)
    assert figures() == (1000, 0, 20_000)
    claim = ledger.work.claim(Stage.EMBED, [long], "e/2")
    ledger.work.beat(claim, reached=[Advance(long, 700, 14_000, 100)])  # 600 were there
    assert figures() == (1000, 700, 6_000)
    ledger.work.indexed(claim, [IndexedResult(long, "1" * 64, "p", "e", 1000, 400, 20_000)])
    assert figures() == (1000, 1000, 0)
    ledger.work.release(claim)
    assert ledger.measures.all("indexed")["indexed", "embedded", COUNT] == 1000
    with ledger.engine.connect() as connection:
        made = connection.execute(
            text("SELECT stage, SUM(documents), SUM(chunks), SUM(bytes) FROM throughput GROUP BY stage")
        ).all()
        assert sorted(map(tuple, made)) == [("embed", 1, 1000, 0), ("parse", 1, 1000, 100)]
        assert connection.execute(text("SELECT * FROM advances")).all() == []
    assert other


def test_what_a_worker_says_of_documents_that_it_has_lost_counts_for_nothing(ledger: Ledger) -> None:
    kept, lost = stage(ledger, "kept"), stage(ledger, "lost")
    claim = ledger.work.claim(Stage.PARSE, [kept, lost], "p/1")
    ledger.work.beat(claim, reached=[Advance(kept, 10, 100, bytes=50), Advance(lost, 10, 100, bytes=50)])
    assert ledger.report.progress().parsed == 20
    stage(ledger, "lost", "2")  # it has changed
    assert ledger.report.progress().parsed == 10
    ledger.work.beat(claim, reached=[Advance(kept, 15, 150, bytes=60), Advance(lost, 20, 200, bytes=100)])
    assert (ledger.report.progress().parsed, ledger.report.progress().unparsed_bytes) == (15, 140)
    ledger.work.beat(claim, reached=[Advance(kept, 5, 50, bytes=20)])  # its parser has crashed, and begins again
    assert ledger.report.progress().parsed == 5
    with ledger.engine.connect() as connection:
        assert connection.execute(text("SELECT SUM(chunks), SUM(bytes) FROM throughput")).one() == (25, 110)


def test_a_document_has_a_rate_before_its_end(ledger: Ledger) -> None:
    key = stage(ledger, "long")
    claim = ledger.work.claim(Stage.PARSE, [key], "p/1")
    ledger.work.parsed(claim, [ParsedResult(key, "", "text/plain", "p", 90_000, chunks=900)])
    ledger.work.release(claim)
    claim = ledger.work.claim(Stage.EMBED, [key], "e/1")
    with ledger.engine.begin() as connection:  # the claim is 20 s old
        connection.execute(text("UPDATE leases SET started_at = started_at - 20"))
    for chunks in (100, 200, 300):
        ledger.work.beat(claim, reached=[Advance(key, chunks, 100 * chunks, chunks)])
    rates = ledger.life.rates(30)
    assert rates.documents_per_s == 0
    assert rates.parsed_bytes_per_s == pytest.approx(100, rel=0.5)
    assert rates.chunks_per_s == pytest.approx(15, rel=0.2)
    assert rates.tokens_per_s == pytest.approx(1500, rel=0.2)
    assert ledger.life.rates(10).chunks_per_s == pytest.approx(30, rel=0.2)


def test_only_what_comes_further_is_progress(ledger: Ledger) -> None:
    key = stage(ledger, "a")
    happened(ledger, 900)
    for _ in range(3):  # a server is away: what was claimed goes back
        ledger.work.release(ledger.work.claim(Stage.PARSE, [key], "w/1"), "Qdrant does not answer")
    before = ledger.life.pulse()
    assert (before.event_at, before.beat_at) == (900, None)
    with ledger.engine.begin() as connection:  # a scheduled run shows that its process lives
        for kind in ("schedule", "run"):
            row = "INSERT INTO leases (id, stage, owner, beat, started_at, moved_at) VALUES (:kind, :kind, 'x', 7, 0, :now)"
            connection.execute(text(row), {"kind": kind, "now": time.time()})
    assert ledger.life.pulse() == before
    claim = ledger.work.claim(Stage.PARSE, [key], "w/1")
    ledger.work.beat(claim)
    after = ledger.life.pulse()
    assert after.moved_since(before)
    assert not after.moved_since(after)
    assert after.beat_at is not None
    ledger.work.release(claim, "Qdrant does not answer")  # nor is it progress when a lease ends, or is taken back
    assert not ledger.life.pulse().moved_since(after)
    claim = ledger.work.claim(Stage.PARSE, [key], "w/1")
    ledger.work.beat(claim)
    ledger.work.beat(claim)
    hangs = ledger.life.pulse()
    assert hangs.moved_since(after)
    ledger.flow.expire(next(lease for lease in ledger.flow.leases() if lease.id == claim.lease), 3)
    assert not ledger.life.pulse().moved_since(hangs)
    claim = ledger.work.claim(Stage.PARSE, [key], "w/1")
    ledger.work.parsed(claim, [ParsedResult(key, "", "text/plain", "p", 50)])
    assert ledger.life.pulse().moved_since(hangs)


def test_what_is_left_is_known_where_it_is_parsed_and_estimated_elsewhere(ledger: Ledger) -> None:
    keys = [stage(ledger, str(number)) for number in range(4)]
    assert ledger.report.progress().left_tokens is None  # nothing was parsed: nobody knows
    claim = ledger.work.claim(Stage.PARSE, keys[:2], "w/1")
    ledger.work.parsed(claim, [ParsedResult(key, "", "text/plain", "p", 50) for key in keys[:2]])
    assert ledger.report.progress().left_tokens == 200  # two have 50, and two of the same size have as many
    claim = ledger.work.claim(Stage.EMBED, keys[:1], "w/1")
    ledger.work.indexed(claim, [IndexedResult(keys[0], "1" * 64, "p", "e", 1, 1, 70)])
    progress = ledger.report.progress()
    assert (progress.tokens, progress.left_tokens) == (70, 50 + round(200 * 120 / 200))
    ledger.work.release(claim)
    stage(ledger, "1", "2")  # changed before it was embedded: what was parsed of it says nothing any more
    assert ledger.report.progress().left_tokens == round(300 * 70 / 100)
