"""A map of a collection: its documents as points in a plane, its duplicates, and its outliers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.ledger import Ledger
from pipeline.ledger.report import Expected
from pipeline.reports.map.folders import OTHER, Grouping, group
from pipeline.reports.map.likeness import NEIGHBOURS, compare, outliers, principal_plane
from pipeline.sources.uris import folder_of, name_of, shown_path
from pipeline.store.base import VectorStore
from pipeline.text import visible

#: Maximum number of points in a picture: more would lie on top of each other. All documents are compared, drawn or not.
MAX_POINTS = 20_000

#: Maximum number of findings that are listed; all of them are counted.
MAX_NEAR, MAX_COPIES, MAX_OUTLIERS = 200, 200, 30


@dataclass(frozen=True, slots=True)
class DocumentName:
    """A document's human-readable names."""

    title: str  #: title of the document, or else its file name
    uri: str
    path: str  #: path of the file or URL of the object, not percent-encoded and always printable


@dataclass(frozen=True, slots=True)
class Copies:
    """Documents with the same bytes."""

    documents: list[DocumentName]  #: two or more


@dataclass(frozen=True, slots=True)
class Near:
    """Two documents with nearly the same content that are not copies."""

    cosine: float  #: cosine of their vectors
    first: DocumentName
    second: DocumentName


@dataclass(frozen=True, slots=True)
class Outlier:
    """A document unlike all others."""

    cosine: float  #: mean over its nearest neighbours, without its copies
    document: DocumentName


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder with a colour."""

    name: str  #: below the root that all documents share
    documents: int


@dataclass(frozen=True, slots=True)
class Findings:
    """Findings about a whole collection."""

    collection: str
    documents: int  #: documents with points
    chunks: int
    root: str  #: the folder that contains all documents; empty if there is none
    folders: list[Folder]  #: the largest first; the last one combines those without their own colour
    copies: list[Copies]  #: the most copies first, up to MAX_COPIES
    copies_total: int  #: number of groups of copies
    near: list[Near]  #: the most similar first, up to MAX_NEAR; one of several copies is compared
    near_total: int
    near_cosine: float  #: minimum cosine of a near-duplicate pair
    outliers: list[Outlier]  #: the most isolated first, up to MAX_OUTLIERS
    outliers_total: int
    typical_cosine: float | None  #: median over all documents of the value in `Outlier.cosine`; None with fewer than two documents
    drawn: int  #: documents with a point in the picture
    explained: float  #: share of the variance along the two axes


@dataclass(frozen=True, slots=True)
class Place:
    """A document in the plane."""

    document: DocumentName
    folder: int  #: index into the folders
    x: float  #: 0 to 1
    y: float  #: on the same scale as `x`, so that distances can be compared
    chunks: int


@dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """The content of a map."""

    findings: Findings
    places: list[Place]


def draw(
    ledger: Ledger, store: VectorStore, collection: str, physical: str, near_cosine: float, most_points: int = MAX_POINTS
) -> EmbeddingMap:
    """Read the points of the generation in `physical` once, compare its documents, and place them in a plane.

    A document's vector is the mean of its chunks' vectors. Memory is bounded by documents x dimension: 4 bytes per number, and
    about as much again for the rest. Raises CollectionMissing, StoreUnavailable, StoreLocked.
    """
    documents, counts, vectors = _mean_vectors(ledger, store, _generation(ledger, collection, physical), physical)
    plane, explained = principal_plane(vectors)
    grouped = group([visible(folder_of(document.uri)) for document in documents])

    copies = _copies(documents)
    # One of several copies is compared: pairs of copies are listed already, and a copy does not make a document less isolated.
    alike = {row for rows in copies for row in rows[1:]}
    single = np.array([row for row in range(len(documents)) if row not in alike], np.int64)
    likeness = compare(vectors[single] if alike else vectors, near_cosine, MAX_NEAR)
    lonely = outliers(likeness.neighbours)

    listed = {int(single[row]) for pair in likeness.near for row in pair[1:]} | {int(single[row]) for row in lonely[:MAX_OUTLIERS]}
    listed.update(row for rows in copies[:MAX_COPIES] for row in rows)
    drawn = _thinned(len(documents), listed, most_points)
    names = _names(ledger, documents, sorted(listed | set(drawn)))

    typical = float(np.median(likeness.neighbours)) if len(likeness.neighbours) else None
    findings = Findings(
        collection=collection, documents=len(documents), chunks=int(counts.sum()), root=grouped.root, folders=_folders(grouped),
        copies=[Copies([names[row] for row in rows]) for rows in copies[:MAX_COPIES]], copies_total=len(copies),
        near=[Near(cosine, names[int(single[one])], names[int(single[other])]) for cosine, one, other in likeness.near],
        near_total=likeness.near_total, near_cosine=near_cosine,
        outliers=[Outlier(float(likeness.neighbours[row]), names[int(single[row])]) for row in lonely[:MAX_OUTLIERS]],
        outliers_total=len(lonely), typical_cosine=typical, drawn=len(drawn), explained=explained,
    )  # fmt: skip
    places = [
        Place(document=names[row], folder=grouped.of[row], x=float(plane[row, 0]), y=float(plane[row, 1]), chunks=int(counts[row]))
        for row in drawn
    ]
    return EmbeddingMap(findings, places)


def _generation(ledger: Ledger, collection: str, physical: str) -> str:
    """The ledger's name of the generation behind a physical collection, so that a swap meanwhile does not mix two generations."""
    return next((one.name for one in ledger.collections.all() if (one.public, one.physical) == (collection, physical)), collection)


