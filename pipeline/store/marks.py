"""The words of a question in a hit, and where they stand: for people, and by the same rules as the weights of `bm25`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, compress, pairwise, repeat
from operator import itemgetter, not_

from pipeline.store.bm25 import languages_in, question_words, terms_of
from pipeline.store.languages import fold
from pipeline.store.words import compounds, normal, parts, pieces


@dataclass(frozen=True, slots=True)
class Marks:
    """What a text has of a question."""

    words: list[str]  #: words of the question that text or headings contain, in the question's order
    places: list[tuple[int, int]]  #: start and end of each of them, or of its parts, in the text, in order


def marks(query: str, text: str, headings: Sequence[str] = ()) -> Marks:
    """The words of a query that a text under headings contains, as a whole or by one of their parts, and their places in the text.

    Function words are left out unless the query has no others.
    """
    asked = _asked(query)
    found = list(compounds(text).finditer(text))
    written = list(map(itemgetter(0), found))
    here = _Words(asked, Counter(written if text.isascii() else _found(text)))
    whole = _Words(asked, Counter(_found(" ".join(headings))) + here.found) if headings else here
    held = compress(zip(written, found, strict=True), map(here.wanted.__contains__ if text.isascii() else here.has, written))
    return Marks(whole.asked_for(), [place for word, one in held for place in here.places(word, one.start())])


@dataclass(frozen=True, slots=True)
class _Asked:
    """The words of a query that are of interest."""

    words: tuple[tuple[str, frozenset[str]], ...]  #: each with its terms
    terms: frozenset[str]  #: of all of them


# Every hit of an answer asks again.
@lru_cache(maxsize=1 << 8)
def _asked(query: str) -> _Asked:
    asked, rest = question_words(query)
    words = tuple((word.casefold(), frozenset(terms)) for word, terms in (asked or rest).items())
    return _Asked(words, frozenset(term for _, terms in words for term in terms))


def _found(text: str) -> list[str]:
    plain = normal(text)
    found: list[str] = compounds(plain).findall(plain)
    return found


class _Words:
    """The words of a text, each compared with those of a query once: most have nothing in common with it."""

    def __init__(self, asked: _Asked, found: Counter[str]) -> None:
        self.found = found
        self._asked = asked
        self._spoken = languages_in(found)
        lack = map(asked.terms.isdisjoint, map(terms_of, found, repeat(self._spoken)))  # Python's own loop takes twice as long
        self.wanted = set(compress(found, map(not_, lack)))

    def asked_for(self) -> list[str]:
        """The words of the query that are among them."""
        there = {term for word in self.wanted for term in terms_of(word, self._spoken)}
        return [word for word, terms in self._asked.words if not there.isdisjoint(terms)]

    def has(self, written: str) -> bool:
        """Whether the query has something of a word, or a part of one, as the text has it."""
        return written in self.wanted or (written not in self.found and self._shares(written))

    def places(self, written: str, at: int) -> list[tuple[int, int]]:
        """The places of a word at `at` that the query has something of: its own, or those of its parts."""
        if written.isalnum() and written.isascii():  # it has no parts of its own
            return [(at, at + len(written))]
        whole, wanted = pieces(normal(written)).whole, self._asked.terms
        if whole and fold(whole[0]) in wanted:
            return [(at, at + len(written))]
        found: list[tuple[int, int]] = []
        for start, end, syllables in parts(written):
            if syllables:
                found += _syllables(wanted, syllables, at + start)
            elif self._shares(written[start:end]):
                found.append((at + start, at + end))
        return found

    def _shares(self, written: str) -> bool:
        return not self._asked.terms.isdisjoint(terms_of(normal(written), self._spoken))


def _syllables(wanted: frozenset[str], run: list[str], at: int) -> list[tuple[int, int]]:
    """The pairs of syllables of a run that are wanted, joined where they touch; without any, single syllables."""
    size = 2 if any(map(wanted.__contains__, map("".join, pairwise(run)))) else 1
    starts = [at, *accumulate(map(len, run), initial=at)][1:]
    found: list[tuple[int, int]] = []
    for number in range(len(run) - size + 1):
        if "".join(run[number : number + size]) not in wanted:
            continue
        start, end = starts[number], starts[number + size]
        if found and found[-1][1] >= start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found
