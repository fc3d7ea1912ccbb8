"""The gate before every parser: admits regular files of limited size and decides their type by content and name."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from pipeline.errors import DocumentError
from pipeline.parse import archive, kinds
from pipeline.parse.decode import SAMPLE_BYTES, detect, detect_bytes
from pipeline.parse.ocr.options import OcrOptions
from pipeline.parse.ole import ole_kind
from pipeline.types import Reason

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that a file must meet before it reaches a parser."""

    max_file_bytes: int = 256 << 20
    zip_max_part_bytes: int = 50 << 20  #: maximum size of a part of an office file, unpacked
    zip_max_ratio: float = 100.0  #: maximum ratio of unpacked to packed bytes of a part
    ocr: OcrOptions = field(default_factory=OcrOptions)  #: without an engine an image is no document


def inspect(path: Path, name: str, limits: Limits) -> str:
    """The media type of the file at `path`, with the original name `name`.

    Raises DocumentError: UNREADABLE, UNSUPPORTED (also for links, pipes and devices), TOO_LARGE, EMPTY_FILE, ENCRYPTED,
    CORRUPT.
    """
    with _open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limits.max_file_bytes:
            raise DocumentError(Reason.TOO_LARGE, f"{size >> 20} MB, the limit is {limits.max_file_bytes >> 20} MB")
        head = file.read(SAMPLE_BYTES) or b""
        _refuse_blank(file, head)
        if head.startswith(_ZIP):
            file.seek(0)
            return archive.zip_kind(file, name, max_part_bytes=limits.zip_max_part_bytes, max_ratio=limits.zip_max_ratio)
    if head.startswith(_OLE):
        return ole_kind(path)
    # Mail gateways put bytes before the header of a PDF; a text that only mentions one contains no binary data.
    start = head[:1024].find(b"%PDF-")
    if start >= 0 and (not head[:start].strip(b"\xef\xbb\xbf \t\r\n") or kinds.suffix(name) == "pdf" or b"\0" in head):
        return kinds.PDF
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{\\rtf"):
        return kinds.RTF
    if kinds.is_lfs_pointer(head, name):
        raise DocumentError(Reason.UNREADABLE, "a Git LFS pointer, not the file: run `git lfs pull` and load again")
    if (packed := kinds.archive_kind(head, name)) is not None:
        return packed
    if (office := kinds.office_kind(head)) is not None:
        return office
    if (image := kinds.image_kind(head)) is not None and limits.ocr.engine:
        return image
    if (foreign := kinds.foreign_kind(head)) is not None:
        # A person who has installed no engine learns of it; the ledger knows such images by pipeline.types.UNREAD.
        raise DocumentError(Reason.UNSUPPORTED, f"{foreign}; {limits.ocr.hint}" if image and limits.ocr.hint else foreign)
    return _text(path, name, head, size)


def _open_regular(path: Path) -> FileIO:
    """Open without following a link and without waiting on a pipe; the checked file is the one that is read."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise DocumentError(Reason.UNSUPPORTED, "not a regular file")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise DocumentError(Reason.UNREADABLE, str(getattr(error, "strerror", None) or error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # the file was swapped between the two calls
        os.close(descriptor)
        raise DocumentError(Reason.UNSUPPORTED, "not a regular file")
    return FileIO(descriptor, "rb", closefd=True)


def _refuse_blank(file: FileIO, head: bytes) -> None:
    """Raise EMPTY_FILE for white space only, CORRUPT for NULs only, which a crash may leave."""
    blanks = b" \t\r\n\x0b\x0c\0\xef\xbb\xbf\xff\xfe"
    window, nul = head, False
    while window:
        if window.strip(blanks):
            return
        nul = nul or b"\0\0\0\0" in window
        window = file.read(1 << 20) or b""
    if nul:
        raise DocumentError(Reason.CORRUPT, "the file contains only zero bytes")
    raise DocumentError(Reason.EMPTY_FILE, "")


def _text(path: Path, name: str, head: bytes, size: int) -> str:
    promised = kinds.BINARY_SUFFIXES.get(kinds.suffix(name))
    whole = size <= len(head)
    found = detect_bytes(head) if whole else detect(path)
    if found is None or (promised is not None and promised not in kinds.OFTEN_TEXT and not found.marked):
        if promised is not None:
            raise DocumentError(Reason.CORRUPT, f"the name ends in .{kinds.suffix(name)}, but the content is something else")
        raise DocumentError(Reason.UNSUPPORTED, "binary content of an unknown kind")
    sample = head.decode(found.name, errors="replace" if whole else "ignore")
    return kinds.text_kind(sample, name, whole=whole)
