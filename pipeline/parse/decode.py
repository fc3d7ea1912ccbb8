"""Detects the encoding of texts and reads them.

All character offsets in this package count characters of the result of `read_text`: decoded, without a byte order mark,
with every line end as one newline.
"""

from __future__ import annotations

import codecs
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

SAMPLE_BYTES = 64 << 10

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Candidates for guessing: only encodings still in use, so that a short text is not mistaken for one in an exotic encoding.
_LEGACY = ["cp932", "euc_jp", "gb18030", "big5", "cp949", "cp1252", "cp1251", "cp1250", "koi8_r", "cp1253", "cp1255", "cp1256"]
_CONTROLS = bytes(b for b in range(1, 32) if b not in b"\t\n\r\f\b\x1b")
#: Maximum share of control bytes in text; random bytes have a share of 0.1.
MAX_CONTROL_SHARE = 0.03
#: Maximum share of NULs in text: logs and texts of old programs have some, UTF-16 has half, binary structures have more.
MAX_NUL_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to decode a text."""

    name: str  #: Python's name of the codec
    marked: bool  #: a byte order mark or valid UTF-8: known, not guessed


def detect(path: Path) -> Encoding | None:
    """The encoding of the file at `path`; None when it is not text.

    Reads the whole file once to verify UTF-8, in windows of constant size.
    """
    with path.open("rb") as file:
        head = file.read(SAMPLE_BYTES)
        if (known := _by_mark(head)) is not None:
            return known
        if looks_binary(head):
            return _wide(head)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(head)
            while window := file.read(1 << 20):
                decoder.decode(window)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            file.seek(0)
            return _guess(file)
        return Encoding("utf-8", True)


def detect_bytes(data: bytes) -> Encoding | None:
    """The encoding of `data`; None when it is not text."""
    if (known := _by_mark(data)) is not None:
        return known
    if looks_binary(data[:SAMPLE_BYTES]):
        return _wide(data[:SAMPLE_BYTES])
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return _guess(io.BytesIO(data))
    return Encoding("utf-8", True)


def looks_binary(sample: bytes) -> bool:
    """Whether the share of control bytes or NULs in `sample` is too high for text in a byte-wise encoding."""
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    return controls > MAX_CONTROL_SHARE * len(sample) or sample.count(0) > MAX_NUL_SHARE * len(sample)


def open_text(path: Path) -> TextIO:
    """The file at `path` as text, line ends as newlines, undecodable bytes as U+FFFD; content that is not text as Latin-1."""
    found = detect(path)
    return path.open(encoding=found.name if found else "latin-1", errors="replace", newline=None)


def read_text(path: Path) -> str:
    """The whole text of the file at `path`, as `open_text` decodes it."""
    with open_text(path) as file:
        return file.read()


def decode_bytes(data: bytes, declared: str = "") -> str:
    """`data` as text, in the `declared` encoding where that is known and fits, else in the detected one."""
    found = _by_mark(data)
    if found is None and declared:
        try:
            return data.decode(declared)
        except (LookupError, UnicodeError):
            pass
    found = found or detect_bytes(data)
    return data.decode(found.name if found else "latin-1", errors="replace")


def _by_mark(head: bytes) -> Encoding | None:
    return next((Encoding(name, True) for mark, name in _MARKS if head.startswith(mark)), None)


def _wide(sample: bytes) -> Encoding | None:
    """UTF-16 or UTF-32 without a mark: zero bytes at every other position, or at three of four."""
    sample = sample[: len(sample) & ~3]
    if len(sample) < 8:
        return None
    zeros = [sample[i::4].count(0) / (len(sample) // 4) for i in range(4)]
    for name, places in (("utf-32-le", (1, 2, 3)), ("utf-32-be", (0, 1, 2)), ("utf-16-le", (1, 3)), ("utf-16-be", (0, 2))):
        others = [share for i, share in enumerate(zeros) if i not in places]
        if min(zeros[i] for i in places) > 0.7 and max(others) < 0.1:
            return Encoding(name, False)
    return None


def _guess(file: io.BufferedReader | io.BytesIO) -> Encoding | None:
    """The encoding of a text that is not valid UTF-8, from a window around its first byte that is not ASCII."""
    window = b""
    while data := file.read(1 << 20):
        if found := re.search(rb"[\x80-\xff]", data):
            start = max(0, data.rfind(b"\n", 0, found.start()))
            window = data[start : start + SAMPLE_BYTES]
            if len(window) == SAMPLE_BYTES:  # a cut in the middle of a character would count against its encoding
                window = window[: window.rfind(b"\n") + 1] or window
            break
    text = window.decode("utf-8", errors="replace")
    bad = text.count("\ufffd")
    good = sum(1 for c in text if c > "\x7f") - bad
    if good > 10 * bad:  # UTF-8 with a few damaged bytes
        return Encoding("utf-8", False)
    from charset_normalizer import from_bytes

    best = from_bytes(window, cp_isolation=_LEGACY).best()
    return Encoding(best.encoding if best else "cp1252", False)
