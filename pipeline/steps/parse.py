"""The second step: turns claimed documents into chunk files."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DocumentError, KbError
from pipeline.files.errors import translating
from pipeline.ledger import Ledger
from pipeline.ledger.advances import Advance
from pipeline.ledger.claims import Claim, ClaimedDocument
from pipeline.ledger.work import ParsedResult
from pipeline.metadata import Given, fields_as_json, fingerprints
from pipeline.sandbox.extract import MAX_DEPTH, Extracted, ExtractJob, SoFar, members_folder
from pipeline.sandbox.guard import ParseGuard
from pipeline.sources.uris import depth_of, name_of
from pipeline.staging import Batch, Staging
from pipeline.staging.chunk_files import ChunkFile
from pipeline.staging.contents import PACKED_BYTES, Piece
from pipeline.steps import members, records
from pipeline.steps.beat import Beat
from pipeline.steps.outcomes import Outcomes
from pipeline.telemetry.counters import Measured
from pipeline.telemetry.spans import Tracing
from pipeline.types import Loss, Reason, Stage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Made:
    """An existing chunk file, with the facts to report once the ledger has it."""

    document: ClaimedDocument
    result: ParsedResult
    chunks: int  #: chunks made now; 0 if the file existed already
    began_ns: int
    ended_ns: int
    reused: bool = False


@dataclass(frozen=True, slots=True)
class _Target:
    """A chunk file that a document may have, and the parse fingerprint in its name."""

    made_with: str
    file: ChunkFile


#: Without, and with, pages without text; which of them is known once a document has been parsed.
_Targets = tuple[_Target, _Target]

#: Jobs and their documents, by the ids of these.
_Jobs = dict[str, tuple[ExtractJob, ClaimedDocument]]

#: Seconds after which chunk files that were made are kept, whatever else a claim has to do: a kill loses no more work.
KEEP_EVERY_S = 5.0


class ParseStep:
    """Turns claimed documents into chunk files in staging."""

    def __init__(
        self, ledger: Ledger, staging: Staging, guard: ParseGuard, fingerprint: str, measured: Measured | None = None,
        tracing: Tracing | None = None,
    ) -> None:  # fmt: skip
        self._ledger = ledger
        self._staging = staging
        self._guard = guard
        self._fingerprint = fingerprint  #: parse fingerprint of all chunk files this step makes, but for those of records
        self._measured = measured or Measured()
        self._outcomes = Outcomes("parse", tracing)

    def run(self, claim: Claim, batch: str) -> list[str]:
        """Parse the claim's documents; return the ids ready for the embed stage, marked as queued under `batch`.

        Documents that cannot be parsed are recorded with their reason. An existing chunk file made from the same bytes with
        the same options is reused. Raises LeaseLost, NoSpace.
        """
        beat = Beat(self._ledger, claim, self._measured)
        self._outcomes.begin(len(claim.documents))
        made: list[_Made] = []
        with ExitStack() as stack:
            waiting: list[ClaimedDocument] = []
            targets = {document.id: self._targets(document) for document in claim.documents}
            there = self._staging.with_chunks(one.file.key for both in targets.values() for one in both)
            for document in claim.documents:
                beat()
                began = time.time_ns()
                ready = self._ready(document, targets[document.id], there)
                if ready is None:
                    waiting.append(document)
                    continue
                made.append(_Made(document=document, result=ready, chunks=0, began_ns=began, ended_ns=time.time_ns(), reused=True))
            jobs: _Jobs = {}
            outputs = stack.enter_context(_folder(self._staging.scratch()))
            pieces = stack.enter_context(self._staging.pieces(document.content_hash for document in waiting))
            for document in waiting:
                beat()
                began = time.time_ns()
                piece = pieces.get(document.content_hash)
                try:
                    if piece is None:
                        with self._outcomes.about(document):
                            piece = Piece(stack.enter_context(self._staging.blob(document.content_hash)))
                except DocumentError as error:
                    self._fail(claim, document, error.reason, error.detail, began)
                    continue
                jobs[document.id] = (self._job(document, piece, f"{outputs}/{len(jobs)}"), document)
            made += self._parse(claim, jobs, targets, beat)
        kept = self._ledger.work.parsed(claim, [one.result for one in made], batch, self._measured)
        ours = [one for one in made if one.document.id in kept]
        for one in ours:
            self._outcomes.parsed(one.document, one.chunks, one.result.tokens, one.began_ns, one.ended_ns, reused=one.reused)
        self._outcomes.end("parsed")
        return [one.document.id for one in ours]

    def _job(self, document: ClaimedDocument, piece: Piece, output: str) -> ExtractJob:
        given = Given.read(document.given)
        return ExtractJob(
            path=str(piece.path),
            offset=piece.offset,
            length=piece.length,
            name=name_of(document.uri),
            document_id=document.id,
            output=output,
            nested=depth_of(document.uri) >= MAX_DEPTH,
            records=json.dumps(fields_as_json(given.records)) if given.records is not None else "",
            is_record=given.record is not None,
            small_bytes=PACKED_BYTES,
        )

    def _parse(self, claim: Claim, jobs: _Jobs, targets: Mapping[str, _Targets], beat: Beat) -> list[_Made]:
        found = []
        had_members = self._ledger.intake.with_members(list(jobs))

        def so_far(job: ExtractJob, made: SoFar) -> None:
            document = jobs[job.document_id][1]
            read = min(document.size, round((made.share or 0.0) * document.size))
            beat.advance(Advance(document.id, made.chunks, made.tokens, bytes=read))

        written = time.monotonic()
        with _kept(self._staging) as batch:
            for outcome in self._guard.run([job for job, _ in jobs.values()], beat, so_far):
                job, document = jobs[outcome.job.document_id]
                self._measured.observe("stage_seconds", Stage.PARSE, outcome.seconds)
                ended_ns = time.time_ns()
                began_ns = ended_ns - int(outcome.seconds * 1e9)
                if outcome.extracted is None:
                    assert outcome.reason is not None
                    self._fail(claim, document, outcome.reason, outcome.detail, began_ns)
                    continue
                made = outcome.extracted
                try:
                    inside = self._inside(document, made, job, beat, had=document.id in had_members)
                except DocumentError as error:
                    self._fail(claim, document, error.reason, error.detail, began_ns)
                    continue
                target = targets[document.id][made.scanned]
                if made.content is None:
                    batch.put_chunks(target.file.key, Path(job.output))
                else:
                    batch.keep(target.file.key, made.content)
                if time.monotonic() - written > KEEP_EVERY_S:
                    batch.flush()
                    written = time.monotonic()
                result = self._result(target.made_with, document, made, inside, outcome.seconds)
                found.append(_Made(document=document, result=result, chunks=made.chunks, began_ns=began_ns, ended_ns=ended_ns))
        return found

    def _inside(self, document: ClaimedDocument, made: Extracted, job: ExtractJob, beat: Beat, *, had: bool) -> tuple[Loss, ...]:
        """Record the files or records inside a document; `had`: it had some before. Returns losses; raises DocumentError."""
        if not (made.records or made.members or had):
            return ()
        folder = Path(members_folder(job.output))
        if made.records:
            return records.record(self._ledger, self._staging, document, made, folder, self._fingerprint, beat)
        members.record(self._ledger, self._staging, document, made.members, folder, self._fingerprint)
        return ()

    def _result(
        self, made_with: str, document: ClaimedDocument, made: Extracted, inside: tuple[Loss, ...], seconds: float
    ) -> ParsedResult:
        return ParsedResult(
            id=document.id,
            title=made.title,
            media_type=made.media_type,
            parse_fingerprint=made_with,
            tokens=made.tokens,
            seconds=seconds,
            chunks=made.chunks,
            losses=made.losses + inside,
            properties=made.metadata,
        )

    def _targets(self, document: ClaimedDocument) -> _Targets:
        with_scans, without = fingerprints(Given.read(document.given).parse_fingerprint(self._fingerprint))
        return self._target(document, without), self._target(document, with_scans)

    def _target(self, document: ClaimedDocument, made_with: str) -> _Target:
        found = ChunkFile.of(
            self._staging, document.id, uri=document.uri, content_hash=document.content_hash, parse_fingerprint=made_with
        )
        return _Target(made_with, found)

    def _fail(self, claim: Claim, document: ClaimedDocument, reason: Reason, detail: str, began_ns: int) -> None:
        if self._ledger.work.fail(claim, document.id, reason, detail):
            self._outcomes.failed(document, reason, detail, began_ns)

    def _ready(self, document: ClaimedDocument, targets: _Targets, there: Set[str]) -> ParsedResult | None:
        target = next((one for one in targets if one.file.key in there), None)
        if target is None:
            return None
        try:
            header, footer = target.file.ends()
        except DocumentError as error:
            with self._outcomes.about(document):
                log.info("parsing %s again: %s", document.uri, error)
            return None
        if footer.members:  # its files must be recorded under this document, too
            return None
        return ParsedResult(
            id=document.id,
            title=header.title,
            media_type=header.media_type,
            parse_fingerprint=target.made_with,
            tokens=footer.tokens,
            chunks=footer.chunks,
            losses=footer.losses,
            properties=header.metadata,
        )


@contextmanager
def _kept(staging: Staging) -> Iterator[Batch]:
    """A batch that keeps what was made before an error, too: the next attempt finds it."""
    with staging.batch() as batch:
        try:
            yield batch
        except KbError:
            with suppress(KbError):
                batch.flush()
            raise


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """A folder that is removed in the end, with what is left in it; raises NoSpace, ConfigError."""
    with translating(path):
        path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
