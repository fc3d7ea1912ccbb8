"""The tokens of an RTF file: groups, control words with their numbers, and text as bytes; read in windows of constant size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

#: Bytes that are read at once.
WINDOW = 1 << 20
#: No token is longer; a longer control word or text comes in pieces.
MAX_TOKEN = 4096

_TOKEN = re.compile(
    rb"\\([A-Za-z]{1,1000})(-?[0-9]{1,10})?[0-9]{0,100} ?"  # a control word, its number, and the space that ends it
    rb"|([^\\{}\r\n\0]{1,2000})"
    rb"|\\'([0-9A-Fa-f]{2})"
    rb"|([{}])"
    rb"|\\([^A-Za-z])"  # a control symbol
    rb"|[\r\n\0]{1,2000}|\\",
    re.S,
)
#: What may end a group that is passed over, or hide its end.
_MARK = re.compile(rb"[{}]|\\(?:bin([0-9]{1,10}) ?|[\\{}])")
_SYNTAX = re.compile(rb"[\\{}]")
_BEGIN = re.compile(rb"\{\\rtf")


class Token(NamedTuple):
    """One token; `word` is `{` and `}` for groups, empty for text, and `'` for a byte of text that is written as a number."""

    word: bytes
    number: int | None = None
    text: bytes = b""


_OPEN, _CLOSE = Token(b"{"), Token(b"}")


class Tokens:
    """The tokens of a file, which can be passed over group by group."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._data = b""
        self._at = 0
        self._ended = False

    def __iter__(self) -> Iterator[Token]:
        """The tokens from the first group that is RTF. A caller may pass over data between two of them."""
        self._more()
        begin = _BEGIN.search(self._data)
        self._at = begin.start() if begin else len(self._data)
        words: dict[bytes, Token] = {}
        while True:
            if len(self._data) - self._at < MAX_TOKEN and not self._ended:
                self._more()
            found = _TOKEN.match(self._data, self._at)
            if found is None:
                return
            self._at = found.end()
            which = found.lastindex
            if which == 3:
                yield Token(b"", None, found[3])
            elif which == 5:
                yield _OPEN if found[5] == b"{" else _CLOSE
            elif which == 4:
                yield Token(b"'", None, bytes.fromhex(found[4].decode("ascii")))
            elif which == 6:
                yield Token(b"", None, found[6]) if found[6] in b"\\{}" else Token(found[6])
            elif which is not None:
                token = words.get(found[0])
                if token is None:
                    number = found[2]
                    token = Token(found[1], None if number is None else int(number))
                    if len(words) < 10_000:
                        words[found[0]] = token
                yield token

    def skip_group(self) -> None:
        """Pass over the rest of the innermost open group, its end included; all where the file ends before."""
        depth = 1
        while depth:
            mark = self._next_mark()
            if mark is None:
                self._at = len(self._data)
                return
            self._at = mark.end()
            if mark[0] == b"{":
                depth += 1
            elif mark[0] == b"}":
                depth -= 1
            elif mark[1] is not None:
                self.skip_bytes(int(mark[1]))

    def skip_data(self) -> None:
        """Pass over text, up to the next group or control word."""
        while True:
            at = _SYNTAX.search(self._data, self._at)
            self._at = at.start() if at else len(self._data)
            if at or self._ended:
                return
            self._more()

    def skip_bytes(self, count: int) -> bool:
        """Pass over `count` bytes of binary data; where the file is shorter, none, and False."""
        left = len(self._data) - self._at
        if count <= left:
            self._at += max(0, count)
            return True
        if count - left > self._size - self._file.tell():
            return False
        self._file.seek(count - left, 1)
        self._data, self._at = b"", 0
        return True

    def position(self) -> tuple[int, int]:
        """Bytes that have been read, and all of them."""
        return self._file.tell() - len(self._data) + self._at, self._size

    def _next_mark(self) -> re.Match[bytes] | None:
        while True:
            mark = _MARK.search(self._data, self._at)
            if mark is not None and (mark.end() < len(self._data) or self._ended):
                return mark
            if self._ended:
                return None
            # A mark at the very end may be longer than it looks; a backslash there may begin one.
            self._at = mark.start() if mark is not None else max(self._at, len(self._data) - 16)
            self._more()

    def _more(self) -> None:
        window = self._file.read(WINDOW)
        self._ended = not window
        self._data = self._data[self._at :] + window
        self._at = 0
