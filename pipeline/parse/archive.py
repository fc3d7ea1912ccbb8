"""Identifies the content of a zip by its directory, without unpacking it."""

from __future__ import annotations

import errno
import zipfile
import zlib
from typing import IO

from pipeline.errors import DocumentError
from pipeline.parse.kinds import DOCX, EPUB, ODP, ODS, ODT, PPTX, XLSX, ZIP, suffix
from pipeline.types import Reason

#: Office files have hundreds of parts; long books have a few thousand.
MAX_MEMBERS = 20_000
#: Parts smaller than this may have any ratio: a megabyte of one letter does no harm.
RATIO_FLOOR_BYTES = 2 << 20
#: Maximum size of all parts together, in multiples of the maximum size of one part.
TOTAL_PARTS = 8

#: Parts of content types, or of main parts' names where there is no type; binary workbooks are not read.
_OOXML = {
    "sheet.binary": "",
    "wordprocessingml": DOCX,
    "ms-word": DOCX,
    "presentationml": PPTX,
    "ms-powerpoint": PPTX,
    "spreadsheetml": XLSX,
    "ms-excel": XLSX,
    "word/": DOCX,
    "ppt/": PPTX,
    "xl/": XLSX,
}
#: Parts of packages of iWork; newer ones consist of .iwa files, which may lie in a zip of their own.
_IWORK = frozenset(("index.apxl", "index.numbers", "buildVersionHistory.plist", "Index/Document.iwa", "Document.iwa"))
_IWORK_NAMES = {"pages": "Pages document", "numbers": "Numbers spreadsheet", "key": "Keynote presentation"}
_TYPES = "[Content_Types].xml"
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
_OPEN_DOCUMENTS = (ODT, ODP, ODS)


def zip_kind(file: IO[bytes], name: str, *, max_part_bytes: int, max_ratio: float) -> str:
    """The media type of the document in the zip `file`, with the original name `name`; ZIP for an archive of files.

    Raises DocumentError: CORRUPT, ENCRYPTED, TOO_LARGE for bombs, UNSUPPORTED for anything outside the known families.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return _kind_of(archive, name, max_part_bytes, max_ratio)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, ValueError, EOFError, OverflowError, UnicodeError) as error:
        raise DocumentError(Reason.CORRUPT, f"not a readable zip: {error}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a directory that points before the start of the file; other errors come from the disk
            raise
        raise DocumentError(Reason.CORRUPT, "not a readable zip: its directory points outside the file") from error


def _kind_of(archive: zipfile.ZipFile, name: str, max_part_bytes: int, max_ratio: float) -> str:
    members = archive.infolist()
    names = {m.filename for m in members}
    if (kind := _family(archive, names, name)) == ZIP:
        return ZIP  # its members have limits of their own
    if len(members) > MAX_MEMBERS:
        raise DocumentError(Reason.TOO_LARGE, f"{len(members):,} parts, the limit is {MAX_MEMBERS:,}")
    if any(m.flag_bits & 0x1 for m in members) or _is_protected(archive, names, kind):
        raise DocumentError(Reason.ENCRYPTED, "its parts are encrypted")
    total = 0
    for m in members:
        total += m.file_size
        if m.file_size > max_part_bytes * (TOTAL_PARTS if _is_streamed(kind, m.filename.lower()) else 1):
            raise DocumentError(
                Reason.TOO_LARGE, f"one part has {m.file_size >> 20} MB unpacked, the limit is {max_part_bytes >> 20} MB"
            )
        if m.file_size > RATIO_FLOOR_BYTES and m.file_size > max_ratio * max(m.compress_size, 1):
            raise DocumentError(Reason.TOO_LARGE, f"one part unpacks to {m.file_size // max(m.compress_size, 1)} times its size")
    if total > TOTAL_PARTS * max_part_bytes:
        raise DocumentError(Reason.TOO_LARGE, f"all parts have {total >> 20} MB unpacked")
    return kind


def _is_streamed(kind: str, part: str) -> bool:
    """Whether a part consists of rows that are read one after the other."""
    return (kind == XLSX and "sheet" in part) or (kind == ODS and part == "content.xml")


def _family(archive: zipfile.ZipFile, names: set[str], name: str) -> str:
    if _TYPES in names:
        if archive.getinfo(_TYPES).flag_bits & 0x1:
            raise DocumentError(Reason.ENCRYPTED, "its parts are encrypted")
        from pipeline.parse.ooxml.package import content_type

        found = content_type(archive)
        kind = next((kind for sign, kind in _OOXML.items() if sign in found), "")
        if kind:
            return kind
        if "visio" in found:
            raise DocumentError(Reason.UNSUPPORTED, "Visio drawing")
        raise DocumentError(Reason.UNSUPPORTED, f"an office file of another kind: {found[:100]}" if found else "an empty package")
    if "mimetype" in names:
        with archive.open("mimetype") as member:
            declared = member.read(100).decode("ascii", "replace").strip()
        if declared == EPUB:
            return EPUB
        if (document := declared.removesuffix("-template")) in _OPEN_DOCUMENTS:
            return document
        if declared.startswith(_OPEN_DOCUMENT):
            raise DocumentError(Reason.UNSUPPORTED, f"OpenDocument {declared.removeprefix(_OPEN_DOCUMENT)}")
    if "META-INF/container.xml" in names:
        return EPUB
    if not names.isdisjoint(_IWORK) or ("Index.zip" in names and suffix(name) in _IWORK_NAMES):
        raise DocumentError(Reason.UNSUPPORTED, _iwork_kind(names, name))
    if suffix(name) in ("zip", ""):
        return ZIP
    raise DocumentError(Reason.UNSUPPORTED, "a zip archive of a program")


def _iwork_kind(names: set[str], name: str) -> str:
    """Which of the programs of iWork has written a package; texts and tables look alike, but for the file's name."""
    if "index.apxl" in names or any(one.rpartition("/")[2].startswith("Slide") for one in names if one.endswith(".iwa")):
        return "Keynote presentation"
    return _IWORK_NAMES.get(suffix(name), "document of Pages or Numbers")


def _is_protected(archive: zipfile.ZipFile, names: set[str], kind: str) -> bool:
    """Whether an OpenDocument or EPUB declares its content as encrypted; obfuscated fonts alone do not count."""
    part, marks = {
        **dict.fromkeys(_OPEN_DOCUMENTS, ("META-INF/manifest.xml", (b"encryption-data",))),
        EPUB: ("META-INF/encryption.xml", (b".xhtml", b".html", b".htm")),
    }.get(kind, ("", ()))
    if part not in names:
        return False
    with archive.open(part) as member:
        text = member.read(4 << 20)
    return any(mark in text for mark in marks)
