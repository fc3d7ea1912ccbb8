"""The type of characters of a page, many at once: fonts, sizes and angles."""

from __future__ import annotations

import ctypes
import math
import re
from collections import deque
from collections.abc import Sequence
from itertools import repeat

import pypdfium2.raw as pdfium_c

from pipeline.parse.pdf.quick import Address, Memory, quick

#: Characters in the name of a font.
_NAME_CHARS = 80
#: Characters that there is room for at first: those that begin the lines of most pages.
FIRST_CHARS = 100
#: Fonts of a document that are remembered.
_MAX_FONTS = 1_000

_BOLD = re.compile(r"bold|black|heavy|demi|medi\b|(?:cm|sf|ec|lm)\w{0,4}bx|cmb\d", re.I)
_SLANTED = re.compile(r"italic|oblique|slanted", re.I)
_FIXED = re.compile(r"mono|courier|typewriter|consolas|menlo|(?:cm|sf|ec|lm)\w{0,4}tt|txtt|\btt\d", re.I)
_FORCE_BOLD, _ITALIC, _FIXED_PITCH = 1 << 18, 1 << 6, 1

_matrix = quick(pdfium_c.FPDFText_GetMatrix, None)
_font_size = quick(pdfium_c.FPDFText_GetFontSize, ctypes.c_double)
_font_info = quick(pdfium_c.FPDFText_GetFontInfo, None)

#: Whether all characters of a font have one width, whether it is bold, and whether it is italic.
Face = tuple[bool, bool, bool]
#: The angle of a character, in degrees, and the factor between the size of its font and its size on the page.
Turn = tuple[int, float]


class Fonts:
    """Memory for the type of a document's characters, and what its fonts are."""

    def __init__(self) -> None:
        self._matrices = Memory("f", 6, FIRST_CHARS)
        self._names, self._flags = Memory("B", _NAME_CHARS, FIRST_CHARS), Memory("i", 1, FIRST_CHARS)
        self._name_chars = ctypes.c_ulong(_NAME_CHARS)
        self._faces: dict[tuple[bytes, int], Face] = {}  #: by name, filled up with zeros, and flags of a font

    def faces(self, page: Address, indexes: Sequence[int]) -> list[Face]:
        """What the fonts of characters are."""
        count = len(indexes)
        names, flags = self._names.places(count), self._flags.places(count)
        deque(map(_font_info, repeat(page), indexes, names, repeat(self._name_chars), flags), maxlen=0)
        told, known = self._names.items.tobytes(), self._faces
        keys = zip(
            (told[at : at + _NAME_CHARS] for at in range(0, count * _NAME_CHARS, _NAME_CHARS)), self._flags.items, strict=False
        )
        return [known.get(key) or self._face(key) for key in keys]

    def _face(self, key: tuple[bytes, int]) -> Face:
        name, flags = key[0].rstrip(b"\0").decode("latin-1"), key[1]
        fixed = bool(flags & _FIXED_PITCH) or _FIXED.search(name) is not None
        bold = bool(flags & _FORCE_BOLD) or _BOLD.search(name) is not None
        face = fixed, bold, bool(flags & _ITALIC) or _SLANTED.search(name) is not None
        if len(self._faces) < _MAX_FONTS:
            self._faces[key] = face
        return face

    def sizes(self, page: Address, indexes: Sequence[int]) -> list[float]:
        """The sizes of the fonts of characters."""
        return list(map(_font_size, repeat(page), indexes))

    def turns(self, page: Address, indexes: Sequence[int]) -> list[Turn]:
        """How characters are turned and enlarged."""
        count = len(indexes)
        deque(map(_matrix, repeat(page), indexes, self._matrices.places(count)), maxlen=0)
        numbers = self._matrices.items[: 6 * count].tolist()
        parts = zip(*(numbers[at::6] for at in range(4)), strict=True)
        return [(0, d) if b == c == 0.0 and a > 0.0 <= d else _turn(a, b, c, d) for a, b, c, d in parts]


def _turn(a: float, b: float, c: float, d: float) -> Turn:
    if not (a or b or c or d):  # pdfium knows none
        return 0, 1.0
    if not b and a >= 0:
        return 0, math.hypot(c, d)
    return round(math.degrees(math.atan2(b, a))) % 360, math.hypot(c, d)
