"""The words of a text, in any script, and the terms by which each is found.

Scripts without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese), and Korean, whose words carry particles, are
cut into syllables or characters; these and pairs of neighbours are the terms. No dictionary is needed, and two texts
with a common word have most of its pairs in common.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise

#: Characters that are invisible inside a word: soft hyphen, joiners, marks of direction.
_INVISIBLE = "\u00ad\u200c-\u200f\u2060\ufeff"
_HAN_AND_KANA = (
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_HANGUL = "\uac00-\ud7a3"
_THAI_AND_LAO = "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf"
_KHMER_AND_BURMESE = "\u1000-\u103f\u1050-\u109d\u1780-\u17d3"
#: A run of characters of scripts that are cut into syllables.
_RUN = re.compile(f"([{_HAN_AND_KANA}{_HANGUL}{_THAI_AND_LAO}{_KHMER_AND_BURMESE}]+)")
_HANGUL_RUN = re.compile(f"[{_HANGUL}]+")
#: One syllable of them. In Thai and Lao a vowel may stand before its consonant, some after it; in Khmer and Burmese a sign joins
#: the next consonant to the syllable, and a Burmese consonant with the sign asat ends one.
_SYLLABLE = re.compile(
    "[\u0e40-\u0e44\u0ec0-\u0ec4]?[\u0e01-\u0e2e\u0e81-\u0eae\u0edc-\u0edf][\u0e30-\u0e3a\u0e45-\u0e4e\u0eb0-\u0ebd\u0ec8-\u0ece]*"
    "|[\u1000-\u102a\u103f\u1050-\u1055](?:[\u102b-\u1038\u103b-\u103e\u1056-\u1059\u105e-\u1060]|\u1039[\u1000-\u1021]"
    "|[\u1000-\u1021]?\u103a)*"
    "|[\u1780-\u17b3](?:\u17d2[\u1780-\u17b3]|[\u17b4-\u17d1\u17d3])*"
    "|."
)
#: Endings that mark the part a Korean word plays, longest first.
_PARTICLES = """
    에게서 으로서 으로써 에서는 에서도 이라고 입니다 습니다 까지 부터 에서 에게 한테 께서 으로 이나 보다 처럼 마다 조차 마저 밖에
    이라 라고 하고 에는 에도 은 는 이 가 을 를 의 에 로 와 과 도 만 나
"""
_JOINTS = re.compile(r"[/\\@]|::")
_PARTS = re.compile(r"[._-]+")
#: A part of a compound as it stands in a text: a run, or what is between runs and joints.
_PART = re.compile(rf"{_RUN.pattern}|(?:(?!{_RUN.pattern})[^._/\\@:\u2010-])+")
#: Where Unicode has combining marks. To look through all of it takes ten times as long.
_BLOCKS_WITH_MARKS = (
    range(0x300, 0x3100),
    range(0xA660, 0xAC00),
    range(0xFB1E, 0xFB1F),
    range(0xFE00, 0xFE30),
    range(0x10A00, 0x12000),
)
#: Where a word in camel case falls apart: `getUser`, `HTTPServer`.
_CAMEL = re.compile("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Pieces:
    """The pieces of a compound, case-folded."""

    whole: tuple[str, ...]  #: the compound and what slashes separate, if they have parts; never stemmed
    words: tuple[str, ...]  #: its parts; what they are without a compound: the word
    camel: tuple[str, ...]  #: parts by case, of identifiers in ASCII
    runs: tuple[tuple[str, ...], ...]  #: runs of syllables


def normal(text: str) -> str:
    """The text with one encoding for each character: é as one, full-width letters as usual ones."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def compounds(text: str) -> re.Pattern[str]:
    """The pattern of the words of a text, compounds in one piece: os.path.join, utf-8, C++, .NET, /etc/hosts, E-1042."""
    return _compounds(text.isascii())


