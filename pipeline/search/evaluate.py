"""Quality of a search, measured with questions whose answers are known.

Documents are judged, not chunks: a document takes the rank of its best chunk (`pipeline.search.document_ranking`).
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError, DocumentError
from pipeline.ledger import Ledger
from pipeline.ledger.report import Expected
from pipeline.staging import Staging
from pipeline.staging.chunk_files import ChunkFile

#: Depth of nDCG: the one at which published figures are given.
NDCG_DEPTH = 10

#: Maximum words of a sentence used as a query; people's questions are no longer than that.
SENTENCE_WORDS = 20

#: A search to be judged: from a query to the uris of documents, best first, each once.
Ranking = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A question and the documents that answer it."""

    text: str
    relevant: tuple[str, ...]  #: one or more uris, or endings of uris that begin at a slash


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over all questions, each 0 to 1."""

    queries: int
    k: int
    recall: float  #: recall@k: share of the relevant documents among the first k
    mrr: float  #: MRR@k: 1 / rank of the first relevant document, 0 if none is among the first k
    ndcg_10: float  #: nDCG@10: relevant documents near the top count most; 1 if the order is the best possible


def read_queries(path: Path) -> list[JudgedQuery]:
    """The questions in a JSON Lines file: {"query": text, "relevant": [uri, ...]}; other keys are ignored.

    "uris" is accepted instead of "relevant". Empty lines are skipped. Raises ConfigError with the number of an invalid line,
    and for a file that cannot be read or contains no question.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the questions in {path}: {error}") from error
    found = [_query(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise ConfigError(f"{path} contains no questions; write lines such as {_EXAMPLE}")
    return found


def evaluate(queries: Sequence[JudgedQuery], ranking: Ranking, k: int = 10) -> Scores:
    """Search for every question and return the means. `ranking` should return max(k, NDCG_DEPTH) documents if possible.

    Raises ValueError if there are no questions; errors of `ranking` pass through.
    """
    if not queries:
        raise ValueError("there are no questions to evaluate")
    recalls, reciprocals, gains_10 = [], [], []
    for query in queries:
        gains = gains_of(ranking(query.text), query.relevant)
        recalls.append(recall(gains, len(query.relevant), k))
        reciprocals.append(reciprocal_rank(gains, k))
        gains_10.append(ndcg(gains, len(query.relevant), NDCG_DEPTH))
    return Scores(queries=len(queries), k=k, recall=_mean(recalls), mrr=_mean(reciprocals), ndcg_10=_mean(gains_10))


def self_queries(ledger: Ledger, staging: Staging, generation: str, most: int, seed: int = 0) -> list[JudgedQuery]:
    """Questions for a collection without judged ones: a sentence of a chunk must find the chunk's document.

    Draws up to `most` documents, the same ones for the same seed and collection. This measures whether a search finds texts
    again, not whether it understands questions.
    """
    drawn: list[tuple[bytes, Expected]] = []
    for window in ledger.report.expected(generation):
        ranked = [(hashlib.sha256(f"{seed}:{document.uri}".encode()).digest(), document) for document in window]
        drawn = heapq.nsmallest(most, [*drawn, *ranked], key=lambda pair: pair[0])
    found = []
    for digest, document in drawn:
        try:
            with ChunkFile.of_version(staging, document).open() as (_, chunks):
                texts = [chunk.text for chunk in chunks]
        except DocumentError:  # its chunk file was removed
            continue
        sentence = _sentence(texts[digest[0] % len(texts)]) if texts else ""
        if sentence:
            found.append(JudgedQuery(sentence, (document.uri,)))
    return found


def _sentence(text: str) -> str:
    """The longest sentence of a text, cut to SENTENCE_WORDS; empty if it has fewer than three words."""
    sentences = [sentence.split() for sentence in re.split(r"(?<=[.!?])\s+|\n+", text)]
    longest = max(sentences, key=len, default=[])
    return " ".join(longest[:SENTENCE_WORDS]) if len(longest) >= 3 else ""


def gains_of(ranked: Sequence[str], relevant: Sequence[str]) -> list[bool]:
    """For each ranked uri, whether it is relevant; if several match one entry, only the first counts."""
    open_entries = list(relevant)
    gains = []
    for uri in ranked:
        entry = next((entry for entry in open_entries if matches(uri, entry)), None)
        gains.append(entry is not None)
        if entry is not None:
            open_entries.remove(entry)
    return gains


def matches(uri: str, entry: str) -> bool:
    """Whether `entry` is the uri or an ending of it that begins at a slash: `library/os.html`, but not `s.html`."""
    return uri == entry or uri.endswith("/" + entry.lstrip("/"))


def recall(gains: Sequence[bool], relevant: int, k: int) -> float:
    """Share of the `relevant` documents among the first k."""
    return sum(gains[:k]) / relevant


def reciprocal_rank(gains: Sequence[bool], k: int) -> float:
    """1 / rank of the first relevant document, 0 if none is among the first k."""
    return next((1 / rank for rank, gain in enumerate(gains[:k], 1) if gain), 0.0)


def ndcg(gains: Sequence[bool], relevant: int, k: int) -> float:
    """Gain of the first k, 1 / log2(rank + 1) per relevant document, divided by that of the best possible order."""
    best = sum(_discount(rank) for rank in range(1, min(relevant, k) + 1))
    return sum(_discount(rank) for rank, gain in enumerate(gains[:k], 1) if gain) / best


_EXAMPLE = '{"query": "how are parcels returned", "relevant": ["handbook/returns.html"]}'


def _query(line: str, place: str) -> JudgedQuery:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{place} is not valid JSON ({error}); write it as {_EXAMPLE}") from error
    text = value.get("query") if isinstance(value, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f'{place}: "query" must be a non-empty text; write it as {_EXAMPLE}')
    relevant = value.get("relevant", value.get("uris"))
    if not isinstance(relevant, list) or not relevant or not all(isinstance(uri, str) and uri.strip("/ ") for uri in relevant):
        raise ConfigError(f'{place}: "relevant" must be a non-empty list of uris; write it as {_EXAMPLE}')
    return JudgedQuery(text, tuple(dict.fromkeys(relevant)))


def _discount(rank: int) -> float:
    return 1 / math.log2(rank + 1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
