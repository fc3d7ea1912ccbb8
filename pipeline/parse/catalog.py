"""Message catalogues of gettext (PO): each message with its translation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pipeline.parse.decode import codec_of, detect, open_text
from pipeline.parse.parsed import Parsed, Share, clean
from pipeline.types import Element

_FIELD = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr)(?:\[\d{1,3}\])?\s*"(.*)"\s*$')
_MORE = re.compile(r'"(.*)"\s*$')
_ESCAPE = re.compile(r"\\(.)")
#: The encoding that a catalogue declares in its first message.
_CHARSET = re.compile(rb"Content-Type:[^\n\\]{0,100};\s{0,9}charset=([A-Za-z0-9_.:-]{2,40})")
#: Characters that are decoded at a time to see whether the bytes fit.
WINDOW_CHARS = 1 << 20
_ESCAPES = {"n": "\n", "t": "\t", "r": "", "a": "", "b": "", "f": "", "v": ""}


def parse_catalog(path: Path, name: str) -> Parsed:
    """One element for each message of the catalogue at `path`: its texts on lines of their own."""
    share = Share()
    return Parsed("", _messages(path, share), share)


def _messages(path: Path, share: Share) -> Iterator[Element]:
    with _opened(path) as file:
        share.follow(file)
        texts: list[str] = []
        last = ""
        for line in file:
            if (field := _FIELD.match(line.strip())) is not None:
                # A message begins with its context or, without one, with its id.
                if field.group(1) == "msgctxt" or (field.group(1) == "msgid" and last != "msgctxt"):
                    yield from _message(texts)
                    texts = []
                last = field.group(1)
                texts.append(_unescaped(field.group(2)))
            elif texts and (more := _MORE.match(line.strip())) is not None:
                texts[-1] += _unescaped(more.group(1))
        yield from _message(texts)


def _opened(path: Path) -> TextIO:
    """The catalogue as text, in the encoding that it declares where its bytes fit and say no other one."""
    with path.open("rb") as head:
        declared = _CHARSET.search(head.read(8192))
    found = detect(path)
    if declared is not None and found is not None and not found.marked:
        name = codec_of(declared.group(1).decode("ascii"))
        try:
            with path.open(encoding=name) as file:
                while file.read(WINDOW_CHARS):
                    pass
            return path.open(encoding=name, newline=None)
        except (LookupError, UnicodeError):
            pass
    return open_text(path)


def _message(texts: list[str]) -> Iterator[Element]:
    if text := clean("\n".join(filter(None, dict.fromkeys(texts)))):
        yield Element(text)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match.group(1), match.group(1)), text)
