"""Detects the encoding of texts and reads them.

All character offsets in this package count characters of the result of `read_text`: decoded, without a byte order mark,
with every line end as one newline. A byte that belongs to no character becomes U+FFFD, and `pipeline.parse` counts those.
"""

from __future__ import annotations

import codecs
import io
import re
import unicodedata
from collections import Counter
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
_MARK_BYTES = tuple(mark for mark, _ in _MARKS)
#: Candidates for guessing: encodings that documents are found in, so that a short text is not mistaken for an exotic one.
_LEGACY = (
    "cp932",
    "euc-jp",
    "gb18030",
    "big5hkscs",
    "cp949",
    "windows-1250",
    "windows-1251",
    "windows-1252",
    "windows-1253",
    "windows-1254",
    "windows-1255",
    "windows-1256",
    "windows-1257",
    "windows-1258",
    "cp874",
    "koi8-r",
    "koi8-u",
    "iso-8859-2",
    "iso-8859-5",
    "iso-8859-7",
    "cp437",
    "cp850",
    "cp852",
    "cp866",
    "mac-roman",
    "mac-cyrillic",
)
#: Seven-bit encodings that switch character sets by escape sequences.
_SHIFTS = re.compile(rb"\x1b\$[@B(]|\x1b\([JI]|\x1b\$\)C")
_SHIFTED = (("iso2022_jp", "strict"), ("iso2022_jp_ext", "strict"), ("iso2022_kr", "strict"), ("iso2022_jp", "kb-added-row"))
#: Labels whose WHATWG encoding (https://encoding.spec.whatwg.org) is not Python's codec of that name.
_LABELS = {
    **dict.fromkeys(("ascii", "us-ascii", "iso-8859-1", "iso8859-1", "iso_8859-1", "latin1", "latin-1", "l1", "cp819"), "cp1252"),
    **dict.fromkeys(("windows-1252", "x-cp1252"), "cp1252"),
    **dict.fromkeys(("iso-8859-9", "iso8859-9", "latin5", "l5"), "cp1254"),
    **dict.fromkeys(("tis-620", "iso-8859-11", "iso8859-11", "dos-874"), "cp874"),
    **dict.fromkeys(("gb2312", "gb_2312-80", "chinese", "gbk", "x-gbk", "csgb2312"), "gb18030"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "ms_kanji", "windows-31j"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "ks_c_5601-1989", "ksc5601", "korean"), "cp949"),
    **dict.fromkeys(("big5", "big5-hkscs", "cn-big5", "x-x-big5"), "big5hkscs"),
    **dict.fromkeys(("iso-8859-8-i", "iso-8859-8", "visual", "logical", "hebrew"), "cp1255"),
    **dict.fromkeys(("macintosh", "x-mac-roman", "mac"), "mac_roman"),
    **dict.fromkeys(("x-mac-cyrillic", "x-mac-ukrainian"), "mac_cyrillic"),
    **dict.fromkeys(("unicode-1-1-utf-8", "utf8", "x-unicode20utf8"), "utf-8"),
    **dict.fromkeys(("dos-866", "ibm866", "csibm866"), "cp866"),
}
_ASCII_LABELS = frozenset(("ascii", "us-ascii", "ansi_x3.4-1968", "unknown-8bit", "x-unknown", "8bit", "unknown"))
#: Bytes beyond ASCII but the space that does not break, with which pages indent.
_HIGH = bytes(b for b in range(0x80, 0x100) if b != 0xA0)
_HIGH_RUN = re.compile(rb"[\x80-\x9f\xa1-\xff]{4,}")
_ASCII = frozenset(map(chr, range(0x80)))
#: Bytes that are control characters in Latin-9, and quotes and dashes in Windows-1252.
_C1 = re.compile(rb"[\x80-\x9f]")
_CONTROLS = bytes(b for b in range(1, 32) if b not in b"\t\n\r\f\b\x1b")
#: Maximum share of control bytes in text; random bytes have a share of 0.1.
MAX_CONTROL_SHARE = 0.03
#: Maximum share of NULs in text: logs and texts of old programs have some, UTF-16 has half, binary structures have more.
MAX_NUL_SHARE = 0.15
#: A guess below this confidence gives way to Windows-1252 where the text reads well in it. Measured with articles of the
#: Universal Declaration of Human Rights in 38 languages and sentences with one or two letters beyond ASCII.
MIN_CONFIDENCE = 0.12
#: Minimum share of one script in a text that is taken for UTF-16.
MIN_COHERENCE = 0.8

