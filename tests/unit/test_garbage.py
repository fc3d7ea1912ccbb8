"""The removal of what nobody needs: what goes, what stays, beside a load, and after being stopped anywhere on the way."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.ledger.intake import Known
from pipeline.ledger.runs import NewRun
from pipeline.ledger.schema import SUPERSEDED, losses, runs, writing
from pipeline.ledger.submissions import submissions
from pipeline.ledger.work import IndexedResult, ParsedResult
from pipeline.sources.uris import uri_of
from pipeline.staging import Staging, batch, open_staging
from pipeline.staging.contents import IN_USE_S, PACKED_BYTES, Content
from pipeline.staging.copies import blob_key, chunks_key
from pipeline.staging.local import LocalStaging
from pipeline.staging.object_store import ObjectStaging
from pipeline.steps.garbage import Ages, Collected, Garbage
from pipeline.steps.load import Load
from pipeline.steps.scope import Scope
from pipeline.store.edge import EdgeStore
from pipeline.types import SourceFile, Stage, StagedFile, document_id
from tests.packed import make_older, packs

DAY_S = 86_400.0
MONTH = Ages(30 * DAY_S, 365 * DAY_S, 30 * DAY_S, 7 * DAY_S, 30 * DAY_S, 3 * DAY_S, 3600.0)


@pytest.fixture(params=["files", "packs", "memory"])
def staging(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staging:
    if request.param == "files":  # as for large documents, and in folders of earlier versions
        monkeypatch.setattr(batch, "PACKED_BYTES", 0)
    return open_staging(f"memory://{tmp_path.name}" if request.param == "memory" else str(tmp_path / "staging"))


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[EdgeStore]:
    opened = EdgeStore(tmp_path / "qdrant")
    yield opened
    opened.close()


def age(staging: Staging, days: float, *keys: str) -> None:
    """Make staged files look unused for some days."""
    then = time.time() - days * DAY_S
    if isinstance(staging, LocalStaging):
        make_older(staging.root, then, keys)
    for key in keys or [one.key for one in staging.contents()]:
        if isinstance(staging, LocalStaging):
            if (staging.root / key).exists():
                os.utime(staging.root / key, (then, then))
        else:
            assert isinstance(staging, ObjectStaging)
            store: dict[str, Any] = staging._files.store
            store[staging._path(key)].modified = store[staging._path(key)].created = datetime.fromtimestamp(then, UTC)


def keep(staging: Staging, text: str) -> str:
    """Keep a text as a copy; return its hash."""
    content_hash = hashlib.sha256(text.encode()).hexdigest()
    staging.put_bytes({content_hash: text.encode()}, lambda: None)
    return content_hash


def keep_chunks(staging: Staging, content_hash: str, fingerprint: str = "p") -> str:
    """Keep a chunk file of these bytes; return its key."""
    written = staging.scratch()
    written.write_bytes(b"chunks")
    key = chunks_key(fingerprint, content_hash, "a.md")
    with staging.batch() as batch:
        batch.put_chunks(key, written)
    return key


def stage(ledger: Ledger, name: str, content_hash: str, run: int = 1, collection: str = "docs") -> str:
    """Record a version of a document as staged; return the document's id."""
    source = SourceFile(f"file:///{name}.md", Path(f"/{name}.md"), 10, 1)
    key = document_id(collection, source.uri)
    ledger.intake.record_staged(collection, run, {key: StagedFile(source, content_hash, "")})
    return key


def index(ledger: Ledger, key: str, content_hash: str) -> None:
    """Do the work of both stages."""
    claim = ledger.work.claim(Stage.PARSE, [key], "w")
    ledger.work.parsed(claim, [ParsedResult(key, "title", "text/plain", "p")])
    ledger.work.release(claim)
    claim = ledger.work.claim(Stage.EMBED, [key], "w")
    ledger.work.indexed(claim, [IndexedResult(key, content_hash, "p", "e", 3, 3)])
    ledger.work.release(claim)


def generation(name: str, state: str, days: float, *, serves: str = "docs") -> Collection:
    """A generation that was replaced, or made, some days ago."""
    then = time.time() - days * DAY_S
    return Collection(
        name=name, physical=f"{name}-{'0' * 8}", model="m", revision="", dimension=4, fingerprint="0" * 64, canary="",
        created_at=then, serves=serves if name != serves else "", state=state, swapped_at=then if state == SUPERSEDED else None,
    )  # fmt: skip


