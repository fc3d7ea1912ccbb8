"""Functions of pdfium for calls by the thousand: without declared arguments, which ctypes would convert one by one."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from itertools import repeat
from typing import Any

import pypdfium2.raw as pdfium_c

#: Objects of a page that are looked at; a page with more of them is a drawing.
MAX_OBJECTS = 20_000


class Address(ctypes.c_void_p):
    """A pointer that pdfium returns and takes."""


def quick(function: Any, result: Any = ctypes.c_int) -> Callable[..., Any]:
    """A function of pdfium. Its pointers are given as Address or by `ctypes.byref`, its numbers are of type int."""
    return ctypes.PYFUNCTYPE(result)(ctypes.cast(function, ctypes.c_void_p).value or 0)


def address(handle: Any) -> Address:
    """Where an object of pypdfium2, or of its raw functions, is."""
    return ctypes.cast(handle, Address)


_object = quick(pdfium_c.FPDFPage_GetObject, Address)
_type = quick(pdfium_c.FPDFPageObj_GetType)


def objects(page: Any, *kinds: int) -> list[list[Address]]:
    """A page's objects of each kind; none of a page that is a drawing."""
    count = pdfium_c.FPDFPage_CountObjects(page)
    if count > MAX_OBJECTS:
        return [[] for _ in kinds]
    found = list(map(_object, repeat(address(page.raw)), range(count)))
    types = list(map(_type, found))
    return [[one for one, kind in zip(found, types, strict=True) if kind == wanted] for wanted in kinds]
