"""The report of a run, gathered from the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.ledger import Ledger
from pipeline.ledger.losses import LossyDocument
from pipeline.ledger.report import Progress
from pipeline.ledger.retrospect import DocumentRecord
from pipeline.ledger.runs import Past, RunFigures, RunRow
from pipeline.reports.run.fold import Bin, Failed, Fold, Ranked, StageTime
from pipeline.telemetry.counters import UNBOUNDED, token_bin
from pipeline.types import DocumentState

#: Maximum number of failed documents named per reason; the others are counted.
MAX_NAMED = 200

#: How many of the run's events still exist: all, some or none; the ledger deletes old events.
WHOLE, PARTLY, NONE = "whole", "partly", "none"


@dataclass(frozen=True, slots=True)
class Totals:
    """Results of a run."""

    discovered: int
    unchanged: int
    added: int
    changed: int
    deleted: int
    indexed: int
    quarantined: int
    skipped: int  #: left out on purpose
    open: int  #: unfinished now
    chunks: int  #: points of the documents it indexed
    embedded: int  #: chunks embedded by this run; the others were in the store already
    tokens: int  #: tokens of those chunks; 0 if events are missing, like the next field
    indexed_bytes: int  #: size of the documents it indexed
    bytes: int  #: size of the files it copied to staging
    chunks_per_s: float  #: chunks embedded per second
    documents_per_s: float  #: documents indexed per second
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure of a run compared with that of the previous run."""

    name: str
    value: float
    before: float
    difference: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run compared with the previous one of the same action, source and collection."""

    run: int  #: the previous one
    started_at: float
    figures: tuple[Compared, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A document in a ranking of a run."""

    id: str
    uri: str  #: empty, like the title, if it is no longer in the ledger
    title: str
    bytes: int
    chunks: int
    parse_s: float
    embed_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A document that the run could not index, or left out."""

    id: str
    uri: str  #: empty if it is no longer in the ledger
    detail: str
    since: str  #: what happened to it later or earlier, human-readable; empty if it failed in this run and its state is unchanged


@dataclass(frozen=True, slots=True)
class Group:
    """Documents that ended for one reason."""

    reason: str
    documents: int
    named: tuple[Failure, ...]  #: up to MAX_NAMED, by uri


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of a run's chunks."""

    limit: int  #: maximum tokens that the model accepts; 0 if unknown
    width: int  #: width of a bin, in tokens
    bins: tuple[int, ...]  #: numbers of chunks; the first bin is for 1 to `width` tokens
    chunks: int  #: measured chunks; those of a document that was processed twice count twice
    over: int  #: chunks over the limit, which the model truncated


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run, in full."""

    run: RunRow
    outcome: str  #: as in History
    seconds: float  #: until its end, or else until now or its last event
    so_far: bool  #: it has no end in the ledger: it is running, was started with --no-wait, or died
    totals: Totals
    figures: RunFigures | None  #: state of the collection after the run; None before its end
    comparison: Comparison | None  #: None if there is no previous run, or no end
    events: str  #: WHOLE, PARTLY or NONE: how complete the next fields are
    bins: tuple[Bin, ...]  #: of equal length, from the start to the end
    stages: tuple[StageTime, ...]
    largest: tuple[Document, ...]  #: by bytes
    longest: tuple[Document, ...]  #: by chunks
    slowest: tuple[Document, ...]  #: by workers' time
    failures: tuple[Group, ...]  #: the most documents first
    failures_untold: int  #: documents quarantined when the run ended about which nothing more is known
    skipped: tuple[Group, ...]
    losses: dict[str, int]  #: parts of its indexed documents that could not be read, by kind
    lossy: tuple[LossyDocument, ...]  #: its documents with the most of them
    lossy_documents: int
    lengths: Lengths


def gather(ledger: Ledger, past: Past) -> RunReport:
    """Gather the report of a run."""
    run, number = past.run, past.run.id
    span, now = ledger.retrospect.span(number), ledger.report.progress(number)
    so_far = run.finished_at is None
    end = run.finished_at or (time.time() if past.outcome == "going on" else span.last or run.started_at)
    until = run.finished_at or float("inf")
    seconds = max(0.0, round(end - run.started_at, 3))
    fold = Fold(run.started_at, seconds, MAX_NAMED, until)
    # A failed run has left unfinished documents that continue under its number: only the time distinguishes later events.
    for step in ledger.retrospect.steps(number, until) if past.outcome == "failed" else ledger.retrospect.steps(number):
        fold.add(step)
    fold.close()
    counts, others = _refused_before(ledger.retrospect.refused(number, until), fold)
    wanted = {one.document for top in (fold.largest, fold.longest, fold.slowest) for one in top.items()}
    wanted.update(failed.document for kept in fold.named.values() for failed in kept)
    names = ledger.retrospect.names(sorted(wanted))

    def groups(state: DocumentState) -> tuple[Group, ...]:
        found = [_failure(failed, names.get(failed.document)) for failed in fold.named[state]]
        listed = [(failed.reason, failure) for failed, failure in zip(fold.named[state], found, strict=True)]
        listed += [(other.reason, _older(other, run.started_at)) for other in others[state]]
        return _grouped(counts[state], listed)

    failures, skipped = groups(DocumentState.QUARANTINED), groups(DocumentState.SKIPPED)
    totals = _totals(run, now, fold, seconds, sum(group.documents for group in skipped))
    known = sum(group.documents for group in failures)
    largest, longest, slowest = (_documents(top.items(), names) for top in (fold.largest, fold.longest, fold.slowest))
    return RunReport(
        run=run,
        outcome=past.outcome,
        seconds=seconds,
        so_far=so_far,
        totals=totals,
        figures=past.figures,
        comparison=_comparison(ledger, past),
        events=_coverage(run, totals, fold, span.oldest),
        bins=fold.bins(),
        stages=fold.stages(),
        largest=largest,
        longest=longest,
        slowest=slowest,
        failures=failures,
        failures_untold=max(0, totals.quarantined - known),
        skipped=skipped,
        **_losses(ledger, number),
        lengths=_lengths(ledger, number),
    )


def _losses(ledger: Ledger, run: int) -> dict[str, Any]:
    """What the report says of parts that could not be read."""
    found = ledger.losses.summary(run)
    lossy = ledger.losses.documents(run, limit=MAX_NAMED) if found else []
    return {"losses": found.kinds, "lossy": tuple(lossy), "lossy_documents": found.documents}


def _refused_before(
    refused: Iterable[DocumentRecord], fold: Fold
) -> tuple[dict[str, dict[str, int]], dict[str, list[DocumentRecord]]]:
    """Counts by state and reason, and records of the documents that an earlier run refused and that have not changed since.

    They belong to the run too, but have no event in it.
    """
    others: dict[str, list[DocumentRecord]] = {DocumentState.QUARANTINED: [], DocumentState.SKIPPED: []}
    counts = {state: dict(reasons) for state, reasons in fold.counts.items()}
    for document in refused:
        if document.id not in fold.refused:
            reasons = counts[document.state]
            reasons[document.reason] = reasons.get(document.reason, 0) + 1
            if reasons[document.reason] <= MAX_NAMED:
                others[document.state].append(document)
    return counts, others


def _totals(run: RunRow, now: Progress, fold: Fold, seconds: float, skipped: int) -> Totals:
    indexed, quarantined, chunks, embedded = run.indexed, run.quarantined, run.chunks, run.embedded
    if run.finished_at is None:
        indexed, quarantined = (now.states.get(state, 0) for state in (DocumentState.INDEXED, DocumentState.QUARANTINED))
        chunks, embedded = now.chunks, now.embedded
    length = seconds or float("inf")
    return Totals(
        discovered=run.discovered,
        unchanged=run.unchanged,
        added=run.added,
        changed=run.changed,
        deleted=run.deleted,
        indexed=indexed,
        quarantined=quarantined,
        skipped=skipped,
        open=now.open if run.finished_at is None else 0,
        chunks=chunks,
        embedded=embedded,
        tokens=fold.tokens,
        indexed_bytes=fold.bytes,
        bytes=run.bytes,
        chunks_per_s=round(embedded / length, 1),
        documents_per_s=round(indexed / length, 3),
        bytes_per_s=round((fold.bytes or run.bytes) / length, 1),
    )


def _comparison(ledger: Ledger, past: Past) -> Comparison | None:
    before = ledger.runs.past(past.before) if past.before is not None else None
    if before is None or past.figures is None or before.figures is None:
        return None
    now, then = past.figures, before.figures
    names = () if past.run.action == "verify" else (
        "discovered", "unchanged", "added", "changed", "deleted", "indexed", "quarantined", "embedded", "bytes",
    )  # fmt: skip
    pairs: list[tuple[str, float, float]] = [("seconds", past.seconds or 0.0, before.seconds or 0.0)]
    pairs += [(name, getattr(past.run, name), getattr(before.run, name)) for name in names]
    pairs += [
        ("chunks_per_s", now.chunks_per_s, then.chunks_per_s),
        ("collection_documents", now.documents, then.documents),
        ("collection_chunks", now.chunks, then.chunks),
        ("collection_failures", now.failures, then.failures),
    ]
    figures = tuple(Compared(name, value, other, round(value - other, 3)) for name, value, other in pairs)
    return Comparison(before.run.id, before.run.started_at, figures)


def _coverage(run: RunRow, totals: Totals, fold: Fold, oldest: float | None) -> str:
    """Whether events exist for all documents that the run indexed, and for those that failed in it."""
    # Documents that had failed earlier and were found in that state have no events; if none were deleted, only these are missing.
    forgets = oldest is None or oldest > run.started_at
    failed = sum(fold.counts[DocumentState.QUARANTINED].values())
    if fold.indexed >= totals.indexed and not fold.bare and (not forgets or failed >= totals.quarantined):
        return WHOLE
    return PARTLY if fold.documents else NONE


def _documents(ranked: Iterable[Ranked], names: dict[str, DocumentRecord]) -> tuple[Document, ...]:
    found = []
    for one in ranked:
        named = names.get(one.document)
        uri, title = (named.uri, named.title) if named else ("", "")
        found.append(
            Document(
                id=one.document,
                uri=uri,
                title=title,
                bytes=one.bytes,
                chunks=one.chunks,
                parse_s=round(one.parse_s, 3),
                embed_s=round(one.embed_s, 3),
            )
        )
    return tuple(found)


def _failure(failed: Failed, now: DocumentRecord | None) -> Failure:
    if now is None:
        return Failure(failed.document, "", failed.detail, "no longer in the ledger")
    words = {
        DocumentState.INDEXED: "fixed since", DocumentState.DELETED: "deleted since", DocumentState.QUARANTINED: "",
        DocumentState.SKIPPED: "",
    }  # fmt: skip
    since = next((text for state, text in words.items() if state == now.state), "being retried")
    if not since and now.reason != failed.reason:
        since = f"now: {now.reason}"
    return Failure(failed.document, now.uri, failed.detail, since)


def _older(document: DocumentRecord, started_at: float) -> Failure:
    since = "refused before this run, and unchanged" if document.updated_at < started_at else ""
    return Failure(document.id, document.uri, document.detail, since)


def _grouped(counts: dict[str, int], listed: list[tuple[str, Failure]]) -> tuple[Group, ...]:
    groups = [Group(reason, count, ()) for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return tuple(
        replace(group, named=tuple(sorted((f for reason, f in listed if reason == group.reason), key=_by_uri)[:MAX_NAMED]))
        for group in groups
    )


def _by_uri(failure: Failure) -> tuple[bool, str, str]:
    return not failure.uri, failure.uri, failure.id


def _lengths(ledger: Ledger, run: int) -> Lengths:
    counts, limit = ledger.retrospect.lengths(run)
    over, width = counts.pop(UNBOUNDED, 0), token_bin(1, limit)
    last = max([int(bound) for bound in counts] + ([token_bin(limit, limit)] if limit and counts else []), default=0)
    bins = tuple(counts.get(str(bound), 0) for bound in range(width, last + 1, width))
    return Lengths(limit=limit, width=width, bins=bins, chunks=sum(bins), over=over)


__all__ = [
    "MAX_NAMED", "NONE", "PARTLY", "WHOLE", "Bin", "Compared", "Comparison", "Document", "Failure", "Group", "Lengths",
    "RunReport", "StageTime", "Totals", "gather",
]  # fmt: skip
