"""The check that the store holds exactly the points that the ledger expects, and the repair."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from pipeline.ledger import Ledger
from pipeline.ledger.report import Expected
from pipeline.staging import Staging
from pipeline.staging.chunk_files import ChunkFile
from pipeline.store.base import StoredPoint, VectorStore

#: Points checked together while the store is scanned.
SCAN_WINDOW = 2000

#: Minimum length of a vector that does not count as zero; all vectors are written with length 1.
MIN_NORM = 0.5


@dataclass(slots=True)
class Verified:
    """Result of a check: counts of points, and ids of documents and points to fix."""

    documents: int = 0
    expected_points: int = 0
    actual_points: int = 0
    missing: int = 0
    orphans: int = 0  #: points that no document in the ledger should have
    zero_vectors: int = 0
    damaged: set[str] = field(default_factory=set)  #: ids of documents with wrong points
    stray: list[str] = field(default_factory=list)  #: ids of points to delete: those without an indexed document, zero vectors

    @property
    def clean(self) -> bool:
        """Whether the store holds exactly the points that the ledger expects."""
        return not (self.missing or self.orphans or self.zero_vectors)


def verify(ledger: Ledger, staging: Staging, store: VectorStore, collection: str, physical: str) -> Verified:
    """Compare each document's points with the ids in its chunk file, and check every vector.

    Documents in progress are compared too, so run it while no load is running. Memory is bounded by one window of documents.
    """
    found = Verified()
    for window in ledger.report.expected(collection):
        points = store.document_points(physical, [document.id for document in window])
        for document in window:
            _compare(staging, document, set(points.get(document.id, {})), found)
    for scanned in _windows(store.scan(physical, with_vectors=True), SCAN_WINDOW):
        found.actual_points += len(scanned)
        known = ledger.intake.known(list({point.document_id for point in scanned}))
        for point in scanned:
            if point.document_id not in known or not known[point.document_id].indexed_hash:
                found.orphans += 1
                found.stray.append(point.id)
            elif _is_zero(point.vector):
                found.zero_vectors += 1
                found.damaged.add(point.document_id)
                found.stray.append(point.id)
    return found


def repair(ledger: Ledger, store: VectorStore, physical: str, found: Verified) -> int:
    """Delete stray points and send damaged documents through the embed stage again; return how many documents.

    Chunks that the store still holds are not embedded again. The documents are fixed once workers have processed them.
    """
    if found.stray:
        store.delete_points(physical, found.stray)
    return ledger.intake.reopen(sorted(found.damaged))


def _compare(staging: Staging, document: Expected, actual: set[str], found: Verified) -> None:
    found.documents += 1
    found.expected_points += document.chunks
    expected = ChunkFile.of_version(staging, document).ids()
    if expected is None:  # the cache was cleared: only counts can be compared
        missing, orphans = max(0, document.chunks - len(actual)), max(0, len(actual) - document.chunks)
    else:
        missing, orphans = len(expected - actual), len(actual - expected)
    found.missing += missing
    found.orphans += orphans
    if missing or orphans:
        found.damaged.add(document.id)


def _is_zero(vector: Sequence[float] | None) -> bool:
    # Not `<`: NaN compares false with everything and must be found too.
    return vector is None or not math.sqrt(sum(number * number for number in vector)) >= MIN_NORM


def _windows(points: Iterable[StoredPoint], size: int) -> Iterable[list[StoredPoint]]:
    stream = iter(points)
    while window := list(islice(stream, size)):
        yield window
