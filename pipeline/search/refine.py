"""From the best chunks to the hits that a caller wants: without copies, not all of one document, and not all alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Hit, Refinement

#: Hits from which a search with diversity or a maximum per document chooses, unless more are wanted.
POOL = 50

#: The longest list of candidates. A search that still has too few hits then returns those.
MOST_CANDIDATES = 2000

#: URIs that are named of further documents with the same text.
MAX_COPIES = 10


def pool(refinement: Refinement, limit: int) -> int:
    """Number of hits from which `limit` are chosen."""
    return max(limit, POOL) if refinement.diversity or refinement.per_document else limit


def candidates(fetch: Callable[[int], list[Hit]], wanted: int, per_document: int | None) -> list[Hit]:
    """The best chunks without copies, `wanted` or more of them if there are as many.

    `fetch` returns the best n chunks. It is asked for more as long as copies, or chunks of documents that have
    `per_document` hits already, leave too few.
    """
    number = wanted
    while True:
        found = fetch(number)
        hits = without_copies(found)
        enough = len(capped(hits, per_document)) >= wanted
        if enough or len(found) < number or number >= MOST_CANDIDATES:
            return hits
        number = min(4 * number, MOST_CANDIDATES)


def without_copies(hits: Sequence[Hit]) -> list[Hit]:
    """The hits, of those with the same text only the first, which names the other documents."""
    first: dict[str, Hit] = {}
    others: dict[str, dict[str, None]] = {}
    for hit in hits:
        text = " ".join(hit.text.split())
        kept = first.setdefault(text, hit)
        if hit.uri != kept.uri:
            others.setdefault(text, {})[hit.uri] = None
    return [replace(hit, copies=tuple(others[text])[:MAX_COPIES]) if text in others else hit for text, hit in first.items()]


def capped(hits: Sequence[Hit], per_document: int | None) -> list[Hit]:
    """The hits, of each document only the first `per_document`; all if that is None."""
    if per_document is None:
        return list(hits)
    seen = Counter[str]()
    kept = []
    for hit in hits:
        seen[hit.document_id] += 1
        if seen[hit.document_id] <= per_document:
            kept.append(hit)
    return kept


def diverse(hits: Sequence[Hit], vectors: NDArray[np.float32], limit: int, diversity: float) -> list[Hit]:
    """The `limit` hits that maximal marginal relevance chooses (Carbonell and Goldstein, SIGIR 1998), in its order.

    Next comes the hit with the highest (1 - diversity) * score - diversity * similarity, where similarity is the highest
    cosine with a hit chosen before. Scores are scaled to 0..1 over `hits`, because those of hybrid and sparse searches have
    other units than a cosine.

    `vectors`: (len(hits), dimension), unit length.
    """
    if not hits:
        return []
    scores = np.array([hit.score for hit in hits], np.float32)
    spread = float(np.ptp(scores))
    relevance = (scores - scores.min()) / spread if spread else np.ones_like(scores)
    similar = np.full(len(hits), 0.0, np.float32)
    left = np.ones(len(hits), bool)
    chosen: list[Hit] = []
    while len(chosen) < min(limit, len(hits)):
        worth = np.where(left, (1 - diversity) * relevance - diversity * similar, -np.inf)
        best = int(worth.argmax())
        chosen.append(hits[best])
        left[best] = False
        similar = np.maximum(similar, vectors @ vectors[best])
    return chosen
