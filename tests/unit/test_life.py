"""What the ledger remembers of documents and of workers' work."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from pipeline.ledger import Ledger
from pipeline.ledger.advances import Advance
from pipeline.ledger.generations import Collection
from pipeline.ledger.life import Rates
from pipeline.ledger.work import IndexedResult, ParsedResult
from pipeline.sources.uris import uri_of
from pipeline.telemetry.counters import COUNT, SUM, UNBOUNDED, Busy, Measured, token_bin
from pipeline.types import Reason, SourceFile, Stage, StagedFile, document_id
from workers.cli import run


def stage(ledger: Ledger, name: str, version: str = "1", run: int = 1) -> str:
    """Stage a version of /doc/NAME; return the document's id."""
    source = SourceFile(f"file:///doc/{name}", Path(f"/doc/{name}"), 100, 1)
    key = document_id("docs", source.uri)
    ledger.intake.record_staged("docs", run, {key: StagedFile(source, version * 64, "")})
    return key


def life(ledger: Ledger, key: str) -> list[tuple[str, int, str, str]]:
    return [(event.state, event.run, event.owner, event.reason) for event in ledger.life.of(key)]


def test_every_change_of_a_document_is_written_down_with_who_did_it(ledger: Ledger) -> None:
    key = stage(ledger, "a.txt", run=7)
    claim = ledger.work.claim(Stage.PARSE, [key], "parse@host/5")
    (standing,) = ledger.life.find("file:///doc/a.txt")
    assert (standing.state, standing.worker, standing.starts) == ("parsing", "parse@host/5", 1)
    assert standing.beat_s is not None
    ledger.work.parsed(claim, [ParsedResult(key, "t", "text/plain", "p", 40, 0.25)])
    ledger.work.release(claim)
    claim = ledger.work.claim(Stage.EMBED, [key], "embed@host/6")
    ledger.work.release(claim, "Qdrant does not answer")
    claim = ledger.work.claim(Stage.EMBED, [key], "embed@host/6")
    ledger.work.indexed(claim, [IndexedResult(key, "1" * 64, "p", "e", 3, 2, 40, 1.5)])
    ledger.work.release(claim)
    assert ledger.removal.mark("docs", [key]) == 1
    assert life(ledger, key) == [
        ("pending", 7, "", ""),
        ("parsing", 7, "parse@host/5", ""),
        ("parsed", 7, "parse@host/5", ""),
        ("embedding", 7, "embed@host/6", ""),
        ("parsed", 7, "embed@host/6", ""),
        ("embedding", 7, "embed@host/6", ""),
        ("indexed", 7, "embed@host/6", ""),
        ("deleted", 7, "", ""),
    ]
    events = ledger.life.of(key)
    assert [event.detail for event in events if event.detail] == ["Qdrant does not answer"]
    assert [event.at for event in events] == sorted(event.at for event in events)
    done = events[6]
    assert (done.chunks, done.embedded, done.tokens, done.parse_s, done.embed_s) == (3, 2, 40, 0.25, 1.5)
    assert events[2].chunks is None
    assert ledger.life.pulse().event_at == events[-1].at


def test_why_a_document_failed_or_went_back_stays_in_its_life(ledger: Ledger) -> None:
    key = stage(ledger, "a.txt")
    ledger.work.claim(Stage.PARSE, [key], "w@host/1")
    (lease,) = ledger.flow.leases()
    ledger.flow.expire(lease, 3)
    claim = ledger.work.claim(Stage.PARSE, [key], "w@host/2")
    ledger.work.fail(claim, key, Reason.CORRUPT, "no such page")
    ledger.work.release(claim)
    stage(ledger, "a.txt", "2", run=2)
    stage(ledger, "a.txt", "3", run=3)  # again, before anybody has looked at the second version
    events = ledger.life.of(key)
    assert life(ledger, key) == [
        ("pending", 1, "", ""),
        ("parsing", 1, "w@host/1", ""),
        ("pending", 1, "w@host/1", "worker_lost"),
        ("parsing", 1, "w@host/2", ""),
        ("quarantined", 1, "w@host/2", "corrupt"),
        ("pending", 2, "", ""),
        ("pending", 3, "", ""),
    ]
    assert (events[2].detail, events[4].detail) == ("its worker died: w@host/1", "no such page")


