"""The effects and the cost of a sync, found without changing anything."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.chunk.file import read_chunks
from pipeline.errors import DocumentError
from pipeline.ledger import Ledger
from pipeline.ledger.intake import Known
from pipeline.metadata import fields_as_json
from pipeline.sandbox.extract import ExtractJob, members_folder
from pipeline.sandbox.guard import ParseGuard
from pipeline.sources.uris import name_of, path_of
from pipeline.staging import Staging
from pipeline.staging.chunk_files import ChunkFile
from pipeline.steps.growth import Growth, growth
from pipeline.steps.load import Action, Load, Planned
from pipeline.steps.plan_records import cost
from pipeline.steps.remove import vanished
from pipeline.steps.sampling import Sampled, draw, extrapolate, likely
from pipeline.steps.scope import Scope
from pipeline.types import SourceFile, document_id

#: Maximum number of files parsed to count chunks. Of more files, this many are chosen at random.
SAMPLE_FILES = 64

#: Runs that embedded fewer chunks than this measure the start of the workers rather than their rate.
RATE_CHUNKS = 200


@dataclass(slots=True)
class SyncPlan:
    """A sync that was not run."""

    files: list[Planned] = field(default_factory=list)
    chunks: int = 0  #: chunks to embed
    tokens: int = 0  #: tokens of these chunks
    new_points: int = 0  #: the chunks of new documents among them
    estimated: bool = False  #: whether chunks and tokens are extrapolated from a sample
    parsed_files: int = 0  #: new and changed files that were parsed; chosen at random if there are more
    chunks_low: int = 0  #: the range that is likely to contain `chunks`; without a sample both are `chunks`
    chunks_high: int = 0
    chunks_per_s: float = 0.0  #: measured in this deployment; 0 if there is no measurement yet
    memory_bytes: int = 0  #: growth of Qdrant's memory
    disk_bytes: int = 0
    stores: list[Growth] = field(default_factory=list)  #: growth by store
    refused: str = ""  #: why deletions would be refused, human-readable

    def count(self, action: Action) -> int:
        """Number of documents with an action."""
        return sum(file.action == action for file in self.files)

    @property
    def seconds(self) -> float | None:
        """Forecast of the embedding time; None if no rate is known."""
        return self.chunks / self.chunks_per_s if self.chunks_per_s else None


@dataclass(frozen=True, slots=True)
class Planning:
    """The parts that a plan needs; none of them is changed."""

    ledger: Ledger
    staging: Staging
    guard: ParseGuard
    generation: str  #: the ledger's name of the collection's generation
    dimension: int
    part_tokens: int = 0  #: of parts with vectors of their own; 0: there are none

    def plan(self, step: Load, scope: Scope, max_delete_ratio: float) -> SyncPlan:
        """Compare source and ledger; `step` must have been created with a Listed to fill.

        Files with the size of a vanished document are read completely, to find out whether it was moved. Up to SAMPLE_FILES
        files are parsed. Raises SourceError.
        """
        assert step.listed is not None
        found = SyncPlan()
        found.files = list(step.plan(scope))
        gone = vanished(self.ledger, self.generation, scope, step.listed, max_delete_ratio)
        found.refused = gone.refused
        if gone.refused:  # shown all the same: a person has to decide
            gone = vanished(self.ledger, self.generation, scope, step.listed, max_delete_ratio, allow=True)
        by_size: dict[int, set[str]] = defaultdict(set)
        for document in gone.documents:
            by_size[document.size].add(document.content_hash)
        found.files = [self._moved(file, by_size, step) for file in found.files]
        found.files += [Planned("vanished", document.uri, document.size) for document in gone.documents]
        self._estimate(found, step)
        found.chunks_per_s = measured_rate(self.ledger)
        # An edited document loses about as many points as it gains.
        found.stores = growth(found.new_points, self.dimension, self._parts(found))
        server = found.stores[1]
        found.memory_bytes, found.disk_bytes = server.memory_bytes, server.disk_bytes
        return found

    def _parts(self, found: SyncPlan) -> int:
        """Parts of a chunk of average length."""
        return -(-found.tokens // (self.part_tokens * found.chunks)) if self.part_tokens and found.chunks else 0

    def _moved(self, file: Planned, by_size: dict[int, set[str]], step: Load) -> Planned:
        if file.action != "added" or file.bytes not in by_size:
            return file
        try:
            digest = step.copy(_source(file), Path(os.devnull))
        except DocumentError:
            return file
        return Planned("moved", file.uri, file.bytes) if digest in by_size[file.bytes] else file

    def _estimate(self, found: SyncPlan, step: Load) -> None:
        """Count the chunks of a sample of each kind of file, and extrapolate by bytes."""
        kinds: dict[tuple[str, str], list[Planned]] = defaultdict(list)
        for file in found.files:
            if file.action in ("added", "changed"):
                kinds[file.action, os.path.splitext(name_of(file.uri))[1].lower()].append(file)
        each = SAMPLE_FILES // max(1, len(kinds))
        estimates = []
        with tempfile.TemporaryDirectory(prefix="kb-plan-") as folder:
            for (action, _), files in kinds.items():
                sample, whole = self._parse(draw(files, each), Path(folder), step)
                estimate = extrapolate(sample, len(files), sum(_weight(file) for file in files))
                estimates.append(estimate)
                found.estimated |= len(sample) < len(files) or not whole
                found.parsed_files += len(sample)
                found.chunks += round(estimate.chunks)
                found.new_points += round(estimate.chunks) if action == "added" else 0
                found.tokens += round(estimate.tokens)
        found.chunks_low, found.chunks_high = likely(estimates) if found.estimated else (found.chunks, found.chunks)

    def _parse(self, files: Sequence[Planned], folder: Path, step: Load) -> tuple[list[Sampled], bool]:
        """The chunks of each file that would be embedded, and whether all of them were counted."""
        jobs, copies, sampled = [], [], {self._id(file): Sampled(_weight(file), 0, 0) for file in files}
        of_records, whole = [], True
        known, uris = self.ledger.intake.known(list(sampled)), {self._id(file): file.uri for file in files}
        for number, file in enumerate(files):
            copy = folder / str(number)
            try:
                step.copy(_source(file), copy)
            except DocumentError:
                continue
            copies.append(copy)
            key, fields = self._id(file), step.records_of(file.uri, known.get(self._id(file)))
            records = json.dumps(fields_as_json(fields)) if fields is not None else ""
            output = str(folder / f"{number}.chunks")
            jobs.append(ExtractJob(str(copy), name_of(file.uri), key, output, nested=not records, records=records))
        for outcome in self.guard.run(jobs, lambda: None):
            if outcome.extracted is not None:
                key = outcome.job.document_id
                of_records += [outcome.job] if outcome.extracted.records else []
                before = self._ids(key, uris[key], known.get(key))
                fresh = [c for c in read_chunks(Path(outcome.job.output), key)[1] if c.id not in before]
                sampled[key] = replace(sampled[key], chunks=len(fresh), tokens=sum(chunk.token_count for chunk in fresh))
                Path(outcome.job.output).unlink(missing_ok=True)
        for copy in copies:
            copy.unlink(missing_ok=True)
        for job in of_records:  # only now: the guard parses one batch at a time
            key, inside = job.document_id, Path(members_folder(job.output))
            estimate, estimated = cost(self.ledger, self.guard, self.generation, uris[key], inside)
            sampled[key] = Sampled(sampled[key].size, round(estimate.chunks), round(estimate.tokens), estimate.variance)
            whole = whole and not estimated
            shutil.rmtree(inside, ignore_errors=True)
        return list(sampled.values()), whole

    def _id(self, file: Planned) -> str:
        return document_id(self.generation, file.uri)

    def _ids(self, document: str, uri: str, known: Known | None) -> set[str]:
        """Ids of a document's chunks in the store; empty if its chunk file no longer exists."""
        if known is None or not known.indexed_hash:
            return set()
        version = ChunkFile.of(
            self.staging, document, uri=uri, content_hash=known.indexed_hash, parse_fingerprint=known.indexed_parse
        )
        return version.ids() or set()


def measured_rate(ledger: Ledger) -> float:
    """Chunks per second of this deployment: median of its last runs with RATE_CHUNKS or more, else the largest run's rate.

    0 if nothing has been embedded yet.
    """
    ended = [run for run in ledger.runs.latest(50) if run.finished_at and run.outcome != "interrupted"]
    runs = [run for run in ended if run.embedded and run.finished_at and run.finished_at > run.started_at]
    telling = [run for run in runs if run.embedded >= RATE_CHUNKS][:10] or sorted(runs, key=lambda run: run.embedded)[-1:]
    rates = [run.embedded / (run.finished_at - run.started_at) for run in telling if run.finished_at]
    return statistics.median(rates) if rates else 0.0


def _weight(file: Planned) -> int:
    """What chunks are extrapolated by: bytes, and for pages, whose size is not known yet, their number."""
    return file.bytes or 1


def _source(file: Planned) -> SourceFile:
    return SourceFile(file.uri, path_of(file.uri) if file.uri.startswith("file://") else None, file.bytes, 0)
