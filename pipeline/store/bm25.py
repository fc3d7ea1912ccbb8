"""BM25 weights of a text as a sparse vector, which finds exact words and identifiers that an embedding blurs.

A term's weight in a text is computed here. Qdrant, which knows all texts, computes how rare the term is (IDF). Nothing is
downloaded, and server and embedded store get the same numbers. If you change the rules, here or in `words` and `languages`, the new
vectors cannot be compared with stored ones: give the vector a new name in the collections (`SPARSE` of the store).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate, pairwise

from pipeline.store.languages import FUNCTION_WORDS, fold, hints, is_function_word, languages_of, stems
from pipeline.store.words import asked_grams, compounds, grams, normal, parts, pieces

#: Saturation of a repeated term (K1) and length normalization (B). Values around them are as good (docs/retrieval.md).
K1 = 1.6
B = 0.75
#: Words of an average chunk. A constant, because the true average changes with every document and stored weights could not
#: follow it. If all chunks are longer or shorter than this, all weights shift alike.
AVERAGE_WORDS = 75
#: What a function word of a question counts, unless the question has no other words.
FUNCTION_WORD = 0.1
#: What a part by case counts in a question, compared with the word.
CAMEL_PART = 0.5
#: What a stem of another language than the question's counts: a text may be in it. In texts of the question's language the same
#: stem may be that of another word.
OTHER_LANGUAGE = 0.1
#: Languages in Latin letters that a question is asked in, as it does not know those of the texts.
_ASKED = tuple(FUNCTION_WORDS)
#: The language of a text without any hint.
_DEFAULT = "en"


@dataclass(frozen=True, slots=True)
class SparseVector:
    """The non-zero dimensions of a vector."""

    indices: list[int]  #: ids of terms, 32 bits, ascending
    values: list[float]  #: the weight of each term


def document_weights(text: str, language: str = "auto") -> SparseVector:
    """The weights of a chunk's terms; empty if the text holds no word.

    `language` is the code of the language whose stems words in Latin letters get; `auto`: that of the text; `none`: no stems.
    """
    text = normal(text)
    found = Counter(compounds(text).findall(text))
    spoken = _languages(found, language)
    counts: dict[int, int] = {}
    length = 0.0
    for compound, count in found.items():
        words, ids = _term_ids(compound, spoken)
        for term in ids:
            counts[term] = counts.get(term, 0) + count
        length += count * words
    added = K1 * (1 - B + B * length / AVERAGE_WORDS)
    # Four decimal places are more than the ranking needs, and as JSON they take a third of the space of full precision.
    weights = {count: round(count * (K1 + 1) / (count + added), 4) for count in set(counts.values())}
    indices = sorted(counts)
    return SparseVector(indices, [weights[counts[term]] for term in indices])


def query_weights(text: str) -> SparseVector:
    """The weights of a query's terms, so that the product with a chunk's weights is its BM25 score.

    A word that occurs twice counts twice. The languages of the texts are unknown, so a word has its stems in all of them.
    """
    asked, rest = _question(text)
    share = FUNCTION_WORD if asked else 1.0
    weights: dict[int, float] = {}
    for words, factor in ((asked, 1.0), (rest, share)):
        for term, weight in ((term, weight) for terms in words.values() for term, weight in terms.items()):
            weights[_id(term)] = weights.get(_id(term), 0.0) + factor * weight
    indices = sorted(weights)
    return SparseVector(indices, [round(weights[term], 4) for term in indices])


def shared_words(query: str, text: str) -> list[str]:
    """The words of a query that a text contains, as a whole or by one of their parts, in the query's order; for people.

    Function words are left out unless the query has no others.
    """
    text = normal(text)
    found = Counter(compounds(text).findall(text))
    spoken = _languages(found, "auto")
    asked, rest = _question(query)
    wanted = _wanted(query)
    there = {term for compound in found if not wanted.isdisjoint(terms := _terms(compound, spoken)) for term in terms}
    return [word.casefold() for word, terms in (asked or rest).items() if not there.isdisjoint(terms)]


def shared_places(query: str, text: str) -> list[tuple[int, int]]:
    """Where a text has the words of a query, or parts of them: start and end of each, in order; for people."""
    wanted = _wanted(query)
    plain = normal(text)
    spoken = _languages(Counter(compounds(plain).findall(plain)), "auto")

    def is_wanted(part: str) -> bool:
        return not wanted.isdisjoint(_terms(normal(part), spoken))

    found: list[tuple[int, int]] = []
    for compound in compounds(text).finditer(text):
        whole = normal(compound[0])
        if wanted.isdisjoint(_terms(whole, spoken)):  # then its parts have none either
            continue
        made, at = pieces(whole), compound.start()
        if made.whole and fold(made.whole[0]) in wanted:
            found.append(compound.span())
            continue
        for start, end, syllables in parts(compound[0]):
            if syllables:
                found += _syllables(wanted, syllables, at + start)
            elif is_wanted(compound[0][start:end]):
                found.append((at + start, at + end))
    return found


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


# Every hit of an answer asks again.
@lru_cache(maxsize=1 << 8)
def _wanted(query: str) -> frozenset[str]:
    """The terms of a query whose places are of interest: function words only if it has no other words."""
    asked, rest = _question(query)
    return frozenset(term for terms in (asked or rest).values() for term in terms)


@lru_cache(maxsize=1 << 8)
def _question(text: str) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """The words of a query and the weights of their terms, in their order; function words apart."""
    text = normal(text)
    found = Counter(compounds(text).findall(text))
    spoken = _languages(found, "auto")
    asked: dict[str, dict[str, float]] = {}
    rest: dict[str, dict[str, float]] = {}
    for compound, count in found.items():
        chosen = rest if is_function_word(compound.casefold(), spoken) else asked
        chosen[compound] = {term: count * weight for term, weight in _question_terms(compound, spoken)}
    return asked, rest


@lru_cache(maxsize=1 << 12)
def _question_terms(compound: str, spoken: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    made, terms = pieces(compound), dict[str, float]()
    for word, weight in [*((word, 1.0) for word in made.words), *((word, CAMEL_PART) for word in made.camel)]:
        # Documents loaded without stems are found by the word itself.
        choices = {fold(word): OTHER_LANGUAGE * weight}
        for language in _ASKED:
            forms = _forms(word, (language,))
            share = weight / len(forms) * (1.0 if language in spoken else OTHER_LANGUAGE)
            choices |= {form: max(choices.get(form, 0.0), share) for form in forms}
        terms |= {term: max(terms.get(term, 0.0), weight) for term, weight in choices.items()}
    terms |= dict.fromkeys((fold(word) for word in made.whole), 1.0)
    terms |= dict.fromkeys((term for run in made.runs for term in asked_grams(run)), 1.0)
    return tuple(terms.items())


def _languages(found: Counter[str], language: str) -> tuple[str, ...]:
    if language != "auto":
        return () if language == "none" else (language,)
    scores: dict[str, float] = {}
    for compound, count in found.items():
        for one, weight in _hints(compound):
            scores[one] = scores.get(one, 0.0) + count * weight
    return languages_of(scores, _DEFAULT)


# Most words of a text occurred in earlier texts: the caches make a chunk four times as fast.
@lru_cache(maxsize=1 << 16)
def _hints(compound: str) -> tuple[tuple[str, float], ...]:
    return hints(compound.casefold())


def _forms(word: str, languages: tuple[str, ...]) -> tuple[str, ...]:
    """The terms of a word: stems of a word of letters, the word itself if it has digits."""
    plain = fold(word)
    if not languages or any(map(str.isdecimal, plain)):
        return (plain,)
    return stems(word, languages)


@lru_cache(maxsize=1 << 16)
def _term_ids(compound: str, languages: tuple[str, ...]) -> tuple[float, tuple[int, ...]]:
    """The number of words of a compound, and the ids of its terms."""
    made = pieces(compound)
    words = len(made.words) or len(made.whole)
    # Two syllables are about a word.
    return words + sum(map(len, made.runs)) / 2, tuple(map(_id, _terms(compound, languages)))


@lru_cache(maxsize=1 << 16)
def _terms(compound: str, languages: tuple[str, ...]) -> tuple[str, ...]:
    """The terms of a compound in a text: the whole, and its parts if it has several."""
    made = pieces(compound)
    terms = [fold(word) for word in made.whole]
    terms += [form for word in made.words for form in _forms(word, languages)]
    terms += [form for word in made.camel for form in _forms(word, languages) if form not in terms]
    return (*terms, *(term for run in made.runs for term in grams(run)))


def _id(term: str) -> int:
    # Not hash(), which differs between processes. An index in Qdrant has 32 bits: among a million terms some hundred pairs
    # share one, and their texts score slightly higher in searches for the other term.
    return int.from_bytes(blake2b(term.encode(), digest_size=4).digest(), "little")