def _mean_vectors(
    ledger: Ledger, store: VectorStore, generation: str, physical: str
) -> tuple[list[Expected], NDArray[np.int64], NDArray[np.float32]]:
    """Documents with points, their numbers of points, and their unit mean vectors (documents, dimension)."""
    documents = [document for window in ledger.report.expected(generation) for document in window]
    rows = {document.id: row for row, document in enumerate(documents)}
    counts = np.zeros(len(documents), np.int64)
    vectors = np.zeros((len(documents), store.dimension(physical)), np.float32)
    for point in store.scan(physical, with_vectors=True):
        row = rows.get(point.document_id)
        if row is not None and point.vector:
            vectors[row] += np.asarray(point.vector, np.float32)
            counts[row] += 1
    if not counts.all():
        # Some were deleted, or not written yet, during the scan.
        there = counts > 0
        documents = [document for document, kept in zip(documents, there, strict=True) if kept]
        counts, vectors = counts[there], vectors[there]
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(norms > 0, norms, 1.0)
    return documents, counts, vectors


def _copies(documents: Sequence[Expected]) -> list[list[int]]:
    """Rows of documents with the same bytes, the most copies first."""
    same: dict[str, list[int]] = {}
    for row, document in enumerate(documents):
        same.setdefault(document.content_hash, []).append(row)
    return sorted((rows for rows in same.values() if len(rows) > 1), key=lambda rows: (-len(rows), rows[0]))


def _thinned(count: int, listed: set[int], most: int) -> list[int]:
    """Rows to draw: all if there are up to `most`, else an even share of them and all listed ones."""
    return sorted({*range(0, count, -(-count // most) or 1), *listed})


def _folders(grouped: Grouping) -> list[Folder]:
    sizes = Counter(grouped.of)
    return [Folder(name, sizes[number]) for number, name in enumerate(grouped.names)]


def _names(ledger: Ledger, documents: Sequence[Expected], rows: Sequence[int]) -> dict[int, DocumentName]:
    known = ledger.retrospect.names([documents[row].id for row in rows])
    found = {}
    for row in rows:
        key, uri = documents[row].id, documents[row].uri
        title = known[key].title if key in known else ""
        found[row] = DocumentName(visible(title or name_of(uri)), uri, shown_path(uri))
    return found


__all__ = [
    "MAX_POINTS",
    "NEIGHBOURS",
    "OTHER",
    "Copies",
    "DocumentName",
    "EmbeddingMap",
    "Findings",
    "Folder",
    "Near",
    "Outlier",
    "Place",
    "draw",
]  # fmt: skip
