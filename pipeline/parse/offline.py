"""Makes unstructured work without a network and without torch: no telemetry, no model download, no spaCy."""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from types import ModuleType

_WORD = re.compile(r"\w+(?:['’]\w+)?|[^\w\s]")
_SENTENCE_GAP = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+")
_VERBISH = re.compile(
    r"(?:is|are|was|were|be|been|has|have|had|do|does|did|can|will|would|should|must|may)$|\w{2,}(?:ed|ing|ize|ise)$", re.I
)


def sentences(text: str) -> list[str]:
    """Sentences of `text`, by punctuation."""
    return [part for part in _SENTENCE_GAP.split(text) if part]


def words(text: str) -> list[str]:
    """Words and punctuation marks of `text`."""
    return _WORD.findall(text)


def tags(text: str) -> list[tuple[str, str]]:
    """Words with a part of speech that only marks likely verbs: unstructured's classification needs no more."""
    return [(word, "VB" if _VERBISH.match(word) else "NN") for word in _WORD.findall(text)]


@cache
def make_offline() -> None:
    """Keep unstructured offline and light; call this before the first import of one of its partitioners.

    Its module for words and sentences imports spaCy, which imports torch where that is installed: a CUDA build reserves 3 GB
    of address space. On first use it downloads a spaCy model into site-packages. This module takes its place
    before anything imports it, so that neither spaCy nor torch is ever imported.
    """
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["SCARF_NO_ANALYTICS"] = "1"
    os.environ["UNSTRUCTURED_DISABLE_NOTICE"] = "1"
    tokenize = ModuleType("unstructured.nlp.tokenize")
    vars(tokenize).update(sent_tokenize=sentences, word_tokenize=words, pos_tag=tags)
    sys.modules[tokenize.__name__] = tokenize
