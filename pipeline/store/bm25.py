"""BM25 weights of a text as a sparse vector, which finds exact words and identifiers that an embedding blurs.

A term's weight in a text is computed here. Qdrant, which knows all texts, computes how rare the term is (IDF). Nothing is
downloaded, no language is assumed, and server and embedded store get the same numbers. If you change the rules here, the new
vectors cannot be compared with stored ones: give the vector a new name in the collections (`SPARSE` of the store).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise

#: Saturation of a repeated term (K1) and length normalization (B): the usual constants.
K1 = 1.2
B = 0.75
#: Terms of an average chunk. A constant, because the true average changes with every document and stored weights could not
#: follow it. Chunks of up to 256 tokens of Python's documentation have 98. If all chunks are longer or shorter than this,
#: all weights shift alike.
AVERAGE_TERMS = 100

#: Words, including compounds written without spaces: snake_case, os.path.join, utf-8, 3.11.
_COMPOUND = re.compile(r"\w+(?:[.-]+\w+)*")
_JOINT = re.compile(r"[._-]+")
#: Runs of scripts without spaces between words: Han, Hiragana, Katakana.
_UNSPACED = re.compile("([\u3005-\u3007\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)")

#: Parts of a compound as they stand in a text: runs of such scripts, and of all other characters but joints.
_PART = re.compile(f"{_UNSPACED.pattern}|(?:(?!{_UNSPACED.pattern})[^._-])+")


@dataclass(frozen=True, slots=True)
class SparseVector:
    """The non-zero dimensions of a vector."""

    indices: list[int]  #: ids of terms, 32 bits, ascending
    values: list[float]  #: the weight of each term


def document_weights(text: str) -> SparseVector:
    """The weights of a chunk's terms; empty if the text holds no word."""
    counts: dict[int, int] = {}
    length = 0
    for word, count in Counter(_words(text)).items():
        for term in (ids := _term_ids(word)):
            counts[term] = counts.get(term, 0) + count
        length += count * len(ids)
    added = K1 * (1 - B + B * length / AVERAGE_TERMS)
    # Four decimal places are more than the ranking needs, and as JSON they take a third of the space of full precision.
    weights = {count: round(count * (K1 + 1) / (count + added), 4) for count in set(counts.values())}
    indices = sorted(counts)
    return SparseVector(indices, [weights[counts[term]] for term in indices])


def query_weights(text: str) -> SparseVector:
    """1 for each term of a query, so that the product with a chunk's weights is its BM25 score."""
    indices = sorted({term for word in _words(text) for term in _term_ids(word)})
    return SparseVector(indices, [1.0] * len(indices))


def shared_words(query: str, text: str) -> list[str]:
    """The words of a query that a text contains, as a whole or by one of their parts, in the query's order; for people."""
    there = {term for word in set(_words(text)) for term in terms(word)}
    return [word for word in dict.fromkeys(_words(query)) if not there.isdisjoint(terms(word))]


def shared_places(query: str, text: str) -> list[tuple[int, int]]:
    """Where a text has the words of a query, or parts of them: start and end of each, in order; for people."""
    wanted = {term for word in _words(query) for term in terms(word)}
    found: list[tuple[int, int]] = []
    for compound in _COMPOUND.finditer(text):
        if not wanted.isdisjoint(_words(compound[0])):
            found.append(compound.span())
            continue
        for part in _PART.finditer(compound[0]):
            if not wanted.isdisjoint(_words(part[0])):
                at = compound.start() + part.start()
                found.append((at, at + len(part[0])))
            elif _UNSPACED.fullmatch(part[0]):
                found += _unspaced(wanted, part[0], compound.start() + part.start())
    return found


def _unspaced(wanted: set[str], run: str, at: int) -> list[tuple[int, int]]:
    """The pairs of characters of a run that are wanted, joined where they touch; without any, single characters."""
    size = 2 if any(map(wanted.__contains__, map("".join, pairwise(run)))) else 1
    found: list[tuple[int, int]] = []
    for start in range(len(run) - size + 1):
        if run[start : start + size] not in wanted:
            continue
        if found and found[-1][1] >= at + start:
            found[-1] = (found[-1][0], at + start + size)
        else:
            found.append((at + start, at + start + size))
    return found


def terms(word: str) -> list[str]:
    """The terms of a compound: the whole, and its parts if it has several.

    For scripts without spaces these are the characters and the pairs of neighbours.
    """
    if word.isalnum():
        return _pieces(word)
    parts = [piece for part in _JOINT.split(word) if part for piece in _pieces(part)]
    return [word, *parts]


def _words(text: str) -> list[str]:
    if not text.isascii():
        # The same word may be encoded in several ways: é as one character or two, full-width letters.
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


# Most words of a text occurred in earlier texts: the cache makes a chunk four times as fast.
@lru_cache(maxsize=1 << 16)
def _term_ids(word: str) -> tuple[int, ...]:
    # Not hash(), which differs between processes. An index in Qdrant has 32 bits: among a million terms some hundred pairs
    # share one, and their texts score slightly higher in searches for the other term.
    return tuple(int.from_bytes(blake2b(term.encode(), digest_size=4).digest(), "little") for term in terms(word))
