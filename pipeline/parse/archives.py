"""Archives and mailboxes: files that hold files, each of which becomes a document of its own.

Nothing is unpacked at once: members are opened one after the other, and whoever reads them limits their size. A member that is
a bomb, is encrypted or is damaged ends with its reason, and the others go on.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import mailbox
import re
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from email.parser import BytesHeaderParser
from functools import partial
from pathlib import Path, PurePosixPath
from tarfile import HeaderError, ReadError
from typing import IO, Any

from pipeline.errors import DocumentError
from pipeline.parse.archive import RATIO_FLOOR_BYTES
from pipeline.parse.parsed import Losses, Member, Parsed, Share
from pipeline.types import LossKind, Reason

#: The most members that become documents; the others are named as losses.
MAX_MEMBERS = 10_000
#: Maximum ratio of unpacked to packed bytes of a member.
MAX_RATIO = 100.0
#: Maximum size of a 7z archive, unpacked: it can only be unpacked as a whole.
MAX_UNPACKED_BYTES = 2 << 30

#: What programs keep in archives for themselves.
_JUNK_NAMES = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini", ".git", ".svn")
_JUNK = frozenset(_JUNK_NAMES)
#: What the line before a message has beside "From ": a time of day; and what the line below has.
_SENT = re.compile(rb"\d:\d\d")
_MAIL_FIELD = re.compile(rb"[A-Za-z][A-Za-z0-9-]{0,60}:")
_SINGLE: dict[str, Callable[[Path], Any]] = {"gz": gzip.GzipFile, "bz2": bz2.BZ2File, "xz": lzma.LZMAFile}


def parse_zip(path: Path, name: str) -> Parsed:
    """The members of the zip at `path`."""
    share, losses = Share(), Losses()
    return Parsed("", iter(()), share, losses, members=_counted(_zipped(path, share), losses))


def parse_tar(path: Path, name: str) -> Parsed:
    """The members of the tar at `path`, compressed or not."""
    losses = Losses()
    return Parsed("", iter(()), losses=losses, members=_counted(_tarred(path, losses), losses))


def parse_compressed(path: Path, name: str) -> Parsed:
    """The one file that is compressed at `path`, with gzip, bzip2 or xz."""
    with path.open("rb") as file:
        magic = file.read(6)
    kind = "gz" if magic.startswith(b"\x1f\x8b") else ("bz2" if magic.startswith(b"BZh") else "xz")
    stem = name.removesuffix(f".{kind}") if name.lower().endswith(f".{kind}") else name
    return Parsed("", iter(()), members=iter([Member(stem or "content", partial(_SINGLE[kind], path))]))


def parse_7z(path: Path, name: str) -> Parsed:
    """The members of the 7z archive at `path`. Raises DocumentError: ENCRYPTED, TOO_LARGE, UNSUPPORTED without py7zr."""
    try:
        import py7zr
    except ImportError as error:
        missing = "a 7z archive: install kb-ingest with the extra `7z` to read it, then run `kb-ingest retry --reason unsupported`"
        raise DocumentError(Reason.UNSUPPORTED, missing) from error
    with py7zr.SevenZipFile(path) as archive:
        if archive.needs_password():
            raise DocumentError(Reason.ENCRYPTED, "the archive needs a password")
        size = archive.archiveinfo().uncompressed
        if size > MAX_UNPACKED_BYTES or size > max(RATIO_FLOOR_BYTES, MAX_RATIO * path.stat().st_size):
            raise DocumentError(Reason.TOO_LARGE, f"it unpacks to {size >> 20} MB from {path.stat().st_size >> 10} kB")
    losses = Losses()
    return Parsed("", iter(()), losses=losses, members=_counted(_unpacked(path), losses))


def parse_mbox(path: Path, name: str) -> Parsed:
    """The messages of the mailbox at `path`, named by their ids, which stay when others come and go."""
    losses = Losses()
    return Parsed("", iter(()), losses=losses, members=_counted(_messages(path), losses))


def _counted(members: Iterator[Member], losses: Losses) -> Iterator[Member]:
    """Up to MAX_MEMBERS members under safe and different names, without what programs keep for themselves."""
    names: dict[str, int] = {}
    for number, member in enumerate(members):
        if (safe := safe_name(member.name)) is None:
            continue
        if number >= MAX_MEMBERS:
            losses.add(LossKind.CUT_TEXT, detail=f"files beyond the first {MAX_MEMBERS:,}")
            continue
        names[safe] = again = names.get(safe, 0) + 1
        yield Member(safe if again == 1 else f"{again}-{safe}", member.open, member.reason, member.detail)


def safe_name(name: str) -> str | None:
    """The path of a member without what leads out of the archive; None for what is no document."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    if not parts or not _JUNK.isdisjoint(parts) or parts[-1].startswith("._"):
        return None
    return "/".join(part.replace("\0", "") for part in parts)


