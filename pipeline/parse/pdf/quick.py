"""Functions of pdfium for calls by the thousand: without declared arguments, which ctypes would convert one by one."""

from __future__ import annotations

import ctypes
from array import array
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


def argument(handle: Any) -> Any:
    """The same for many calls: ctypes converts an Address in each of them."""
    return ctypes.c_void_p.from_param(address(handle).value)


class Memory:
    """Memory that pdfium writes to, with a place for each of many calls: made once, and used for all pages of a document."""

    def __init__(self, code: str, width: int, count: int) -> None:
        self._width = width  #: items of a place
        self.items: array[Any] = array(code)  #: of all places, one after the other
        self._places: list[Any] = []
        self._make(count)

    def _make(self, count: int) -> None:
        size = self._width * self.items.itemsize
        self.items = array(self.items.typecode, bytes(count * size))
        whole = (ctypes.c_char * (count * size)).from_buffer(self.items)
        self._places = [ctypes.byref(whole, at) for at in range(0, count * size, size)]

    def places(self, count: int) -> list[Any]:
        """Places for as many calls, at least, all zero: pdfium leaves some as they are."""
        if count > len(self._places):
            self._make(2 * count)
        else:
            ctypes.memset(self.items.buffer_info()[0], 0, count * self._width * self.items.itemsize)
        return self._places

    def pointer(self, kind: Any) -> Any:
        """Where the first place is, for a function that takes a pointer to numbers of a kind."""
        return ctypes.cast(self.items.buffer_info()[0], ctypes.POINTER(kind))


_object = quick(pdfium_c.FPDFPage_GetObject, Address)


_count = quick(pdfium_c.FPDFPage_CountObjects)


def objects(page: Any) -> list[Address]:
    """The objects of a page, which is given as `argument` has it; none of a page that is a drawing."""
    count = _count(page)
    return [] if count > MAX_OBJECTS else list(map(_object, repeat(page), range(count)))
