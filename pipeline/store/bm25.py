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

from pipeline.store.languages import FUNCTION_WORDS, fold, hints, is_function_word, languages_of, stems
from pipeline.store.words import asked_grams, compounds, grams, normal, pieces

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
    spoken = languages_in(found, language)
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
    asked, rest = question_words(text)
    share = FUNCTION_WORD if asked else 1.0
    weights: dict[int, float] = {}
    for words, factor in ((asked, 1.0), (rest, share)):
        for term, weight in ((term, weight) for terms in words.values() for term, weight in terms.items()):
            weights[_id(term)] = weights.get(_id(term), 0.0) + factor * weight
    indices = sorted(weights)
    return SparseVector(indices, [round(weights[term], 4) for term in indices])


@lru_cache(maxsize=1 << 8)
def question_words(text: str) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """The words of a query and the weights of their terms, in their order; function words apart."""
    text = normal(text)
    found = Counter(compounds(text).findall(text))
    spoken = languages_in(found)
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


def languages_in(found: Counter[str], language: str = "auto") -> tuple[str, ...]:
    """The languages whose stems the words of a `normal` text get; see `document_weights`."""
    if language != "auto":
        return () if language == "none" else (language,)
    scores: dict[str, float] = {}
    for compound in filter(speaks_for, found):  # most words speak for none
        for one, weight in speaks_for(compound):
            scores[one] = scores.get(one, 0.0) + found[compound] * weight
    return languages_of(scores, _DEFAULT)


# Most words of a text occurred in earlier texts: the caches make a chunk four times as fast.
@lru_cache(maxsize=1 << 16)
def speaks_for(compound: str) -> tuple[tuple[str, float], ...]:
    """The languages that a word of a `normal` text speaks for, and how much."""
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
    return words + sum(map(len, made.runs)) / 2, tuple(map(_id, terms_of(compound, languages)))


@lru_cache(maxsize=1 << 16)
def terms_of(compound: str, languages: tuple[str, ...]) -> tuple[str, ...]:
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
