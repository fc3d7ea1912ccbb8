"""A year of a ledger and its staged files: a tenth of the documents changes daily, and each week a rebuild replaces them all.

`benchmarks/year.py` has the same with commands and the embedded store.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.ledger.schema import BUILDING
from pipeline.ledger.work import IndexedResult, ParsedResult
from pipeline.staging import open_staging
from pipeline.staging.copies import chunks_key
from pipeline.steps.garbage import Ages, Garbage
from pipeline.store.edge import EdgeStore
from pipeline.types import SourceFile, Stage, StagedFile, document_id

DAY_S = 86_400.0
DAYS = 365

#: The defaults of the settings.
AGES = Ages(DAY_S, 365 * DAY_S, 30 * DAY_S, 7 * DAY_S, 30 * DAY_S, DAY_S, 3600.0)

#: Documents of the collection.
COUNT = int(os.environ.get("YEAR_DOCUMENTS", "40"))


class Year:
    """A data folder whose clock is ahead by some days."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.day, self._real = folder, 0, time.time
        monkeypatch.setattr(time, "time", lambda: self._real() + self.day * DAY_S)
        self.ledger = Ledger.open(f"sqlite:///{folder}/kb.db")
        self.staging = open_staging(str(folder / "staging"))
        self.chance = random.Random(3)
        self.texts: dict[str, str] = {}
        self.live = Collection("docs", "docs-00000000", "m", "", 4, "0" * 64, "", time.time())
        self.ledger.collections.add(self.live)
        self._made = 0

    def sync(self, changed: int, new: int, gone: int) -> None:
        run = self.ledger.runs.start("docs", "sync")
        dropped = self.chance.sample(sorted(self.texts), gone)
        ids = [document_id(self.live.name, uri) for uri in dropped]
        self.ledger.removal.mark(self.live.name, ids)
        self.ledger.removal.forget(ids)
        for uri in dropped:
            del self.texts[uri]
        named = [f"file:///documents/{self._made + number:06}.txt" for number in range(new)]
        self._made += new
        for uri in (chosen := [*self.chance.sample(sorted(self.texts), changed), *named]):
            self.texts[uri] = self.chance.randbytes(1000).hex()
        self._index(self.live.name, run, chosen)
        self.ledger.runs.end(run, "done")

    def rebuild(self) -> None:
        number = self.day
        new = replace(
            self.live, name=f"docs@{number}", physical=f"docs@{number}-00000000", serves="docs", state=BUILDING,
            created_at=time.time(), swapped_at=None,
        )  # fmt: skip
        self.ledger.collections.add(new)
        run = self.ledger.runs.start("docs", "reindex")
        self._index(new.name, run, sorted(self.texts))
        assert self.ledger.collections.swap(self.live.name, new.name) == ""
        self.ledger.runs.end(run, "done")
        self.live = new

    def _index(self, collection: str, run: int, uris: list[str]) -> None:
        work, staged, results = self.ledger.work, {}, []
        contents = {hashlib.sha256(self.texts[uri].encode()).hexdigest(): self.texts[uri].encode() for uri in uris}
        self.staging.put_bytes(contents, lambda: None)
        for uri in uris:
            text = self.texts[uri].encode()
            content_hash, key = hashlib.sha256(text).hexdigest(), document_id(collection, uri)
            staged[key] = StagedFile(SourceFile(uri, None, len(text), self.day), content_hash, "")
            results.append(IndexedResult(key, content_hash, "p", "e", 6, 6))
            (written := self.staging.scratch()).write_bytes(text)
            with self.staging.batch() as batch:
                batch.put_chunks(chunks_key("p", content_hash, "a.txt"), written)
        self.ledger.intake.record_staged(collection, run, staged)
        claim = work.claim(Stage.PARSE, list(staged), "w")
        work.parsed(claim, [ParsedResult(key, "", "text/plain", "p") for key in staged])
        work.release(claim)
        claim = work.claim(Stage.EMBED, list(staged), "w")
        assert len(work.indexed(claim, results)) == len(uris)
        work.release(claim)

    def collect(self, store: EdgeStore) -> tuple[int, int]:
        """Remove what nobody needs; bytes of the ledger and of staging."""
        Garbage(self.ledger, self.staging, store, AGES).collect()
        self.ledger.engine.dispose()
        parts = (self.folder.glob("kb.db*"), (self.folder / "staging").rglob("*"))
        ledger, staged = (sum(one.stat().st_size for one in part if one.is_file()) for part in parts)
        return ledger, staged


@pytest.mark.slow
def test_a_folder_does_not_grow_over_a_year(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    year = Year(tmp_path, monkeypatch)
    sizes, generations = [], []
    with closing(EdgeStore(tmp_path / "qdrant")) as store:
        year.sync(0, COUNT, 0)
        sizes.append(year.collect(store))
        for year.day in range(1, DAYS + 1):
            year.sync(COUNT // 10, 1, 1)
            if year.day % 7 == 0:
                year.rebuild()
            sizes.append(year.collect(store))
            generations.append([one.state for one in year.ledger.collections.all()])
    if told := os.environ.get("YEAR_FIGURES"):
        Path(told).write_text(json.dumps(sizes))
    assert max(map(len, generations)) == 2
    assert all("superseded" in states for states in generations[6::7]), "a rollback is possible after each swap"
    settled = [max(sum(one) for one in sizes[week : week + 7]) for week in range(42, DAYS - 7, 7)]
    assert max(settled) < 1.1 * min(settled), "it grows from week to week"
    assert sizes[-1][1] < 1.2 * sizes[0][1]
    assert year.ledger.report.progress(collection=year.live.name).states == {"indexed": COUNT}
    year.ledger.close()
