"""Functions of pdfium for calls by the thousand: with numbers instead of pointers, they take a third of the time."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from itertools import repeat
from typing import Any

import pypdfium2.raw as pdfium_c

ADDRESS = ctypes.c_void_p
#: Objects of a page that are looked at; a page with more of them is a drawing.
MAX_OBJECTS = 20_000


def quick(function: Any, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of pdfium that takes and returns simple values of ctypes; pointers are addresses."""
    return ctypes.PYFUNCTYPE(result, *arguments)(ctypes.cast(function, ADDRESS).value or 0)


_object = quick(pdfium_c.FPDFPage_GetObject, ADDRESS, ADDRESS, ctypes.c_int)
_type = quick(pdfium_c.FPDFPageObj_GetType, ctypes.c_int, ADDRESS)


def objects(page: Any, *kinds: int) -> list[list[int]]:
    """The addresses of a page's objects of each kind; none of a page that is a drawing."""
    count = pdfium_c.FPDFPage_CountObjects(page)
    if count > MAX_OBJECTS:
        return [[] for _ in kinds]
    found = list(map(_object, repeat(ctypes.cast(page.raw, ADDRESS).value), range(count)))
    types = list(map(_type, found))
    return [[address for address, kind in zip(found, types, strict=True) if kind == wanted] for wanted in kinds]
