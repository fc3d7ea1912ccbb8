"""Characters of symbol fonts, whose numbers are no letters: Greek for Symbol, a bullet for pictures of other fonts."""

from __future__ import annotations

import re

_GREEK = dict(zip(range(0x61, 0x7B), "αβχδεφγηιϕκλμνοπθρστυϖωξψζ", strict=True)) | dict(
    zip(range(0x41, 0x5B), "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", strict=True)
)
#: Signs of Symbol beyond ASCII that formulas and lists use.
_SIGNS = dict(
    zip(
        bytes.fromhex("a2a3a5acadaeafb0b1b3b4b6b7b8b9babbc7c8ccced1d6dee5f2"),
        "′≤∞←↑→↓°±≥×∂•÷≠≡≈∩∪⊂∈∇√⇒∑∫",
        strict=True,
    )
)
#: Fonts of pictures.
_PICTURES = re.compile(r"wingdings|webdings|(?:itc )?zapf ?dingbats|monotype sorts|marlett", re.I)
#: Where older programs keep the characters of symbol fonts.
_PRIVATE = re.compile("[\uf020-\uf0ff]")


def symbol(code: int, font: str) -> str:
    """The character `code` of a symbol font, whose numbers may begin at 0xF000."""
    code = code - 0xF000 if code >= 0xF000 else code
    if font.lower() != "symbol":
        return "•"
    return _GREEK.get(code) or _SIGNS.get(code) or chr(code)


def has_symbols(text: str) -> bool:
    """Whether a text has characters whose meaning depends on their font."""
    return not text.isascii() and _PRIVATE.search(text) is not None


def in_font(text: str, font: str) -> str:
    """A text with the characters that a symbol font shows; those of other fonts may be any signs and stay."""
    if font.lower() != "symbol" and _PICTURES.match(font) is None:
        return text
    return _PRIVATE.sub(lambda found: symbol(ord(found.group()), font), text)
