"""The words of a question in a hit, and where they stand: for people, and by the same rules as the weights of `bm25`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain, filterfalse, pairwise

from pipeline.store.bm25 import languages_in, question_words, speaks_for, terms_of
from pipeline.store.languages import fold
from pipeline.store.words import compounds, normal, parts, pieces

#: Pieces of texts that are remembered for each language, and characters of them. In scripts without spaces a piece is a sentence.
MAX_PIECES, MAX_CHARACTERS = 1 << 16, 1 << 20

#: Languages of texts for which pieces are remembered at the same time.
MAX_LANGUAGES = 8


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
    written = text.split()
    here = _Text(asked, written)
    whole = _Text(asked, [*" ".join(headings).split(), *written]) if headings else here
    return Marks(whole.asked_for(), here.places(text))


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


class _Text:
    """The pieces of a text between white space, which no word spans, and those of them that share something with a query: few."""

    def __init__(self, asked: _Asked, written: Sequence[str]) -> None:
        self._asked = asked
        self._written = Counter(written)
        self._spoken = languages_in(_speaking(self._written))
        by_term = _by_term(self._spoken).known(self._written)
        self._wanted = self._written.keys() & set(chain.from_iterable(filter(None, map(by_term.get, asked.terms))))

    def asked_for(self) -> list[str]:
        """The words of the query that are among them."""
        there = {term for piece in self._wanted for word in _words(piece) for term in terms_of(word, self._spoken)}
        return [word for word, terms in self._asked.words if not there.isdisjoint(terms)]

    def places(self, text: str) -> list[tuple[int, int]]:
        """The places of what the query has something of, in order."""
        found: list[tuple[int, int]] = []
        for piece in self._wanted:
            starts = _starts(piece, self._written[piece], text)
            if _is_plain(piece):
                found += [(at, at + len(piece)) for at in starts]
                continue
            held = [one for one in compounds(piece).finditer(piece) if self._shares(one[0])]
            found += [place for at in starts for one in held for place in self._parts(one[0], at + one.start())]
        return sorted(found)

    def _parts(self, written: str, at: int) -> list[tuple[int, int]]:
        """The places of a word at `at` that the query has something of: its own, or those of its parts."""
        if _is_plain(written):
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


class _Memory:
    """Pieces of earlier texts by what they have, until they are too many; for any number of threads.

    Most pieces of a text occurred in earlier ones. To look up which of them have something takes a third of the time of looking
    at each, even with a cache of what it has: that is spread over more memory than the processor's caches hold.
    """

    def __init__(self, look: Callable[[str], Iterable[str]]) -> None:
        self._look = look
        self._forget()

    def known(self, found: Iterable[str]) -> Mapping[str, Sequence[str]]:
        """What pieces have -> pieces; complete for those that were found."""
        seen, by_what = self._kept
        for piece in filterfalse(seen.__contains__, found):
            for what in self._look(piece):
                by_what.setdefault(what, []).append(piece)
            seen.add(piece)  # last: another thread then relies on the rest
            self._characters += len(piece)
        if len(seen) > MAX_PIECES or self._characters > MAX_CHARACTERS:
            self._forget()
        return by_what

    def _forget(self) -> None:
        self._kept: tuple[set[str], dict[str, list[str]]] = set(), {}
        self._characters = 0


def _words(piece: str) -> list[str]:
    if _is_plain(piece):
        return [piece]
    plain = normal(piece)
    found: list[str] = compounds(plain).findall(plain)
    return found


@lru_cache(maxsize=MAX_LANGUAGES)
def _by_term(spoken: tuple[str, ...]) -> _Memory:
    """Pieces by their terms in texts of these languages: of their words, and of those without normalization, which have places."""
    return _Memory(
        lambda piece: {
            term for word in [*_words(piece), *map(normal, compounds(piece).findall(piece))] for term in terms_of(word, spoken)
        }
    )


def _speaking(written: Counter[str]) -> Counter[str]:
    """The words of pieces that speak for languages, by number and in their order."""
    found = Counter[str]()
    speaking = _hints.known(written)
    for piece in filter(speaking.__contains__, written):
        for word in filter(speaks_for, _words(piece)):
            found[word] += written[piece]
    return found


#: The pieces that speak for a language: few.
_hints = _Memory(lambda piece: [piece] if any(map(speaks_for, _words(piece))) else [])


def _starts(piece: str, count: int, text: str) -> list[int]:
    """Where a piece stands in a text `count` times, white space around it."""
    found: list[int] = []
    at = -1
    while len(found) < count:
        at = text.index(piece, at + 1)
        end = at + len(piece)
        if (not at or text[at - 1].isspace()) and (end == len(text) or text[end].isspace()):
            found.append(at)
    return found


def _is_plain(written: str) -> bool:
    """Whether a word has no parts of its own."""
    return written.isalnum() and written.isascii()


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