def test_a_document_is_found_by_its_uri_its_id_and_the_end_of_its_path(ledger: Ledger) -> None:
    keys = [stage(ledger, name) for name in ("one/read.me", "two/read.me", "three/READ.ME")]
    assert [found.id for found in ledger.life.find(keys[2])] == [keys[2]]
    assert [found.uri for found in ledger.life.find("read.me")] == ["file:///doc/one/read.me", "file:///doc/two/read.me"]
    assert [found.uri for found in ledger.life.find("two/read.me")] == ["file:///doc/two/read.me"]
    stage(ledger, "a%20b.txt")
    assert [found.uri for found in ledger.life.find("a b.txt")] == ["file:///doc/a%20b.txt"]
    assert ledger.life.find("ad.me") == []
    assert ledger.life.find("\udcff") == ledger.life.gone("\udcff") == []  # no valid text


def test_logs_find_a_document_however_a_person_names_it(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = tmp_path / "real"
    (real / "here").mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    data_dir.mkdir()
    ledger = Ledger.open(f"sqlite:///{data_dir / 'kb.db'}")
    odd, long = os.fsdecode(b"\xff.txt"), "\N{CYRILLIC SMALL LETTER ZHE}" * 60 + ".txt"
    for name in ("a.txt", odd, long):
        source = SourceFile(uri_of(real / name), real / name, 100, 1)
        ledger.intake.record_staged("docs", 1, {document_id("docs", source.uri): StagedFile(source, "1" * 64, "")})
    stage(ledger, "read.me")
    ledger.close()
    monkeypatch.chdir(real / "here")
    (real / "here" / "read.me").touch()  # another one, which was not loaded
    for named, uri in (
        ("../a.txt", uri_of(real / "a.txt")), (str(tmp_path / "link" / "a.txt"), uri_of(real / "a.txt")),
        ("read.me", "file:///doc/read.me"), (odd, uri_of(real / odd)), (f"../{odd}", uri_of(real / odd)),
        (uri_of(real / long), uri_of(real / long)),
    ):  # fmt: skip
        assert run(["logs", "--document", named]) == 0, named
        assert capsys.readouterr().out.startswith(f"{uri} (")
    for nothing in ("n" * 300, str(tmp_path / "circle" / "a.txt"), "", os.fsdecode(b"\xfe"), "\x1b[31m"):
        assert run(["logs", "--document", nothing]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: no document in the ledger matches ")
        assert "\x1b" not in said


def test_a_document_that_is_forgotten_leaves_its_life_behind(ledger: Ledger) -> None:
    ledger.collections.add(Collection("docs", "docs_x", "m", "", 3, "f", "", 0.0))
    key = stage(ledger, "a.txt")
    ledger.removal.mark("docs", [key])
    assert ledger.removal.forget([key]) == set()
    assert ledger.life.find("file:///doc/a.txt") == []
    (standing,) = ledger.life.gone("file:///doc/a.txt")
    assert (standing.id, standing.collection, standing.state) == (key, "docs", "forgotten")
    assert [event.state for event in ledger.life.of(key)] == ["pending", "deleted"]
    assert [(one.id, one.collection) for one in ledger.life.gone(key)] == [(key, "")]
    assert ledger.life.gone("file:///doc/b.txt") == []


def index(ledger: Ledger, keys: list[str], tokens: int = 60) -> None:
    """Take documents through both stages."""
    claim = ledger.work.claim(Stage.PARSE, keys, "w/1")
    ledger.work.parsed(claim, [ParsedResult(key, "", "text/plain", "p", 50) for key in keys])
    ledger.work.release(claim)
    claim = ledger.work.claim(Stage.EMBED, keys, "w/1")
    ledger.work.indexed(claim, [IndexedResult(key, "1" * 64, "p", "e", 9, 6, tokens) for key in keys])
    ledger.work.release(claim)


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


def test_old_events_are_forgotten_and_new_ones_are_kept(ledger: Ledger) -> None:
    run = ledger.runs.start("docs")
    old, new = stage(ledger, "old", run=run), stage(ledger, "new", run=run + 1)
    measured = Measured()
    measured.add("chunk_tokens", str(run), bound="64")
    measured.add("chunk_tokens", str(run + 1), bound="64")
    ledger.measures.record(measured)
    ledger.runs.end(run, "done")
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE events SET at = at - 1000 WHERE document = :key"), {"key": old})
        connection.execute(text("UPDATE runs SET finished_at = finished_at - 1000"))
    assert ledger.life.forget(500) == 1
    assert ledger.life.of(old) == []
    assert len(ledger.life.of(new)) == 1
    assert ledger.measures.all() == {("chunk_tokens", str(run + 1), "64"): 1}
    assert ledger.life.forget(500) == 0


def test_old_steps_of_documents_that_have_ended_are_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ledger.life.FORGET_WINDOW", 2)
    done, back, new, waiting = (stage(ledger, name) for name in ("done", "back", "new", "waiting"))
    for key in (done, back, new):
        claim = ledger.work.claim(Stage.PARSE, [key], "w@host/1")
        ledger.work.parsed(claim, [ParsedResult(key, "t", "text/plain", "p", 40, 0.25)])
        ledger.work.release(claim)
        claim = ledger.work.claim(Stage.EMBED, [key], "w@host/1")
        if key == back:
            ledger.work.release(claim, "Qdrant does not answer")
            claim = ledger.work.claim(Stage.EMBED, [key], "w@host/1")
        ledger.work.indexed(claim, [IndexedResult(key, "1" * 64, "p", "e", 3, 2, 40, 1.5)])
        ledger.work.release(claim)
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE events SET at = at - 1000 WHERE document <> :key"), {"key": new})
    assert ledger.life.old_steps(500, 2000) == 4 + 5
    assert ledger.life.old_steps(500, 900) == 0
    assert ledger.life.forget_steps(500) == 4 + 5
    assert [state for state, *_ in life(ledger, done)] == ["indexed"]
    assert [state for state, *_ in life(ledger, back)] == ["parsed", "indexed"], "why it went back stays"
    assert len(life(ledger, new)) == 5
    assert [state for state, *_ in life(ledger, waiting)] == ["pending"], "it has not ended"
    stage(ledger, "done", "2", run=2)
    assert ledger.life.forget_steps(-1) == 4, "those of an ended version, not those of the one in work"
    assert [state for state, *_ in life(ledger, done)] == ["indexed", "pending"]


def test_what_workers_count_is_added_up_and_nothing_twice(ledger: Ledger) -> None:
    ledger.registry.register("w@host", "embed", "host", 1, processes=1)
    key = stage(ledger, "a.txt")
    measured = Measured("w@host", lambda: 12_345)
    measured.observe("upsert_seconds", "", 0.02, 2)
    measured.observe("upsert_seconds", "", 1e6)
    began = time.monotonic()
    with measured.busy.work():
        claim = ledger.work.claim(Stage.PARSE, [key], "w@host/1", measured)
        ledger.work.beat(claim, measured)
        time.sleep(0.05)
    took = time.monotonic() - began
    ledger.work.parsed(claim, [ParsedResult(key, "", "text/plain", "p")], measured=measured)
    ledger.work.release(claim, measured=measured)
    counts = ledger.measures.all("upsert_seconds")
    assert counts == {
        ("upsert_seconds", "", "0.025"): 2,
        ("upsert_seconds", "", UNBOUNDED): 1,
        ("upsert_seconds", "", SUM): pytest.approx(1e6 + 0.04),
    }
    assert ledger.measures.all("wait_seconds")[("wait_seconds", "parse", SUM)] >= 0
    (worker,) = ledger.registry.workers()
    assert worker.memory_bytes == 12_345
    assert 0.05 <= worker.busy_s <= took
    claim = ledger.work.claim(Stage.EMBED, [key], "w@host/1")
    ledger.work.indexed(claim, [IndexedResult(key, "1" * 64, "p", "e", 3, 2, 40)])
    figures = {label: value for (_, label, bound), value in ledger.measures.all("indexed").items() if bound == COUNT}
    assert figures == {"documents": 1, "chunks": 3, "embedded": 2, "tokens": 40, "bytes": 100}


def test_processes_that_count_at_once_lose_nothing(ledger: Ledger) -> None:
    def work() -> None:
        for _ in range(20):
            measured = Measured()
            measured.add("b", "x")
            measured.add("a", "y", 2)
            ledger.measures.record(measured)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.measures.all() == {("a", "y", COUNT): 160, ("b", "x", COUNT): 80}


def test_time_of_work_at_the_same_time_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pipeline.telemetry.counters.time", SimpleNamespace(monotonic=lambda: now[0]))
    busy = Busy()
    with busy.work():
        now[0] = 101.0
        with busy.work():
            now[0] = 103.0
            assert busy.take() == 3
            now[0] = 104.0
        now[0] = 106.0
    now[0] = 110.0
    assert busy.take() == 3
    assert busy.take() == 0


@pytest.mark.parametrize(
    ("tokens", "limit", "bound"), [(1, 256, 16), (16, 256, 16), (17, 256, 32), (256, 256, 256), (257, 256, 272), (5, 128, 8),
    (300, 384, 320), (8192, 8192, 8192), (33, 0, 64)],
)  # fmt: skip
def test_chunk_lengths_fall_into_bins_that_end_at_the_limit(tokens: int, limit: int, bound: int) -> None:
    assert token_bin(tokens, limit) == bound
