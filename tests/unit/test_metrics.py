"""What Prometheus is told of a ledger whose content is known, and of parts that do not answer."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import text

from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.ledger.intake import Refused
from pipeline.ledger.schema import BUILDING, LIVE, SUPERSEDED
from pipeline.ledger.work import IndexedResult, ParsedResult
from pipeline.settings import Settings
from pipeline.telemetry.counters import Measured
from pipeline.types import RUN, SCHEDULE, DocumentState, Reason, SourceFile, Stage, StagedFile, document_id
from tests.services import wait_until
from workers.monitoring.exporter import LET_GO_MAX, DeploymentCollector, Reading, once, registry_of

T = TypeVar("T")

WORKERS = [("embed", "embed-cpu@host"), ("parse", "parse@host")]

#: Name and labels of a sample, as `name{label=value,...}`, and its value.
Samples = dict[str, float]


def samples(exposition: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert key not in found, f"{key} is there twice"
            found[key.removeprefix("kb_ingest_")] = sample.value
    return found


def scrape(settings: Settings) -> Samples:
    with closing(DeploymentCollector(settings)) as collector:
        return samples(generate_latest(registry_of(collector)).decode())


def stage(ledger: Ledger, collection: str, name: str, run: int = 1) -> str:
    source = SourceFile(f"file:///doc/{name}", Path(f"/doc/{name}"), 100, 1)
    key = document_id(collection, source.uri)
    ledger.intake.record_staged(collection, run, {key: StagedFile(source, "1" * 64, "")})
    return key


def index(ledger: Ledger, key: str, measured: Measured | None = None) -> None:
    claim = ledger.work.claim(Stage.PARSE, [key], "parse-0-1@host/5")
    ledger.work.parsed(claim, [ParsedResult(key, "t", "text/plain", "p", 40, 0.25)])
    ledger.work.release(claim)
    claim = ledger.work.claim(Stage.EMBED, [key], "embed-0-1@host/6")
    ledger.work.indexed(claim, [IndexedResult(key, "1" * 64, "p", "e", 3, 2, 40)], measured)
    ledger.work.release(claim)


def generation(ledger: Ledger, name: str, serves: str, state: str) -> None:
    ledger.collections.add(Collection(name, name, "m", "", 8, "f", "", 1.0, serves, state))


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, database_url=url)


def test_every_figure_of_a_known_ledger(ledger: Ledger, settings: Settings) -> None:
    run = ledger.runs.start("docs")
    ledger.registry.register("embed-0-1@host", "embed", "host", 1, "cuda:0", processes=2)
    measured = Measured("embed-0-1@host", lambda: 12_345)
    for value, number in ((0.004, 2), (0.2, 1), (1e6, 1)):
        measured.observe("stage_seconds", Stage.EMBED, value, number)
    measured.observe("batch_fill", "", 0.95)
    measured.add("chunk_tokens", str(run), bound="64")
    index(ledger, stage(ledger, "docs", "a.txt"), measured)
    claim = ledger.work.claim(Stage.PARSE, [stage(ledger, "docs", "b.txt")], "parse-0-1@host/7")
    ledger.work.fail(claim, claim.documents[0].id, Reason.CORRUPT, "no such page")
    ledger.work.release(claim)
    ledger.work.claim(Stage.PARSE, [stage(ledger, "docs", "c.txt")], "parse-0-1@host/8")
    (lease,) = ledger.flow.leases()
    ledger.flow.expire(lease, 3)
    stage(ledger, "docs", "d.txt")
    ledger.runs.end(run, "partly")
    found = scrape(settings)
    states = {state: found[f"documents{{collection=docs,state={state}}}"] for state in DocumentState}
    assert {state: number for state, number in states.items() if number} == {"pending": 2, "indexed": 1, "quarantined": 1}
    assert [found[f"indexed_{name}_total"] for name in ("documents", "chunks", "tokens", "bytes")] == [1, 3, 40, 100]
    assert found["embedded_chunks_total"] == 2
    assert [found[f"collection_{name}{{collection=docs}}"] for name in ("chunks", "tokens", "bytes")] == [3, 40, 100]
    assert {name: found[f"quarantined_documents{{reason={name}}}"] for name in Reason} == {
        name: float(name == Reason.CORRUPT) for name in Reason
    }
    assert [found[f"lease_expiries_total{{stage={name}}}"] for name in ("parse", "embed", SCHEDULE, RUN)] == [1, 0, 0, 0]
    assert [found[f"queue_documents{{queue={name}}}"] for name in Stage] == [2, 0]
    assert [found[f"queue_messages{{queue={name}}}"] for name in Stage] == [0, 0]
    assert [found[f"queue_workers{{queue={name}}}"] for name in Stage] == [0, 1]
    assert (found["open_documents"], found["ledger_up"], found["broker_up"]) == (2, 1, 1)
    assert 0 <= time.time() - found["last_progress_timestamp_seconds"] < 60
    assert found["runs_total{action=load,outcome=partly}"] == 1
    worker = "{device=cuda:0,role=embed,worker=embed-0-1@host}"
    assert (found[f"worker_processes{worker}"], found[f"worker_memory_bytes{worker}"]) == (2, 12_345)
    assert found[f"worker_busy_seconds_total{worker}"] >= 0
    assert 0 < found["data_disk_free_bytes"] <= found["data_disk_size_bytes"]
    assert not [name for name in found if "chunk_tokens" in name]  # a label for each run, for ever


def test_buckets_add_up_and_are_all_there_from_the_start(ledger: Ledger, settings: Settings) -> None:
    empty = scrape(settings)
    assert empty["upsert_seconds_bucket{le=0.005}"] == empty["wait_seconds_bucket{le=1800.0,stage=parse}"] == 0
    assert empty["stage_seconds_bucket{le=+Inf,stage=embed}"] == empty["batch_fill_ratio_count"] == 0
    measured = Measured()
    for value, number in ((0.004, 2), (0.005, 1), (0.2, 1), (1e6, 1)):
        measured.observe("stage_seconds", Stage.EMBED, value, number)
    ledger.measures.record(measured)
    found = scrape(settings)
    part = {name: value for name, value in found.items() if name.startswith("stage_seconds") and "stage=embed" in name}
    assert len(part) == 15 + 3
    assert part["stage_seconds_bucket{le=0.005,stage=embed}"] == 3
    assert part["stage_seconds_bucket{le=0.1,stage=embed}"] == 3
    assert part["stage_seconds_bucket{le=0.25,stage=embed}"] == part["stage_seconds_bucket{le=1800.0,stage=embed}"] == 4
    assert part["stage_seconds_bucket{le=+Inf,stage=embed}"] == part["stage_seconds_count{stage=embed}"] == 5
    assert part["stage_seconds_sum{stage=embed}"] == pytest.approx(1e6 + 0.213)


def test_a_quarantine_is_counted_each_time_it_happens(ledger: Ledger, settings: Settings) -> None:
    def counted() -> dict[str, float]:
        scraped = scrape(settings)
        values = {reason.value: scraped[f"quarantines_total{{reason={reason}}}"] for reason in Reason}
        return {reason: number for reason, number in values.items() if number}

    assert counted() == {}
    key = stage(ledger, "docs", "a.txt")
    for number in (1, 2):  # the second time after a retry in vain: as many as before are quarantined
        claim = ledger.work.claim(Stage.PARSE, [key], "parse@host/7")
        assert ledger.work.fail(claim, key, Reason.CORRUPT, "no such page")
        assert not ledger.work.fail(claim, key, Reason.CORRUPT, "not ours any more")
        ledger.work.release(claim)
        assert counted() == {"corrupt": number}
        assert scrape(settings)["quarantined_documents{reason=corrupt}"] == 1
        assert ledger.intake.retry() == 1
    # By a lease that nobody holds, by a worker that died, and by an error that nobody foresaw; a start that is left counts nothing.
    for number, most in enumerate((2, 1, 1, 1)):
        claim = ledger.work.claim(Stage.PARSE, [stage(ledger, "docs", f"lost-{number}.txt")], "parse@host/8")
        if number == 2:
            assert ledger.flow.free_owner("parse@host", most) == 1
        elif number == 3:
            ledger.work.give_up(claim, most, "surprise")
        else:
            ledger.flow.expire(ledger.flow.leases()[0], most)
    assert counted() == {"corrupt": 2, "worker_lost": 3}
    # What each load refuses anew is quarantined once, until the reason is another one.
    source = SourceFile("file:///doc/locked", Path("/doc/locked"), 100, 1)
    empty = SourceFile("file:///doc/empty", Path("/doc/empty"), 0, 1)
    for reason in (Reason.UNREADABLE, Reason.UNREADABLE, Reason.TOO_LARGE):
        ledger.intake.refuse("docs", 1, {"x": Refused(source, reason, "no"), "y": Refused(empty, Reason.EMPTY_FILE, "")})
    assert counted() == {"corrupt": 2, "worker_lost": 3, "unreadable": 1, "too_large": 1}


def test_collections_go_by_the_name_that_people_use(ledger: Ledger, settings: Settings) -> None:
    for name, number in (("docs", 3), ("docs@2", 2), ("docs@3", 1)):
        for count in range(number):
            stage(ledger, name, f"{count}.txt")
    generation(ledger, "docs", "", SUPERSEDED)
    generation(ledger, "docs@2", "docs", LIVE)
    generation(ledger, "docs@3", "docs", BUILDING)
    generation(ledger, "empty", "", LIVE)
    found = scrape(settings)
    waiting = {name: found.get(f"documents{{collection={name},state=pending}}") for name in ("docs", "docs@2", "docs@3", "empty")}
    assert waiting == {"docs": 2, "docs@2": None, "docs@3": 1, "empty": 0}


def test_a_ledger_that_is_away_fails_no_scrape(tmp_path: Path) -> None:
    found = scrape(Settings(data_dir=tmp_path, database_url="postgresql+psycopg://nobody@127.0.0.1:1/kb"))
    assert (found["ledger_up"], found["broker_up"]) == (0, 1)
    assert found["data_disk_size_bytes"] > 0
    assert not [name for name in found if name.startswith(("documents", "indexed", "open"))]


def test_a_ledger_that_comes_back_is_read_again(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=f"sqlite:///{tmp_path / 'later' / 'kb.db'}")
    with closing(DeploymentCollector(settings)) as collector:
        registry = registry_of(collector)
        assert samples(generate_latest(registry).decode())["ledger_up"] == 0
        (tmp_path / "later").mkdir()
        assert samples(generate_latest(registry).decode())["ledger_up"] == 1


def test_a_broker_that_is_away_fails_no_scrape(tmp_path: Path) -> None:
    found = scrape(Settings(data_dir=tmp_path, redis_url=SecretStr("redis://127.0.0.1:1/0")))
    assert (found["ledger_up"], found["broker_up"]) == (1, 0)
    assert found["queue_documents{queue=parse}"] == 0
    assert not [name for name in found if name.startswith("queue_messages")]


def test_promtool_finds_nothing_to_say_about_names_and_types(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> None:
    if shutil.which("promtool") is None:
        unavailable("no promtool on this machine")
    exposition = once(Settings(data_dir=tmp_path))
    done = subprocess.run(["promtool", "check", "metrics"], input=exposition, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def ask_until(reading: Reading[T], wait_s: float, *, late: bool = False) -> T | None:
    return reading.get(reading.begin(), time.monotonic() + wait_s, late=late)


def test_no_scrape_waits_for_a_source_that_hangs_and_no_second_one_asks_it() -> None:
    asked, go_on = [], threading.Event()

    def ask() -> int:
        asked.append(1)
        go_on.wait(30)
        return len(asked)

    reading = Reading("a source", ask)
    assert ask_until(reading, 0.05) is None
    assert ask_until(reading, 0.05, late=True) is None
    assert len(asked) == 1
    go_on.set()
    assert [ask_until(reading, 10), ask_until(reading, 10)] == [1, 1]
    # What was read is too old, and the source hangs again: an older answer is better than none only where that was asked for.
    go_on.clear()
    reading._good_s = 0.0
    assert ask_until(reading, 0.05) is None
    assert ask_until(reading, 0.05, late=True) == 1
    go_on.set()


def test_a_source_that_hangs_is_asked_anew_but_not_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    hang = [threading.Event() for _ in range(LET_GO_MAX + 1)]
    asked = 0

    def ask() -> int:
        nonlocal asked
        asked += 1
        number = asked
        if number <= len(hang):
            hang[number - 1].wait(30)
        return number

    reading = Reading("a source", ask, 0.0)
    for _ in range(10):
        assert ask_until(reading, 0.02) is None
    assert asked == LET_GO_MAX + 1
    assert caplog.text.count("a source has not answered for") == LET_GO_MAX
    # One of those that were let go ends: what it says is old, and its place is free.
    hang[0].set()
    wait_until(lambda: ask_until(reading, 1) == LET_GO_MAX + 2, "it is asked anew", 10)
    for event in hang:
        event.set()


def test_a_source_that_hung_and_answers_is_asked_again_before_long() -> None:
    def ask() -> float:
        time.sleep(0.3)
        return time.monotonic()

    reading = Reading("a source", ask, 0.5)
    first = ask_until(reading, 5)
    assert ask_until(reading, 5) == first
    time.sleep(0.6)  # and not twenty times what it took
    assert ask_until(reading, 5) != first


def test_scrapes_go_on_while_the_disk_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: go_on.wait(60))
    settings = Settings(data_dir=tmp_path)
    # To make a ledger can take longer than a scrape waits.
    Ledger.open(settings.ledger_url).close()
    with closing(DeploymentCollector(settings, 3.0)) as collector:
        registry = registry_of(collector)
        for _ in range(2):
            began = time.monotonic()
            found = samples(generate_latest(registry).decode())
            assert time.monotonic() - began < 10
            assert (found["ledger_up"], found["broker_up"]) == (1, 1)
            assert "data_disk_free_bytes" not in found
        assert [thread.name for thread in threading.enumerate()].count("the disk of the data folder") == 1
        monkeypatch.undo()
        go_on.set()


def test_all_sources_of_a_scrape_share_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    collector = DeploymentCollector(Settings(data_dir=tmp_path), 0.5)
    for name in ("figures", "counts", "depths", "disk"):
        monkeypatch.setattr(collector, f"_{name}", Reading(name, lambda: go_on.wait(30)))
    with closing(collector):
        began = time.monotonic()
        found = samples(generate_latest(registry_of(collector)).decode())
        assert time.monotonic() - began < 1.5
        go_on.set()
    assert (found["ledger_up"], found["broker_up"]) == (0, 0)


def test_counting_takes_a_small_share_of_the_time() -> None:
    def ask() -> float:
        time.sleep(0.1)
        return time.monotonic()

    reading = Reading("a source", ask)
    first = ask_until(reading, 10)
    time.sleep(1.1)
    assert ask_until(reading, 10) == first


def test_a_worker_in_trouble_is_told_until_it_is_over(ledger: Ledger, settings: Settings) -> None:
    ledger.registry.register("embed-cpu@host", "embed", "host", 1, "cpu", note="starting")
    ledger.registry.register("parse@host", "parse", "host", 2)

    def trouble() -> list[float]:
        found = scrape(settings)
        return [found[f"worker_trouble{{role={role},worker={name}}}"] for role, name in WORKERS]

    assert trouble() == [0, 0]
    ledger.registry.see("embed-cpu@host", note="Qdrant at http://127.0.0.1:6333 does not answer")
    assert trouble() == [1, 0]
    ledger.registry.see("embed-cpu@host", note="fatal: no such model")
    assert trouble() == [1, 0]
    ledger.registry.see("embed-cpu@host", note="")
    assert trouble() == [0, 0]

    # One process of a worker complains; what another one of it brings to its end shows that it is over.
    ids = [stage(ledger, "docs", name) for name in ("a.txt", "b.txt")]
    first, second = (ledger.work.claim(Stage.PARSE, [key], f"parse@host/{pid}") for pid, key in enumerate(ids))
    ledger.work.release(first, "the disk is full")
    ledger.registry.see("parse@host", note="the disk is full")
    ledger.work.beat(second, Measured("parse@host"))
    assert trouble() == [0, 1]
    ledger.work.release(second, measured=Measured("embed-cpu@host"))
    assert trouble() == [0, 1]
    ledger.work.release(second, measured=Measured("parse@host"))
    assert trouble() == [0, 0]


def test_memory_that_is_not_known_is_left_out(ledger: Ledger, settings: Settings) -> None:
    ledger.registry.register("tick@host", "tick", "host", 1)
    found = scrape(settings)
    assert found["worker_processes{device=,role=tick,worker=tick@host}"] == 1
    assert not [name for name in found if name.startswith("worker_memory_bytes")]


def test_a_model_servers_address_is_no_label(ledger: Ledger, settings: Settings) -> None:
    ledger.registry.register("embed-http@host", "embed", "host", 1, "http://token:****@models.example.org:8080")
    with closing(DeploymentCollector(settings)) as collector:
        exposition = generate_latest(registry_of(collector)).decode()
    assert 'kb_ingest_worker_processes{device="http",role="embed",worker="embed-http@host"} 1.0' in exposition
    assert "models.example.org" not in exposition


def test_every_way_a_run_can_end_is_there_before_the_first_does(ledger: Ledger, settings: Settings) -> None:
    ends = {name: value for name, value in scrape(settings).items() if name.startswith("runs_total")}
    assert len(ends) == 25
    assert set(ends.values()) == {0}
    run = ledger.runs.start("docs", "sync")
    ledger.runs.end(run, "failed", "no such folder")
    found = scrape(settings)
    assert found["runs_total{action=sync,outcome=failed}"] == 1
    assert sum(value for name, value in found.items() if name.startswith("runs_total")) == 1


def test_open_documents_are_counted_without_reading_any(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'kb.db'}")
    with ledger.engine.connect() as connection:
        plan = connection.execute(
            text("EXPLAIN QUERY PLAN SELECT state, count(*) FROM documents WHERE state IN ('pending', 'parsed') GROUP BY state")
        ).all()
    assert "COVERING INDEX" in str(plan)
    stage(ledger, "docs", "a.txt")
    assert ledger.report.open() == {"pending": 1, "parsing": 0, "parsed": 0, "embedding": 0}
    ledger.close()
