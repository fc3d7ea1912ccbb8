"""Words divided at the end of a line: joined, or kept with their hyphen, by what else the document says."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Stands for a hyphen at the end of a line; no other use of it is valid text.
DIVIDED = "\ufffe"
#: The most words that are remembered of a document.
MAX_WORDS = 200_000

_AFTER = re.compile(r"\s?(\w[\w'’-]*)")
_WORD = re.compile(r"\w[\w'’]*(?:-\w[\w'’]*)*")
#: First parts that are no words, after which a word goes on.
_PREFIXES_NAMES = "re un de pre dis mis in im over under inter sub super trans con com per pro ex en em out up a be for fore"
_PREFIXES = frozenset(_PREFIXES_NAMES.split())
#: Second parts of compounds that keep their hyphen in English, where the document itself says nothing.
_SECOND_PARTS_NAMES = (
    "term known based level quality range scale free like type defined specific related fashioned sized standing established rate "
    "order class size resolution performance dimensional risk cost party driven oriented friendly aware dependent sensitive "
    "effective efficient intensive sided threaded core purpose"
)
_SECOND_PARTS = frozenset(_SECOND_PARTS_NAMES.split())
#: Longest part of a word that is looked at.
_MAX_PART = 60


class Words:
    """The words of a document so far, with and without hyphens."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._known: set[str] = set()  #: words as they are written, with the punctuation beside them
        self._unread: list[set[str]] = []  #: of these, those that are not in `_seen` yet: most documents divide few words

    def learn(self, texts: Iterable[str]) -> None:
        """Remember the words of `texts`, without those that are divided."""
        if len(self._known) < MAX_WORDS:
            new = set(" ".join(texts).split()) - self._known  # few words of most pages
            self._known |= new
            self._unread.append(new)

    def _has(self, word: str) -> bool:
        """Whether the document has a word, in lower case, undivided."""
        for new in self._unread:
            # Lower case may have more characters, so it comes last.
            self._seen.update(map(str.lower, _WORD.findall(" ".join(new).replace(DIVIDED, " "))))
        self._unread.clear()
        return word.lower() in self._seen

    def undivided(self, text: str) -> str:
        """`text` with its divided words made whole."""
        told, *rest = text.split(DIVIDED)
        for part in rest:
            before, after = _last_part(told), _AFTER.match(part)
            if not before or after is None:
                told += f"-{part}"
            else:
                keep = self._keeps(before, after.group(1))
                told += f"{'-' if keep else ''}{part.lstrip()}"
        return told

    def _keeps(self, first: str, second: str) -> bool:
        """Whether the hyphen between two parts of a word belongs to it."""
        if not second[0].islower() or first[-1].isdigit():  # names, abbreviations and numbers
            return True
        if self._has(first + second):
            return False
        if self._has(f"{first}-{second}") or "-" in first:
            return True
        return first.lower() not in _PREFIXES and second in _SECOND_PARTS


def _last_part(text: str) -> str:
    """The end of `text` as far as it is one word, with hyphens in it; empty where it ends otherwise."""
    start = len(text)
    while start and len(text) - start < _MAX_PART and (text[start - 1].isalnum() or text[start - 1] in "_'’-"):
        start -= 1
    part = text[start:].lstrip("'’-")
    return part if part[-1:].isalnum() else ""
