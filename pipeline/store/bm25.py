"""BM25 weights of a text as a sparse vector: what finds an exact word or identifier that an embedding blurs.

A term's weight in a text is computed here, how rare the term is (IDF) by Qdrant, which knows all texts. Nothing is
downloaded, no language is assumed, and server and embedded store get the same numbers. A change of the rules here makes
vectors that cannot be compared with stored ones: give them a new name in the collections then (`SPARSE` of the store).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise

#: How soon more of the same term stops to count, and how much a long text is held against its terms: the usual constants.
K1 = 1.2
B = 0.75
#: Terms of an average chunk. A constant, because the true average changes with every document, and weights that are stored
#: could not follow it. Chunks of at most 256 tokens of Python's documentation have 98; where all chunks are longer or
#: shorter than this, all weights move alike.
AVERAGE_TERMS = 100

#: Words and what is written in one piece with them: snake_case, os.path.join, utf-8, 3.11.
_COMPOUND = re.compile(r"\w+(?:[.-]+\w+)*")
_JOINT = re.compile(r"[._-]+")
#: Runs of scripts that put no space between words: Han, Hiragana, Katakana.
_UNSPACED = re.compile("([\u3005-\u3007\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)")


@dataclass(frozen=True, slots=True)
class SparseVector:
    """The dimensions of a vector that are not zero."""

    indices: list[int]  #: ids of terms, 32 bits, rising
    values: list[float]  #: a weight for each of them


def document_weights(text: str) -> SparseVector:
    """The weights of a chunk's terms; empty where the text holds no word."""
    counts: dict[int, int] = {}
    length = 0
    for word, count in Counter(_words(text)).items():
        for term in (ids := _term_ids(word)):
            counts[term] = counts.get(term, 0) + count
        length += count * len(ids)
    added = K1 * (1 - B + B * length / AVERAGE_TERMS)
    # Four places are more than the ranking needs, and as JSON they take a third of the room of all.
    weights = {count: round(count * (K1 + 1) / (count + added), 4) for count in set(counts.values())}
    indices = sorted(counts)
    return SparseVector(indices, [weights[counts[term]] for term in indices])


def query_weights(text: str) -> SparseVector:
    """1 for each term of a question, so that the product with a chunk's weights is its BM25 score."""
    indices = sorted({term for word in _words(text) for term in _term_ids(word)})
    return SparseVector(indices, [1.0] * len(indices))


def terms(word: str) -> list[str]:
    """The terms of what is written in one piece: the whole, and its parts where it has several.

    Of scripts without spaces these are the characters and the pairs of neighbours.
    """
    if word.isalnum():
        return _pieces(word)
    parts = [piece for part in _JOINT.split(word) if part for piece in _pieces(part)]
    return [word, *parts]


def _words(text: str) -> list[str]:
    if not text.isascii():
        # The same word may be written in several ways: é in one character or two, letters of full width.
        text = unicodedata.normalize("NFKC", text)
    return _COMPOUND.findall(text.casefold())


def _pieces(part: str) -> list[str]:
    if part.isascii():
        return [part]
    found: list[str] = []
    for number, piece in enumerate(_UNSPACED.split(part)):
        if number % 2:
            found += [*piece, *map("".join, pairwise(piece))]
        elif piece:
            found.append(piece)
    return found


# Most words of a text were seen in those before it: this makes a chunk four times as fast.
@lru_cache(maxsize=1 << 16)
def _term_ids(word: str) -> tuple[int, ...]:
    # Not hash(), which differs between processes. 32 bits are what an index of Qdrant has: among a million terms some
    # hundred pairs share one, and their texts gain a little in searches for the other.
    return tuple(int.from_bytes(blake2b(term.encode(), digest_size=4).digest(), "little") for term in terms(word))
