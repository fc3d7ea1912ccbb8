"""Files in an object store instead of a folder: their URLs, and the clients that open them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError, KbError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

#: Keys under which stores report the version of an object, the most reliable first.
_VERSION_KEYS = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "generation",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)


def open_files(protocol: str) -> AbstractFileSystem:
    """The file system of a protocol; its client finds keys and endpoints in its usual places.

    Listings are not cached: the next one must see all changes. Raises ConfigError for a protocol that is not installed.
    """
    import fsspec

    try:
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except (ImportError, ValueError, TypeError) as error:  # TypeError: the protocol needs a host
        raise ConfigError(f"{protocol}://: {error}") from error


@contextmanager
def client_errors() -> Iterator[None]:
    """Turn the errors of the stores' clients, each of which has its own, into OSError; an OSError stays unchanged."""
    try:
        yield
    except (OSError, KbError, GeneratorExit):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def version_of(status: Mapping[str, Any]) -> int:
    """A number below 2**56 that changes when an object's content does, derived from the version that the store reports."""
    for key in _VERSION_KEYS:
        found = status.get(key)
        if isinstance(found, datetime):  # some stores report the same time as a number elsewhere
            found = found.timestamp()
        if found:
            return int.from_bytes(hashlib.blake2b(str(found).encode(), digest_size=7).digest(), "big")
    return 0


def modified_at(status: Mapping[str, Any]) -> float:
    """When an object was stored, in seconds since the epoch; now, where the store does not tell."""
    told = told_time(status)
    return time.time() if told is None else told


def told_time(status: Mapping[str, Any]) -> float | None:
    """When an object was stored, in seconds since the epoch, as the store tells; None where it does not."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "modified", "created"):
        found = status.get(key)
        try:
            if isinstance(found, str):
                found = datetime.fromisoformat(found)
            if isinstance(found, datetime):
                return found.timestamp()
        except ValueError:
            continue
        if isinstance(found, int | float):
            return float(found)
    return None
