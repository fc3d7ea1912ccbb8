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
from pipeline.ledger.generations import Collection
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


def test_a_clock_that_was_wrong_keeps_nothing_that_is_old(ledger: Ledger) -> None:
    ahead, old, done = (stage(ledger, name) for name in ("ahead", "old", "done"))
    work_on(ledger, done)
    new = stage(ledger, "new")
    with ledger.engine.begin() as connection:
        for key, by_s in ((ahead, 1e7), (old, -1000), (done, -1000)):
            connection.execute(text("UPDATE events SET at = at + :by WHERE document = :key"), {"by": by_s, "key": key})
    assert ledger.life.old_steps(500, 2000) == 4
    assert ledger.life.forget_steps(500) == 4
    assert ledger.life.old_events(500) == 2
    assert ledger.life.forget(500) == 2
    assert [len(ledger.life.of(key)) for key in (ahead, old, done, new)] == [1, 0, 0, 1]


def work_on(ledger: Ledger, key: str, why_back: str = "") -> None:
    claim = ledger.work.claim(Stage.PARSE, [key], "w@host/1")
    ledger.work.parsed(claim, [ParsedResult(key, "t", "text/plain", "p", 40, 0.25)])
    ledger.work.release(claim)
    claim = ledger.work.claim(Stage.EMBED, [key], "w@host/1")
    if why_back:
        ledger.work.release(claim, why_back)
        claim = ledger.work.claim(Stage.EMBED, [key], "w@host/1")
    ledger.work.indexed(claim, [IndexedResult(key, "1" * 64, "p", "e", 3, 2, 40, 1.5)])
    ledger.work.release(claim)


def test_old_steps_of_documents_that_have_ended_are_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ledger.life.FORGET_WINDOW", 2)

    done, back, waiting = (stage(ledger, name) for name in ("done", "back", "waiting"))
    work_on(ledger, done)
    work_on(ledger, back, "Qdrant does not answer")
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE events SET at = at - 1000"))
    new = stage(ledger, "new")
    work_on(ledger, new)
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