#: Letters of Western European languages, and signs of Windows-1252 that stand outside words.
_WESTERN = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüÿœŒ")
_SIGNS = frozenset("“”‘’–—€£©®°±«»·×…¡¿§²³µ½¼¾´\xa0•™„‚¢¥ªº¶†")
_NOT_IN_WORDS = re.compile(r"[^\W\d_][“€£©®°±²³µ½¼¾¿¡§¢¥¶†«„‚‘ªº][^\W\d_]|[^\x00-\x7f]{3}|[a-z][ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜ]")
#: What Windows-1252 has where Latin-9 has œ, Œ, Ÿ and the euro: nobody writes fractions in words, or the sign for any currency.
_LATIN_9 = re.compile("(?<=[^\\W\\d_])[¼½¾](?=[^\\W\\d_])|¤")
#: Markup is ASCII, and would have chardet believe the encoding that it declares.
_MARKUP = re.compile(rb"<[^<>\x80-\xff]{1,1000}>")
#: A question or exclamation of Spanish, whose first mark no other language has before a capital.
_INVERTED = re.compile(r"(?<!\w)[¿¡][A-ZÁÉÍÓÚÑ]")
#: A word in Latin and in another script: a wrong guess.
_MIXED = re.compile("[A-Za-z][\u0370-\u06ff\u0e00-\u0e7f]|[\u0370-\u06ff\u0e00-\u0e7f][A-Za-z]")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to decode a text."""

    name: str  #: Python's name of the codec
    marked: bool  #: a byte order mark or valid UTF-8: known, not guessed
    errors: str = "replace"  #: Python's name of the error handler


def _legacy_byte(error: UnicodeError) -> tuple[str, int]:
    """Bytes between ASCII in a text that is otherwise UTF-8: Windows-1252 letters of texts that were joined; else U+FFFD."""
    assert isinstance(error, UnicodeDecodeError)
    data, start, end = error.object, error.start, error.end
    around = data[max(0, start - 1) : start] + data[end : end + 1]
    found = data[start:end].decode("cp1252", "replace") if around.isascii() and end - start == 1 else ""
    letter = found in _WESTERN and found not in "ÿ" and any(chr(byte).isalpha() for byte in around)
    return (found if found and (letter or found in _SIGNS) else "\ufffd"), end


def _added_row(error: UnicodeError) -> tuple[str, int]:
    """A character that programs write in ISO 2022 beyond its standard, such as those of row 13 (①, ㈱); else U+FFFD."""
    assert isinstance(error, UnicodeDecodeError)
    pair = error.object[error.start : error.start + 2]
    try:
        return bytes(byte | 0x80 for byte in pair).decode("euc_jis_2004"), error.start + len(pair)
    except UnicodeDecodeError:
        return "\ufffd", error.end


codecs.register_error("kb-legacy-byte", _legacy_byte)
codecs.register_error("kb-added-row", _added_row)


def detect(path: Path) -> Encoding | None:
    """The encoding of the file at `path`; None when it is not text.

    Reads the whole file once to verify UTF-8, in windows of constant size.
    """
    with path.open("rb") as file:
        return _detect(file)


def detect_bytes(data: bytes) -> Encoding | None:
    """The encoding of `data`; None when it is not text."""
    return _detect(io.BytesIO(data))


def _detect(file: io.BufferedReader | io.BytesIO) -> Encoding | None:
    head = file.read(SAMPLE_BYTES)
    if (known := _by_mark(head)) is not None:
        return known
    if (shifted := _shifted(head)) is not None:
        return shifted
    if looks_binary(head):
        return _wide(head)
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(head)
        while window := file.read(1 << 20):
            decoder.decode(window)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        if b"\0" in head and (wide := _wide(head)) is not None:
            return wide
        file.seek(0)
        return _guess(file)
    return Encoding("utf-8", True)


def looks_binary(sample: bytes) -> bool:
    """Whether the share of control bytes or NULs in `sample` is too high for text in a byte-wise encoding."""
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    return controls > MAX_CONTROL_SHARE * len(sample) or sample.count(0) > MAX_NUL_SHARE * len(sample)


def open_text(path: Path) -> TextIO:
    """The file at `path` as text, line ends as newlines, undecodable bytes as U+FFFD; content that is not text as Latin-1."""
    file = path.open("rb")
    try:
        found = _detect(file) or Encoding("latin-1", False)
        file.seek(0)
        return io.TextIOWrapper(file, found.name, found.errors, newline=None)
    except BaseException:
        file.close()
        raise


def read_text(path: Path) -> str:
    """The whole text of the file at `path`, as `open_text` decodes it."""
    with open_text(path) as file:
        return file.read()


def decode_bytes(data: bytes, declared: str = "") -> str:
    """`data` as text, in the `declared` encoding where that is known and fits, else in the detected one.

    A text that is valid UTF-8 beyond ASCII is UTF-8, whatever is declared: no other encoding reads so by chance.
    """
    if (marked := _by_mark(data)) is not None:
        return data.decode(marked.name, errors="replace")
    # A text that is declared as ASCII and is none was declared by a program that did not know.
    label = "" if declared.strip().lower() in _ASCII_LABELS and not data.isascii() else codec_of(declared)
    if label == "cp1252" and (other := _other_script(data)):
        return data.decode(other, errors="replace")
    if label:
        for name in (label,) if data.isascii() else ("utf-8", label):
            try:
                return data.decode(name)
            except (LookupError, UnicodeError):
                pass
        if label == "utf-8":  # UTF-8 with damaged bytes
            told = data.decode(label, errors="replace")
            if sum(1 for c in told if c > "\x7f") > 2 * told.count("\ufffd"):
                return told
        if label == "cp1252" and not looks_binary(data[:SAMPLE_BYTES]):  # five of its bytes are no characters
            return data.decode(label, errors="replace")
    found = detect_bytes(data) or Encoding("latin-1", False)
    return data.decode(found.name, errors=found.errors)


def _other_script(data: bytes) -> str:
    """The encoding of a text in another script that is declared as Western European, as servers do by default; else empty."""
    sample = data[:SAMPLE_BYTES]
    high = len(sample) - len(sample.translate(None, _HIGH))
    if high < 8 or sum(map(len, _HIGH_RUN.findall(sample))) < 0.6 * high:  # words in Western languages are mostly ASCII
        return ""
    if high < 40 and set(sample.decode("cp1252", "replace")) - _ASCII <= _WESTERN | _SIGNS:  # a row of letters in a table of them
        return ""
    found = detect_bytes(data)
    if found is None or found.name == "utf-8":
        return ""
    text = sample.decode(found.name, "replace")
    letters = [c for c in text if c > "\x7f" and c.isalpha()]
    if 4 * len(_MIXED.findall(text)) > len(letters):
        return ""
    return found.name if sum(1 for c in letters if c > "\u036f") > 0.9 * len(letters) else ""


def codec_of(label: str) -> str:
    """Python's name of the encoding that a label in a document stands for, as browsers take it; empty for none.

    Who could read the label has read it byte by byte, so it is never UTF-16 or UTF-32, whatever it says.
    """
    name = label.strip().lower()
    return "" if name.startswith(("utf-16", "utf-32", "utf16", "utf32", "ucs-2", "iso-10646-ucs")) else _LABELS.get(name, name)


def _by_mark(head: bytes) -> Encoding | None:
    if not head.startswith(_MARK_BYTES):
        return None
    return next(Encoding(name, True) for mark, name in _MARKS if head.startswith(mark))


def _shifted(head: bytes) -> Encoding | None:
    """ISO 2022, which is ASCII with escape sequences; terminals use other ones."""
    if not _SHIFTS.search(head) or not head.isascii():
        return None
    for name, errors in _SHIFTED:
        try:
            decoded = codecs.getincrementaldecoder(name)(errors).decode(head)
        except UnicodeDecodeError:
            continue
        if not decoded.isascii() and "\ufffd" not in decoded:
            return Encoding(name, False, "replace" if errors == "strict" else errors)
    return None


def _wide(sample: bytes) -> Encoding | None:
    """UTF-16 or UTF-32 without a mark: by its zero bytes in Latin texts, else by a guess that must read as text."""
    sample = sample[: len(sample) & ~3] if len(sample) >= SAMPLE_BYTES else sample[: len(sample) & ~1]
    if len(sample) < 8:
        return None
    zeros = [sample[i::4].count(0) / len(sample[i::4]) for i in range(4)]
    for name, places in (("utf-32-le", (1, 2, 3)), ("utf-32-be", (0, 1, 2)), ("utf-16-le", (1, 3)), ("utf-16-be", (0, 2))):
        others = [share for i, share in enumerate(zeros) if i not in places]
        if min(zeros[i] for i in places) > 0.7 and max(others) < 0.1:
            return Encoding(name, False)
    # Nearly all characters are in the first plane, whose numbers have two zero bytes.
    for name, places in (("utf-32-le", (2, 3)), ("utf-32-be", (0, 1))):
        if min(zeros[i] for i in places) > 0.9 and len(sample) % 4 == 0:
            return Encoding(name, False)
    shares = {name: _coherence(sample.decode(name, "replace")) for name in ("utf-16-le", "utf-16-be")}
    best = max(shares, key=lambda name: shares[name])
    return Encoding(best, False) if shares[best] >= MIN_COHERENCE else None


def _coherence(text: str) -> float:
    """The share of characters in the script of most of them; 0 where some are no characters, or none separates words."""
    if not _reads_as_text(text):
        return 0.0
    scripts = Counter(_script(c) for c in text)
    common = scripts.pop(0, 0)
    return (common + max(scripts.values(), default=0)) / len(text)


def _script(char: str) -> int:
    """A number that stands for a script; 0 for ASCII and punctuation."""
    code = ord(char)
    if code < 0x80 or 0x2000 <= code < 0x2070 or 0x3000 <= code < 0x3040 or 0xFF00 <= code < 0xFFF0:
        return 0
    if 0x3040 <= code < 0xA000:  # kana and Han
        return 0x4E
    return 0xAC if 0xAC00 <= code < 0xD7B0 else code >> 8


def _reads_as_text(text: str) -> bool:
    """Whether nearly all characters are assigned, and some separate words or sentences."""
    odd = sum(
        1 for c in text if unicodedata.category(c) in ("Cn", "Co", "Cs") or c == "\ufffd" or (c < " " and c not in "\t\n\r\f")
    )
    return odd <= 0.02 * len(text) and any(c in " \n\u3000、。，．·" for c in text)


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
    if good > max(bad, 3):  # UTF-8 with damaged bytes, or joined with a text in another encoding
        return Encoding("utf-8", False, "kb-legacy-byte")
    from chardet import detect as guess

    best = guess(_MARKUP.sub(b" ", window), include_encodings=_LEGACY, no_match_encoding="windows-1252")
    name = str(best["encoding"] or "cp1252").lower()
    if _is_western(window) and (
        best["confidence"] < MIN_CONFIDENCE
        or _MIXED.search(window.decode(name, "replace"))
        or _INVERTED.search(window.decode("cp1252"))
    ):
        name = "cp1252"
    if name in ("cp1252", "windows-1252") and not _C1.search(window) and _LATIN_9.search(window.decode("cp1252")):
        name = "iso8859-15"
    try:
        return Encoding(codecs.lookup(name).name, False)
    except LookupError:
        return Encoding("cp1252", False)


def _is_western(window: bytes) -> bool:
    """Whether all letters are those of Western European languages, at places where such letters stand."""
    try:
        text = window.decode("cp1252")
    except UnicodeDecodeError:
        return False
    high = {c for c in text if c > "\x7f"}
    return high <= _WESTERN | _SIGNS and not _NOT_IN_WORDS.search(text)