def collect(ledger: Ledger, staging: Staging, store: EdgeStore, ages: Ages = MONTH, *, dry_run: bool = False) -> Collected:
    return Garbage(ledger, staging, store, ages, dry_run=dry_run).collect()


def counts(found: Collected) -> dict[str, int]:
    return {name: kind.count for name, kind in found.kinds.items()}


def keys(staging: Staging) -> set[str]:
    return {one.key for one in staging.contents()}


def test_staged_files_stay_as_long_as_a_version_needs_them(ledger: Ledger, staging: Staging, edge: EdgeStore) -> None:
    old, new, waiting, gone = (keep(staging, text) for text in ("searched", "staged after it", "not parsed yet", "forgotten"))
    needed = {blob_key(one) for one in (old, new, waiting)}
    needed |= {keep_chunks(staging, old), keep_chunks(staging, new, "any"), keep_chunks(staging, waiting, "any")}
    idle = {blob_key(gone), keep_chunks(staging, gone), keep_chunks(staging, old, "options of last year")}
    document = stage(ledger, "edited", old)
    index(ledger, document, old)
    stage(ledger, "edited", new)  # searches find the version before it until this one is indexed
    stage(ledger, "waiting", waiting)
    age(staging, 31)
    seen = collect(ledger, staging, edge, dry_run=True)
    assert counts(seen) == {"copy": 1, "chunk file": 2}
    assert {item.key for item in staging.contents()} == needed | idle, "a dry run has removed something"
    assert {item.name for item in seen.items} == idle
    assert all(30.9 < item.age_s / DAY_S < 31.1 and item.bytes for item in seen.items)
    assert counts(collect(ledger, staging, edge)) == {"copy": 1, "chunk file": 2}
    assert keys(staging) == needed
    assert counts(collect(ledger, staging, edge)) == {}


def test_what_was_used_lately_stays_whatever_the_age_that_is_asked_for(ledger: Ledger, staging: Staging, edge: EdgeStore) -> None:
    first = keep(staging, "a load has just put this here")
    again = keep(staging, "a load has found this here")
    age(staging, 100, blob_key(again))
    keep(staging, "a load has found this here")
    assert counts(collect(ledger, staging, edge, Ages(0, 0, 0, 0, 0, 0, 0))) == {}
    assert keys(staging) == {blob_key(first), blob_key(again)}
    age(staging, 1.1 * IN_USE_S / DAY_S)
    assert counts(collect(ledger, staging, edge, Ages(0, 0, 0, 0, 0, 0, 0))) == {"copy": 2}


