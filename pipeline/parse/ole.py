"""Identifies the content of an OLE container by its streams."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from pipeline.errors import DocumentError
from pipeline.parse.kinds import DOC, MSG, PPT, XLS
from pipeline.types import Reason

#: Streams that only one kind of file has, in lower case, and their kinds.
_READ = {"worddocument": DOC, "workbook": XLS, "book": XLS, "powerpoint document": PPT}
_UNREAD = {
    "visiodocument": "Visio drawing",
    "quill": "Publisher document",
    "matost": "Works document",
    "mm": "Works document",
    "hwpsummaryinformation": "Hangul document",
    "\x05hwpsummaryinformation": "Hangul document",
    "pp40": "PowerPoint 95 presentation",
    "perfectoffice_main": "WordPerfect document",
}
#: The identity of the flags in a Word file's first stream, and the flag of encryption: FibBase of [MS-DOC].
_WORD_MAGIC, _WORD_ENCRYPTED = (0xA5EC, 0xA5DC), 0x0100
#: The mark of an encrypted presentation: CurrentUserAtom of [MS-PPT].
_SLIDES_ENCRYPTED = 0xF3D1C4DF
#: The record of an encrypted workbook, and the number of records after which it does not come: FilePass of [MS-XLS].
_FILE_PASS, _MOST_RECORDS = 0x2F, 40


def ole_kind(path: Path) -> str:
    """The media type of the OLE container at `path`.

    Raises DocumentError: ENCRYPTED for office files with a password, UNSUPPORTED for kinds without a parser, CORRUPT.
    """
    import olefile

    try:
        with olefile.OleFileIO(str(path)) as container:
            entries = {entry[0].lower(): entry[0] for entry in container.listdir(streams=True, storages=True)}
            kind = next((kind for name, kind in _READ.items() if name in entries), "")
            encrypted = "encryptedpackage" in entries or (bool(kind) and _is_encrypted(container, kind, entries))
            is_works = "contents" in entries and _head(container, entries["contents"], 7) == b"CHNKWKS"
    except Exception as error:  # a damaged container fails in many undocumented ways
        raise DocumentError(Reason.CORRUPT, f"not a readable OLE file: {error}") from error
    if encrypted:
        raise DocumentError(Reason.ENCRYPTED, "an office file protected by a password")
    if "__properties_version1.0" in entries or any(e.startswith("__substg1.0_") for e in entries):
        return MSG
    if kind:
        return kind
    unread = next((kind for name, kind in _UNREAD.items() if name in entries), "")
    raise DocumentError(Reason.UNSUPPORTED, unread or ("Works document" if is_works else "an OLE file of an unknown kind"))


def _is_encrypted(container: Any, kind: str, entries: dict[str, str]) -> bool:
    if kind == DOC:
        head = _head(container, entries["worddocument"], 12)
        return len(head) == 12 and _word(head, 0) in _WORD_MAGIC and bool(_word(head, 10) & _WORD_ENCRYPTED)
    if kind == PPT:
        head = _head(container, entries["current user"], 16) if "current user" in entries else b""
        return len(head) == 16 and struct.unpack_from("<I", head, 12)[0] == _SLIDES_ENCRYPTED
    head = _head(container, entries.get("workbook") or entries["book"], 4096)
    at = 0
    for _ in range(_MOST_RECORDS):
        if at + 4 > len(head):
            return False
        if _word(head, at) == _FILE_PASS:
            return True
        at += 4 + _word(head, at + 2)
    return False


def _head(container: Any, name: str, size: int) -> bytes:
    """The first bytes of a stream; none of a storage."""
    return bytes(container.openstream(name).read(size)) if container.get_type(name) == 2 else b""


def _word(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<H", data, at)[0])
