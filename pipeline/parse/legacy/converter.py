"""A process that converts documents with LibreOffice, one after the other: a request a line on stdin, an answer a line on stdout.

It runs below a parser's guarded process, with the same limits. LibreOffice is called as a library, through LibreOfficeKit: its
program opens a socket when it starts, which the guard forbids. This file is started by its path, and imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Libraries that may hold LibreOfficeKit: the one that distributions link everything into, and that of other builds.
LIBRARIES = ("libmergedlo.so", "libsofficeapp.so")
# Functions by their place in LibreOfficeKit.h: these have been the first ones since its beginning, and new ones come last.
_LOAD, _ERROR = 2, 3
_CLOSE, _SAVE_AS = 1, 2


def _function(of: int, place: int, *signature: Any) -> Callable[..., Any]:
    """A function of an office or a document, each of which begins with a pointer to its table of functions."""
    table = ctypes.cast(of, ctypes.POINTER(ctypes.c_void_p))[0]
    address = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))[place]
    return ctypes.CFUNCTYPE(*signature)(address or 0)


def _started(program: str, profile: str) -> int:
    """LibreOffice in the folder `program`, with its settings in the folder of the address `profile`; 0 where it does not start."""
    path = next(found for name in LIBRARIES if (found := Path(program, name)).exists())
    hook = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL).libreofficekit_hook_2
    hook.restype, hook.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_char_p)
    return hook(program.encode(), profile.encode()) or 0


def _converted(office: int, source: str, target: str, form: str) -> str:
    """Convert a document; returns what is wrong with it, empty where it was saved."""
    document = _function(office, _LOAD, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(office, source.encode())
    if not document:
        said = _function(office, _ERROR, ctypes.c_char_p, ctypes.c_void_p)(office)
        return (said or b"").decode("utf-8", "replace") or "it cannot be opened"
    strings = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p)
    save = _function(document, _SAVE_AS, ctypes.c_int, ctypes.c_void_p, *strings)
    saved = save(document, target.encode(), form.encode(), None)
    _function(document, _CLOSE, None, ctypes.c_void_p)(document)
    return "" if saved else "it cannot be saved"


def main() -> None:
    """Answer until stdin ends."""
    program, profile = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # LibreOffice may print
    office = _started(program, profile)
    for line in sys.stdin:
        request = json.loads(line)
        wrong = _converted(office, request["source"], request["target"], request["form"]) if office else "it does not start"
        answers.write(json.dumps({"wrong": wrong}) + "\n")
        answers.flush()
    os._exit(0)  # its threads do not end by themselves


if __name__ == "__main__":
    main()
