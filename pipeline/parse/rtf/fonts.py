"""Fonts of an RTF file: each one says in which code page the bytes of its text are."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field

from pipeline.parse.symbols import symbol


def _numbered(table: str) -> dict[int, str]:
    pairs = (entry.split() for entry in table.split(","))
    return {int(number): codec for number, codec in pairs}


#: Codecs by \fcharset. 0 is Western, 1 the document's own, 2 signs.
_CHARSETS = _numbered(
    "77 mac_roman, 78 shift_jis, 79 johab, 80 gb2312, 81 big5, 83 mac_greek, 84 mac_turkish, 86 mac_farsi, 88 mac_latin2,"
    "89 mac_cyrillic, 128 cp932, 129 cp949, 130 johab, 134 gb18030, 136 cp950, 161 cp1253, 162 cp1254, 163 cp1258, 177 cp1255,"
    "178 cp1256, 179 cp1256, 180 cp1256, 181 cp1255, 186 cp1257, 204 cp1251, 222 cp874, 238 cp1250, 254 cp437, 255 cp850"
)
#: Codecs of code pages that have another name in Python.
_PAGES = _numbered(
    "0 cp1252, 708 cp720, 709 cp720, 710 cp720, 936 gb18030, 1361 johab, 10000 mac_roman, 10001 shift_jis, 10006 mac_greek,"
    "10007 mac_cyrillic, 10029 mac_latin2, 10081 mac_turkish, 20127 ascii, 20866 koi8_r, 21866 koi8_u, 28591 cp1252,"
    "28592 iso8859_2, 28595 iso8859_5, 54936 gb18030, 65001 utf-8"
)
#: Number of no font: its text is in the document's code page.
NO_FONT = -1
_SYMBOLS = 2
_WESTERN = "cp1252"
#: Encodings in which a character may have several bytes.
_WIDE = frozenset(("cp932", "cp949", "cp950", "gb18030", "gb2312", "big5", "johab", "shift_jis", "utf-8"))
_FIXED = re.compile(r"courier|mono|consolas|menlo|monaco|typewriter|lucida console|\bfixed", re.I)


def page_codec(number: int) -> str | None:
    """Python's name of a Windows code page; None where it has none."""
    name = _PAGES.get(number) or f"cp{number}"
    try:
        return codecs.lookup(name).name
    except LookupError:
        return None


@dataclass(slots=True)
class Font:
    """An entry of the font table."""

    name: str = ""
    charset: int | None = None
    codec: str | None = None  #: of its own code page, which goes before the charset


@dataclass(slots=True)
class Fonts:
    """The font table, with the document's code page."""

    default: int = 0  #: number of the font of text without one
    page: str = _WESTERN  #: codec of the document
    told_page: bool = False  #: whether the file says it
    found: dict[int, Font] = field(default_factory=dict)
    fixed: set[int] = field(default_factory=set)  #: fonts whose characters have the same width, by their names
    unknown: set[int] = field(default_factory=set)  #: code pages without a codec
    _codecs: dict[int, str] = field(default_factory=dict)

    def font(self, number: int) -> Font:
        """The entry with this number, which is made where it is missing."""
        self._codecs.clear()
        return self.found.setdefault(number, Font())

    def set_page(self, number: int) -> None:
        """Take the document's code page."""
        self._codecs.clear()
        if (codec := page_codec(number)) is None:
            self.unknown.add(number)
        else:
            self.page, self.told_page = codec, True

    def name(self, number: int, name: str) -> None:
        """Take the name of a font."""
        self.font(number).name = name
        if _FIXED.search(name):
            self.fixed.add(number)

    def is_symbol(self, number: int) -> bool:
        """Whether the characters of a font are signs instead of letters."""
        return number in self.found and self.found[number].charset == _SYMBOLS

    def decode(self, data: bytes, number: int, *, raw: bool) -> str:
        """Text in a font; `raw`: its bytes are not written as numbers, which some programs that write UTF-8 do."""
        if self.is_symbol(number):
            return "".join(self.sign(byte, number) for byte in data)
        codec = self._codecs.get(number) or self._codec(number)
        if raw and codec not in _WIDE:
            try:
                return data.decode("utf-8")
            except UnicodeDecodeError:
                pass
        return data.decode(codec, "replace")

    def sign(self, code: int, number: int) -> str:
        """A character of a font of signs."""
        return " " if code == 0x20 else symbol(code, self.found[number].name if number in self.found else "")

    def _codec(self, number: int) -> str:
        font = self.found.get(number, Font())
        if font.codec is not None:
            codec = font.codec
        elif font.charset == 0 and (
            not self.told_page or any(f.charset not in (None, 0, 1, _SYMBOLS) for f in self.found.values())
        ):
            codec = _WESTERN  # programs that give no font another charset mean the document's
        else:
            codec = _CHARSETS.get(font.charset or 0, self.page)
        self._codecs[number] = codec
        return codec
