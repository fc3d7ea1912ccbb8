"""A collection as a picture: its documents as points in a plane, what is in it twice, and what stands alone."""

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
from pipeline.store import VectorStore
from pipeline.text import visible

#: Most points of a picture: more lie on top of each other. All documents are compared whatever is drawn.
MOST_POINTS = 20_000

#: Findings that are named; all of them are counted.
MOST_NEAR, MOST_COPIES, MOST_OUTLIERS = 200, 200, 30


@dataclass(frozen=True, slots=True)
class Named:
    """A document as people know it."""

    title: str  #: that of the document, else its file's name
    uri: str
    path: str  #: of the file, or the URL of the object, not percent-encoded; for people, it can always be printed


@dataclass(frozen=True, slots=True)
class Copies:
    """Documents that are the same byte by byte."""

    documents: list[Named]  #: two or more


@dataclass(frozen=True, slots=True)
class Near:
    """Two documents that say nearly the same, and are no copies."""

    cosine: float  #: of their vectors
    first: Named
    second: Named


@dataclass(frozen=True, slots=True)
class Outlier:
    """A document that nothing else is like."""

    cosine: float  #: mean over its nearest neighbours, copies of it left out
    document: Named


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that has a colour."""

    name: str  #: below the root that all documents share
    documents: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at a whole collection shows."""

    collection: str
    documents: int  #: that have points
    chunks: int
    root: str  #: the folder that holds all documents; empty where there is none
    folders: list[Folder]  #: the largest first, those without a colour of their own last as one
    copies: list[Copies]  #: the most copies first, up to MOST_COPIES
    copies_total: int  #: groups of documents that are the same
    near: list[Near]  #: the most alike first, up to MOST_NEAR; of copies only one is compared
    near_total: int
    near_cosine: float  #: least cosine that counts as near
    outliers: list[Outlier]  #: the loneliest first, up to MOST_OUTLIERS
    outliers_total: int
    typical_cosine: float | None  #: median of what is below `cosine` of an outlier; None where there is nothing to compare
    drawn: int  #: documents with a point in the picture
    explained: float  #: share of the variance that the two axes show


@dataclass(frozen=True, slots=True)
class Place:
    """A document in the plane."""

    document: Named
    folder: int  #: index into the folders
    x: float  #: 0 to 1
    y: float  #: on the scale of `x`, so that distances can be compared
    chunks: int


@dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """All that a picture of a collection shows."""

    findings: Findings
    places: list[Place]


def draw(
    ledger: Ledger, store: VectorStore, collection: str, physical: str, near_cosine: float, most_points: int = MOST_POINTS
) -> EmbeddingMap:
    """Read the points of the generation in `physical` once, compare its documents, and lay them out.

    A document is the mean of its chunks' vectors. Memory is bounded by documents x dimension: 4 bytes a number, and about as
    much again for the rest. Raises CollectionMissing, StoreUnavailable, StoreLocked.
    """
    documents, counts, vectors = _mean_vectors(ledger, store, _generation(ledger, collection, physical), physical)
    plane, explained = principal_plane(vectors)
    grouped = group([visible(folder_of(document.uri)) for document in documents])

    copies = _copies(documents)
    # Of copies one is compared: they are no news here, and no document is less alone for having a copy.
    alike = {row for rows in copies for row in rows[1:]}
    single = np.array([row for row in range(len(documents)) if row not in alike], np.int64)
    likeness = compare(vectors[single] if alike else vectors, near_cosine, MOST_NEAR)
    lonely = outliers(likeness.neighbours)

    listed = {int(single[row]) for pair in likeness.near for row in pair[1:]} | {int(single[row]) for row in lonely[:MOST_OUTLIERS]}
    listed.update(row for rows in copies[:MOST_COPIES] for row in rows)
    drawn = _thinned(len(documents), listed, most_points)
    names = _names(ledger, documents, sorted(listed | set(drawn)))

    typical = float(np.median(likeness.neighbours)) if len(likeness.neighbours) else None
    findings = Findings(
        collection=collection, documents=len(documents), chunks=int(counts.sum()), root=grouped.root, folders=_folders(grouped),
        copies=[Copies([names[row] for row in rows]) for rows in copies[:MOST_COPIES]], copies_total=len(copies),
        near=[Near(cosine, names[int(single[one])], names[int(single[other])]) for cosine, one, other in likeness.near],
        near_total=likeness.near_total, near_cosine=near_cosine,
        outliers=[Outlier(float(likeness.neighbours[row]), names[int(single[row])]) for row in lonely[:MOST_OUTLIERS]],
        outliers_total=len(lonely), typical_cosine=typical, drawn=len(drawn), explained=explained,
    )  # fmt: skip
    places = [
        Place(names[row], grouped.of[row], float(plane[row, 0]), float(plane[row, 1]), int(counts[row])) for row in drawn
    ]  # fmt: skip
    return EmbeddingMap(findings, places)


def _generation(ledger: Ledger, collection: str, physical: str) -> str:
    """The ledger's name of the generation behind a physical collection: a swap between two looks must not mix two of them."""
    return next((one.name for one in ledger.collections.all() if (one.public, one.physical) == (collection, physical)), collection)


def _mean_vectors(
    ledger: Ledger, store: VectorStore, generation: str, physical: str
) -> tuple[list[Expected], NDArray[np.int64], NDArray[np.float32]]:
    """Documents that have points, how many each has, and their unit mean vectors (documents, dimension)."""
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
        # Deleted, or not written yet, while this read.
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
    """Rows to draw: all where they are few enough, else an even share of them and everything that is listed."""
    return sorted({*range(0, count, -(-count // most) or 1), *listed})


def _folders(grouped: Grouping) -> list[Folder]:
    sizes = Counter(grouped.of)
    return [Folder(name, sizes[number]) for number, name in enumerate(grouped.names)]


def _names(ledger: Ledger, documents: Sequence[Expected], rows: Sequence[int]) -> dict[int, Named]:
    known = ledger.retrospect.names([documents[row].id for row in rows])
    found = {}
    for row in rows:
        key, uri = documents[row].id, documents[row].uri
        title = known[key].title if key in known else ""
        found[row] = Named(visible(title or name_of(uri)), uri, shown_path(uri))
    return found


__all__ = [
    "MOST_POINTS", "NEIGHBOURS", "OTHER", "Copies", "EmbeddingMap", "Findings", "Folder", "Named", "Near", "Outlier", "Place",
    "draw",
]  # fmt: skip