@lru_cache(maxsize=1 << 16)
def pieces(compound: str) -> Pieces:
    """The pieces of a compound of a `normal` text."""
    words: list[str] = []
    camel: list[str] = []
    if compound.isalnum() and compound.isascii():  # most words
        _part(compound, {}, words, camel, [])
        return Pieces((), tuple(words), tuple(camel), ())
    if not compound.isascii():
        compound = re.sub(f"[{_INVISIBLE}]", "", compound).replace("\u2010", "-")
    whole: dict[str, None] = {}
    runs: list[tuple[str, ...]] = []
    segments = [segment for segment in _JOINTS.split(compound) if segment]
    if len(segments) > 1:
        whole[_case(compound).replace("\\", "/").strip("/")] = None
    for segment in segments:
        parts = [part for part in _PARTS.split(segment) if part]
        if segment != parts[0] if parts else True:
            whole[_case(segment)] = None
        for part in parts:
            _part(part, whole, words, camel, runs)
    return Pieces(tuple(whole), tuple(words), tuple(camel), tuple(runs))


def parts(compound: str) -> list[tuple[int, int, list[str]]]:
    """Start and end of each part of a compound as it stands in a text, and its syllables if it is a run of them."""
    return [(*one.span(), _SYLLABLE.findall(one[0]) if _RUN.fullmatch(one[0]) else []) for one in _PART.finditer(compound)]


def grams(run: tuple[str, ...]) -> list[str]:
    """The terms of a run in a text: its syllables and the pairs of neighbours."""
    return [*run, *map("".join, pairwise(run))]


def asked_grams(run: tuple[str, ...]) -> list[str]:
    """The terms of a run in a question: pairs, because syllables alone are in every text; a syllable if it is the only one.

    A Korean particle is left out, as the text may have another one. After a single syllable it may as well be part of the word.
    """
    joined = "".join(run)
    if _HANGUL_RUN.fullmatch(joined):
        ending = next((one for one in _PARTICLES.split() if joined.endswith(one) and joined != one), "")
        if len(run) == 2 and ending:
            return [joined, run[0]]
        run = run[: len(run) - len(ending)]
    return list(map("".join, pairwise(run))) or list(run)


def _part(part: str, whole: dict[str, None], words: list[str], camel: list[str], runs: list[tuple[str, ...]]) -> None:
    if part.isascii():
        bare = part.rstrip("+#")
        if bare != part:
            whole[part.lower()] = None
            if len(bare) < 3:  # nobody who looks for C wants C++
                return
        words.append(bare.lower())
        if not bare.islower() and len(cut := _CAMEL.split(bare)) > 1:
            camel += map(str.lower, cut)
        return
    for number, piece in enumerate(_RUN.split(part)):
        if number % 2:
            # Korean words in Chinese characters or with foreign ones are rare: a run is in one script or cut between scripts.
            runs.append(tuple(_SYLLABLE.findall(piece)))
        elif piece:
            words.append(_case(piece))


def _case(word: str) -> str:
    # The dot that case folding leaves of a Turkish capital is no accent.
    return word.lower() if word.isascii() else word.casefold().replace("i\u0307", "i")


@lru_cache(maxsize=2)
def _compounds(ascii_only: bool) -> re.Pattern[str]:
    word = r"\w" if ascii_only else rf"[\w{_marks()}{_INVISIBLE}]"
    joint = r"(?:[./\\@-]|::)" if ascii_only else r"(?:[./\\@-]|::|\u2010)"
    part = rf"{word}+(?:\+\+(?![^\W\d_])|\#(?!\w))?"
    return re.compile(rf"(?:(?<![^\s(\[{{<\"'`=,;:])\.(?=[^\W\d_]))?{part}(?:{joint}{part})*")


def _marks() -> str:
    """Ranges of the combining marks, which Python does not count as characters of a word."""
    found: list[list[int]] = []
    for code in chain(*_BLOCKS_WITH_MARKS):
        if unicodedata.category(chr(code))[0] == "M":
            if found and found[-1][1] == code - 1:
                found[-1][1] = code
            else:
                found.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in found)
