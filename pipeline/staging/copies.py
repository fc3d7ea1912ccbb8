"""Hashed copies: made from files and objects that may change meanwhile, and checked before use. Also their keys."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import DocumentError
from pipeline.files.errors import translated
from pipeline.sources.objects import client_errors, open_files, told_time, version_of
from pipeline.sources.uris import object_path
from pipeline.staging.contents import is_chunk_key
from pipeline.types import Reason, SourceFile

#: Bytes of one read while copying.
COPY_WINDOW = 1 << 20


#: Attempts to copy a file that changes while it is being copied.
COPY_TRIES = 3


def chunks_key(parse_fingerprint: str, content_hash: str, name: str) -> str:
    """The key of the chunk file for some bytes under some name.

    It contains the name's ending because the ending takes part in deciding the type of the bytes.
    """
    ending = re.sub(r"[^a-z0-9]", "", os.path.splitext(name)[1].lower())[:8]
    return f"chunks/{parse_fingerprint}/{content_hash[:2]}/{content_hash}{'.' + ending if ending else ''}.jsonl.gz"


def blob_key(content_hash: str) -> str:
    """The key of the copy with this hash; 256 folders keep each of them listable."""
    return f"blobs/{content_hash[:2]}/{content_hash}"


def split_key(key: str) -> tuple[bytes, str] | None:
    """The hash in a key, and a label for the rest: empty for a copy; None for a key without a hash."""
    folder, _, name = key.rpartition("/")
    try:
        digest = bytes.fromhex(name[:64])
    except ValueError:
        return None
    if len(digest) != 32:
        return None
    return digest, f"{folder[7:-3]}/{name[64:]}" if is_chunk_key(key) else ""


def join_key(digest: bytes, label: str) -> str:
    """The key with this hash and label."""
    content_hash = digest.hex()
    if not label:
        return blob_key(content_hash)
    fingerprint, _, ending = label.partition("/")
    return f"chunks/{fingerprint}/{content_hash[:2]}/{content_hash}{ending}"


def read_hashed(source: SourceFile, max_bytes: int) -> tuple[str, SourceFile, bytes] | None:
    """Read a regular file or an object of at most `max_bytes`; return its sha256, the source as `copy_hashed` does, and its bytes.

    None for a larger one, and one that changes. Raises DocumentError (unreadable).
    """
    if source.size > max_bytes:
        return None
    if source.path is None:
        return _read_object(source, max_bytes)
    try:
        handle = _opened(source.path)
        try:
            before = os.fstat(handle)
            _check_regular(before)
            data = os.read(handle, max_bytes + 1)
            after = os.fstat(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise DocumentError(Reason.UNREADABLE, error.strerror or str(error)) from error
    # A read may also end early: then it is copied.
    if len(data) != after.st_size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return None
    found = replace(source, size=len(data), mtime_ns=after.st_mtime_ns, modified=after.st_mtime)
    return hashlib.sha256(data).hexdigest(), found, data


def _read_object(source: SourceFile, max_bytes: int) -> tuple[str, SourceFile, bytes] | None:
    protocol, path = object_path(source.uri)
    files = open_files(protocol)
    try:
        with client_errors():
            before = files.info(path)
            with files.open(path, "rb") as reader:
                data = reader.read(max_bytes + 1)
            after = files.info(path)
    except OSError as error:
        raise DocumentError(Reason.UNREADABLE, error.strerror or str(error)) from error
    version = version_of(after)
    if len(data) > max_bytes or len(data) != after.get("size", len(data)) or version_of(before) != version:
        return None
    return hashlib.sha256(data).hexdigest(), replace(source, size=len(data), mtime_ns=version, modified=told_time(after)), data


def _opened(path: Path) -> int:
    # O_NONBLOCK: a fifo that has replaced the file must not block this process.
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise DocumentError(Reason.UNREADABLE, "is not a regular file")


def copy_hashed(source: SourceFile, target: Path) -> tuple[str, SourceFile]:
    """Copy a regular file or an object to `target`; return its sha256, and the source with the size and time of the copied version.

    Raises DocumentError with `unreadable`, or `changed` when it changed during each of COPY_TRIES attempts.
    """
    if source.path is None:
        return _copy_object(source, target)
    for attempt in range(COPY_TRIES):
        try:
            handle = _opened(source.path)
        except OSError as error:
            raise DocumentError(Reason.UNREADABLE, error.strerror or str(error)) from error
        with os.fdopen(handle, "rb", buffering=0) as reader:
            before = os.fstat(reader.fileno())
            _check_regular(before)
            digest, size = _copy(reader, target)
            after = os.fstat(reader.fileno())
        if size == after.st_size and (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            return digest, replace(source, size=size, mtime_ns=after.st_mtime_ns, modified=after.st_mtime)
        time.sleep(0.05 * (attempt + 1))
    raise _changed()


def _copy_object(source: SourceFile, target: Path) -> tuple[str, SourceFile]:
    protocol, path = object_path(source.uri)
    files = open_files(protocol)
    for attempt in range(COPY_TRIES):
        try:
            with client_errors():
                before = files.info(path)
                with files.open(path, "rb") as reader:
                    digest, size = _copy(reader, target)
                after = files.info(path)
        except OSError as error:
            raise DocumentError(Reason.UNREADABLE, error.strerror or str(error)) from error
        version = version_of(after)
        if size == after.get("size", size) and version_of(before) == version:
            return digest, replace(source, size=size, mtime_ns=version, modified=told_time(after))
        time.sleep(0.05 * (attempt + 1))
    raise _changed()


def _changed() -> DocumentError:
    return DocumentError(
        Reason.CHANGED, f"it changed in each of {COPY_TRIES} attempts to copy it; load it again when it has settled"
    )


def _copy(reader: BinaryIO | object, target: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with target.open("wb", buffering=0) as writer:
        while True:
            try:
                window = reader.read(COPY_WINDOW)  # type: ignore[union-attr]
            except OSError as error:
                raise DocumentError(Reason.UNREADABLE, error.strerror or str(error)) from error
            if not window:
                return digest.hexdigest(), size
            digest.update(window)
            size += len(window)
            written = 0
            while written < len(window):  # an unbuffered write may be partial and reports that only in its result
                written += writer.write(window[written:])


def check_blob(path: Path, content_hash: str) -> None:
    """Read a whole copy; remove it when its content does not match the hash in its name.

    Raises DocumentError (staged_lost), and ConfigError where this user must not read it.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as reader:
            while window := reader.read(COPY_WINDOW):
                digest.update(window)
    except PermissionError as error:  # affects every copy: no document is at fault
        raise translated(error, path) from error
    except OSError as error:
        raise DocumentError(Reason.STAGED_LOST, f"{error.strerror}; load the document again") from error
    if digest.hexdigest() != content_hash:
        path.unlink(missing_ok=True)
        raise DocumentError(Reason.STAGED_LOST, "its copy in staging was damaged and has been removed; load the document again")


def lost(key: str) -> DocumentError:
    """The error for a content that is not in staging."""
    return DocumentError(Reason.STAGED_LOST, f"{key} is not in staging; load the document again")


def exists(path: Path | str) -> bool:
    """Whether a file exists. Raises OSError where that cannot be known, as a Path does, in a third of its time."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def touch(blob: str, size: int) -> bool:
    """Whether a copy of this size is there; if so, its time becomes now."""
    try:
        if os.stat(blob).st_size != size:
            return False
        os.utime(blob)
    except FileNotFoundError:
        return False
    except PermissionError:  # another user's, in a shared folder: only its owner may set its time
        return False
    return True
