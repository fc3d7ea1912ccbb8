"""unstructured made to work without a network: no telemetry, no model download, no changed limits of other libraries."""

from __future__ import annotations

import os
import re
from functools import cache

_WORD = re.compile(r"\w+(?:['’]\w+)?|[^\w\s]")
_SENTENCE_GAP = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+")
_VERBISH = re.compile(
    r"(?:is|are|was|were|be|been|has|have|had|do|does|did|can|will|would|should|must|may)$|\w{2,}(?:ed|ing|ize|ise)$", re.I
)
#: What Pillow itself sets; unstructured raises it to 5e8 at import, which lets decompression bombs through.
MAX_IMAGE_PIXELS = 1024 * 1024 * 1024 // 4 // 3


def sentences(text: str) -> list[str]:
    """Sentences of `text`, by punctuation."""
    return [part for part in _SENTENCE_GAP.split(text) if part]


def words(text: str) -> list[str]:
    """Words and punctuation marks of `text`."""
    return _WORD.findall(text)


def tags(text: str) -> list[tuple[str, str]]:
    """Words with a part of speech that only tells what looks like a verb: all that the classification asks for."""
    return [(word, "VB" if _VERBISH.match(word) else "NN") for word in _WORD.findall(text)]


@cache
def make_offline() -> None:
    """Import unstructured so that it stays on this machine; call before the first of its partitioners is imported.

    Its own tokenizer downloads a spaCy model into site-packages on first use, and waits 120 s for it without a network.
    `text_type` holds the functions by name, so they are replaced in both places.
    """
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["SCARF_NO_ANALYTICS"] = "1"
    os.environ["UNSTRUCTURED_DISABLE_NOTICE"] = "1"
    import PIL.Image
    import unstructured.nlp.tokenize
    import unstructured.partition.text_type

    for module in (unstructured.nlp.tokenize, unstructured.partition.text_type):
        for name, function in (("sent_tokenize", sentences), ("word_tokenize", words), ("pos_tag", tags)):
            setattr(module, name, function)
    PIL.Image.MAX_IMAGE_PIXELS = MAX_IMAGE_PIXELS