@pytest.mark.parametrize("first", ["load", "gc"])
def test_a_copy_that_a_load_finds_at_that_moment_stays(
    first: str, ledger: Ledger, staging: Staging, edge: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has decided that nobody needs it; the load records its document after that."""
    content_hash = keep(staging, "moved away last year, and back now")
    age(staging, 100)
    discard = staging.discard

    def meeting(keys: Sequence[str], before: float) -> list[str]:
        gone = discard(keys, before) if first == "gc" else []
        keep(staging, "moved away last year, and back now")
        return gone or discard(keys, before)

    monkeypatch.setattr(staging, "discard", meeting)
    assert counts(collect(ledger, staging, edge)) == ({"copy": 1} if first == "gc" else {})
    document = stage(ledger, "back", content_hash)
    with staging.blob(content_hash):
        assert ledger.intake.known([document])[document].content_hash == content_hash


def test_what_is_needed_by_the_time_of_removal_stays(
    ledger: Ledger, staging: Staging, edge: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    content_hash = keep(staging, "needed again")
    age(staging, 100)
    unneeded = ledger.upkeep.unneeded

    def then_recorded(staged: Sequence[Content]) -> list[Content]:
        found = unneeded(staged)
        stage(ledger, "again", content_hash)
        return found

    monkeypatch.setattr(ledger.upkeep, "unneeded", then_recorded)
    assert counts(collect(ledger, staging, edge)) == {}
    assert keys(staging) == {blob_key(content_hash)}


@pytest.mark.parametrize("unreadable", [False, True])
def test_a_document_that_was_deleted_and_is_back_is_copied_again(
    unreadable: bool, ledger: Ledger, staging: Staging, tmp_path: Path, edge: EdgeStore
) -> None:
    """Its copy may go while the load looks at it: by then the ledger has forgotten it."""
    file = tmp_path / "files" / "a.md"
    file.parent.mkdir()
    file.write_text("here, gone, and here again")
    load = functools.partial(Load, ledger, staging, "docs", "p", "e", max_file_bytes=1000)
    load().run(1, Scope([file.parent]), lambda _: None)
    key = document_id("docs", uri_of(file))
    ledger.removal.mark("docs", [key])
    known = ledger.intake.known

    def then_forgotten(ids: Sequence[str]) -> dict[str, Known]:
        found = known(ids)
        ledger.removal.forget([key])
        age(staging, 100)
        assert counts(collect(ledger, staging, edge)) == {"copy": 1}
        if unreadable:
            file.unlink()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger.intake, "known", then_forgotten)
        load().run(2, Scope([file.parent]), lambda _: None)
    assert ledger.report.progress().states == ({"quarantined": 1} if unreadable else {"pending": 1})
    assert len(keys(staging)) == (not unreadable)


def test_a_load_finds_a_copy_young_or_gone_but_not_about_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that finds the copy after it was looked at, and before it is removed, waits for the removal and copies it again."""
    monkeypatch.setattr(batch, "PACKED_BYTES", 0)
    staging = LocalStaging(tmp_path / "staging")
    key = blob_key(keep(staging, "found at the worst moment"))
    age(staging, 100)
    loads: list[threading.Thread] = []
    unlink = Path.unlink

    def slow(path: Path, missing_ok: bool = False) -> None:
        if path == staging.root / key and not loads:
            loads.append(threading.Thread(target=keep, args=(staging, "found at the worst moment")))
            loads[0].start()
            loads[0].join(timeout=0.5)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", slow)
    assert staging.discard([key], time.time() - DAY_S) == [key]
    loads[0].join()
    assert keys(staging) == {key}


def test_a_load_that_compares_hashes_puts_no_copy_again_that_the_ledger_needs(ledger: Ledger, tmp_path: Path) -> None:
    staging, documents = LocalStaging(tmp_path / "staging"), tmp_path / "documents"
    documents.mkdir()
    for number in range(3):
        (documents / f"{number}.txt").write_text(f"text {number}")
    load = functools.partial(Load, ledger, staging, "docs", "p", "e", max_file_bytes=1000)
    load().run(1, Scope([documents]), lambda _: None)
    age(staging, 100)
    before = packs(staging.root)
    assert len(before) == 1
    load(checksum=True).run(2, Scope([documents]), lambda _: None)
    assert packs(staging.root) == before
    before[0].unlink()  # lost, although the ledger needs what was in it
    load(checksum=True).run(3, Scope([documents]), lambda _: None)
    assert len(keys(LocalStaging(staging.root))) == 3


def test_leftovers_of_the_store_go_once_they_were_seen_for_long_enough(
    ledger: Ledger, staging: Staging, edge: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = generation("docs", "live", 40)
    ledger.collections.add(live)
    for name in (live.physical, "docs@2-0123abcd", "other-0123abcd", "docs-of-another-program", "docs-deadbeef"):
        edge.create(name, 4)
    edge.set_alias("by-hand", "docs-deadbeef")
    assert counts(collect(ledger, staging, edge)) == {}
    month_later = time.time() + 31 * DAY_S
    monkeypatch.setattr(time, "time", lambda: month_later)
    assert [item.name for item in collect(ledger, staging, edge, dry_run=True).items] == ["docs@2-0123abcd"]
    assert counts(collect(ledger, staging, edge)) == {"collection of the store": 1}
    assert edge.collections() == sorted([live.physical, "other-0123abcd", "docs-of-another-program", "docs-deadbeef"])


def test_runs_stay_while_something_needs_them(ledger: Ledger, staging: Staging, edge: EdgeStore) -> None:
    old = [ledger.runs.start("docs") for _ in range(4)]
    scheduled = ledger.runs.start("docs", "sync", "s", "nightly")
    for run in (*old, scheduled):
        ledger.runs.end(run, "done")
    stage(ledger, "a", keep(staging, "a"), run=old[1])
    going_on, _ = ledger.holds.begin(NewRun("docs", "load"), ["file:///a"], "load@host/1")
    asked = ledger.runs.start("docs", token="t")
    newest = ledger.runs.start("docs")
    then = time.time() - 400 * DAY_S
    with writing(ledger.engine) as connection:
        connection.execute(runs.update().values(started_at=then))
        connection.execute(runs.update().where(runs.c.finished_at.is_not(None)).values(finished_at=then))
        connection.execute(submissions.insert().values(id="x", digest="d", run=newest, at=then))
        connection.execute(losses.insert().values(document="gone", ordinal=0, kind="chart", place="", detail="", count=1))
    seen = collect(ledger, staging, edge, dry_run=True)
    assert counts(seen) == {"run": 3, "key of a request": 1, "loss": 1}
    assert counts(collect(ledger, staging, edge)) == {"run": 3, "key of a request": 1, "loss": 1}
    left = {past.run.id for past in ledger.runs.history(100)}
    assert left == {old[1], scheduled, going_on.run, asked, newest}
    assert counts(collect(ledger, staging, edge)) == {}


class Killed(BaseException):
    """Stands for a kill: no handler of errors catches it."""


#: What changes something, by the part that it belongs to.
CHANGES = {
    "collections": ("drop", "dropped"), "upkeep": ("leftovers", "discard", "forget_runs", "forget_submissions", "give_back"),
    "staging": ("discard", "compact", "sweep"), "store": ("drop",), "life": ("forget", "forget_steps"),
}  # fmt: skip


def killing(monkeypatch: pytest.MonkeyPatch, parts: dict[str, object], at: int) -> Callable[[], bool]:
    """Raise Killed at the boundary with this number, before or after a change; whether it was reached."""
    count = 0

    def boundary() -> None:
        nonlocal count
        count += 1
        if count == at:
            raise Killed

    for part, names in CHANGES.items():
        for name in names:
            original = getattr(parts[part], name)

            @functools.wraps(original)
            def changed(*arguments: Any, _original: Any = original, **named: Any) -> Any:
                boundary()
                result = _original(*arguments, **named)
                boundary()
                return result

            monkeypatch.setattr(parts[part], name, changed)
    return lambda: count >= at


@pytest.mark.parametrize("packed_bytes", [0, PACKED_BYTES])
def test_killed_anywhere_it_loses_nothing_and_the_next_one_completes_it(
    packed_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "PACKED_BYTES", packed_bytes)
    at = 0
    while True:
        at += 1
        folder = tmp_path / str(at)
        folder.mkdir()
        staging = LocalStaging(folder / "staging")
        with Ledger.open(f"sqlite:///{folder / 'kb.db'}") as ledger, pytest.MonkeyPatch.context() as patch:
            store = EdgeStore(folder / "qdrant")
            live, replaced = generation("docs@2", "live", 40), generation("docs", SUPERSEDED, 40)
            for one in (live, replaced):
                ledger.collections.add(one)
                store.create(one.physical, 4)
            store.set_alias("docs", live.physical)
            needed, idle = keep(staging, "needed"), keep(staging, "idle")
            index(ledger, stage(ledger, "a", needed, collection=live.name), needed)
            files = {blob_key(needed), keep_chunks(staging, needed)}
            keep_chunks(staging, idle)
            age(staging, 100)
            of_document, _, newest = (ledger.runs.start("docs") for _ in range(3))
            with writing(ledger.engine) as connection:
                connection.execute(runs.update().values(started_at=1.0, finished_at=2.0))
            parts: dict[str, object] = {"collections": ledger.collections, "upkeep": ledger.upkeep, "life": ledger.life}
            parts |= {"staging": staging, "store": store}
            reached = killing(patch, parts, at)
            try:
                collect(ledger, staging, store)
            except Killed:
                assert keys(staging) >= files
                assert live.physical in store.collections()
            patch.undo()
            collect(ledger, staging, store)
            assert keys(staging) == files
            assert store.collections() == [live.physical]
            assert store.aliases() == {"docs": live.physical}
            assert [one.name for one in ledger.collections.all()] == [live.name]
            assert ledger.collections.dropping() == {}
            assert {past.run.id for past in ledger.runs.history(10)} == {of_document, newest}
            assert ledger.report.progress().states == {"indexed": 1}
            store.close()
            if not reached():
                break
    assert at > 12, "boundaries were not reached"
