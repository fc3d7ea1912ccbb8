"""JSON that is read in windows: the items of an array one by one, also of an array inside an object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from pipeline.errors import DocumentError
from pipeline.types import Reason

#: A longer value is refused: one may be as long as a file that passes the gate.
MAX_VALUE_CHARS = 4 << 20

#: Objects inside each other in which arrays are looked for; deeper ones are values.
MAX_DEPTH = 16

#: Characters that are read at once.
_WINDOW = 64 << 10

_SPACE = re.compile(r"[ \t\n\r]*")


class JsonText:
    """A text of JSON and a place in it; `file` is read on from where it is."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._decoder = json.JSONDecoder()
        self._ended = False
        self._text = file.read(_WINDOW).removeprefix("\ufeff")
        self._at = 0

    def next(self) -> str:
        """The next character that is no space, which stays unread; empty at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more()

    def take(self) -> str:
        """Read the next character that is no space; empty at the end."""
        found = self.next()
        self._at += len(found)
        return found

    def value(self) -> Any:
        """Read the value that begins here. Raises ValueError, RecursionError."""
        self.next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError:
                if self._ended:
                    raise
            else:
                if end < len(self._text) or self._ended:  # a number could continue
                    self._at = end
                    return value
            if len(self._text) - self._at > MAX_VALUE_CHARS:
                raise ValueError(f"it is damaged, or longer than {MAX_VALUE_CHARS:,} characters")
            self._more()

    def items(self) -> Iterator[tuple[int, Any]]:
        """Read the items of an array up to its end, from behind its opening bracket, with their numbers from 1 on.

        Raises DocumentError (corrupt) for a damaged array: what follows is unknown.
        """
        number, after = 0, ","
        while after == ",":
            number += 1
            if self.next() == "]" and number == 1:
                self.take()
                return
            try:
                value = self.value()
            except (ValueError, RecursionError) as error:
                raise DocumentError(Reason.CORRUPT, f"item {number:,} of the array cannot be read: {said(error)}") from error
            yield number, value
            after = self.take()
        if after != "]":
            raise DocumentError(Reason.CORRUPT, f"the array is incomplete: after item {number:,} there is {after or 'nothing'!r}")

    def arrays(self, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Iterator[tuple[int, Any]]]]:
        """Read an object up to its end: its arrays that begin with an object, by their paths, with their items.

        Objects in it are looked through too, but not the items of arrays. Items that are not read are passed over. Raises
        DocumentError as `items` does, ValueError and RecursionError for what is no object of JSON.
        """
        if self.take() != "{":
            raise ValueError("it is not an object")
        after = "," if self.next() != "}" else self.take()
        while after == ",":
            key = self.value()
            if not isinstance(key, str) or self.take() != ":":
                raise ValueError("it is not an object")
            opening = self.next()
            if opening == "{" and len(path) < MAX_DEPTH:
                yield from self.arrays((*path, key))
            elif opening == "[":
                self.take()
                of_objects, items = self.next() == "{", self.items()
                if of_objects:
                    yield ".".join((*path, key)), items
                for _ in items:
                    pass
            else:
                self.value()
            after = self.take()
        if after != "}":
            raise ValueError("the object is incomplete")

    def _more(self) -> None:
        rest = self._text[self._at :]
        data = self._file.read(max(_WINDOW, len(rest)))
        self._ended = not data
        self._text, self._at = rest + data, 0


def only_array(file: TextIO, wanted: str = "") -> str | None:
    """The path of the array of objects in an object: the `wanted` one, or the only one; None for anything else.

    All of the file is read. Raises DocumentError (corrupt) for a damaged array.
    """
    text = JsonText(file)
    try:
        found = [path for path, _ in text.arrays()]
    except (ValueError, RecursionError):
        return None
    if text.next():
        return None
    if wanted:
        return wanted if found.count(wanted) == 1 else None
    return found[0] if len(found) == 1 else None


def said(error: Exception) -> str:
    """What an error of reading JSON says, for people."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)