def _zipped(path: Path, share: Share) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        for number, info in enumerate(infos):
            share.count(number, len(infos))
            if stat.S_ISLNK(info.external_attr >> 16):
                continue
            if info.flag_bits & 0x1:
                yield Member(info.filename, _nothing, Reason.ENCRYPTED, "the member needs a password")
            elif info.file_size > max(RATIO_FLOOR_BYTES, MAX_RATIO * info.compress_size):
                times = info.file_size // max(info.compress_size, 1)
                yield Member(info.filename, _nothing, Reason.TOO_LARGE, f"it unpacks to {times} times its size")
            else:
                yield Member(info.filename, partial(archive.open, info))


#: Errors of the standard library that it does not pass on; type information lacks them.
_DAMAGED_HEADERS = ("TruncatedHeaderError", "InvalidHeaderError")


class _Header(tarfile.TarInfo):
    """A header of a tar. The standard library takes a damaged one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            if tarfile.offset and type(error).__name__ in _DAMAGED_HEADERS:
                raise ReadError(str(error)) from error
            raise


def _tarred(path: Path, losses: Losses) -> Iterator[Member]:
    packed = path.stat().st_size
    read = 0
    try:
        with tarfile.open(path, "r:*", tarinfo=_Header) as archive:
            for info in archive:
                if not info.isfile():
                    continue
                read += info.size
                if read > max(RATIO_FLOOR_BYTES, MAX_RATIO * packed):
                    detail = f"the archive unpacks to more than {MAX_RATIO:g} times its size"
                    yield Member(info.name, _nothing, Reason.TOO_LARGE, detail)
                    return
                yield Member(info.name, partial(_extracted, archive, info))
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError) as error:
        if not read:
            raise DocumentError(Reason.CORRUPT, f"not a readable tar: {error}") from error
        losses.add(LossKind.UNREADABLE_PART, detail=f"the end of the archive: {error}")


def _extracted(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    found = archive.extractfile(info)
    return found if found is not None else io.BytesIO()


def _unpacked(path: Path) -> Iterator[Member]:
    import py7zr

    with tempfile.TemporaryDirectory(prefix="7z-") as folder, py7zr.SevenZipFile(path) as archive:
        archive.extractall(path=folder)
        for found in sorted(Path(folder).rglob("*")):
            if found.is_file() and not found.is_symlink():
                yield Member(found.relative_to(folder).as_posix(), partial(_opened, found))


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def _messages(path: Path) -> Iterator[Member]:
    box = mailbox.mbox(path, create=False)
    try:
        found: list[bytes] = []
        for key in box.keys():  # noqa: SIM118 - a mailbox is no dictionary
            data = box.get_bytes(key, from_=True)
            first, _, rest = data.partition(b"\n")
            if found and not _SENT.search(first) and not _MAIL_FIELD.match(rest):
                found.append(data)  # a sentence that begins with "From ", which programs should have marked
                continue
            yield from _message(b"\n".join(found))
            found = [rest]
        yield from _message(b"\n".join(found))
    finally:
        box.close()


def _message(data: bytes) -> Iterator[Member]:
    if data:
        identity = str(BytesHeaderParser().parsebytes(data).get("Message-ID") or "").strip().encode("utf-8", "replace") or data
        yield Member(f"{hashlib.sha256(identity).hexdigest()[:16]}.eml", partial(io.BytesIO, data))


def _nothing() -> IO[bytes]:
    return io.BytesIO()
