"""Characters of symbol fonts, whose numbers are no letters: Greek for Symbol, a bullet for pictures of other fonts."""

from __future__ import annotations

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


def symbol(code: int, font: str) -> str:
    """The character `code` of a symbol font, whose numbers may begin at 0xF000."""
    code = code - 0xF000 if code >= 0xF000 else code
    if font.lower() != "symbol":
        return "•"
    return _GREEK.get(code) or _SIGNS.get(code) or chr(code)
