"""Files that lie in an object store and not in a folder: which URLs they have, and what opens them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError, KbError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

#: What a store says of a version of an object, the surest first.
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
    """The file system of a protocol; keys and endpoints come from where its client looks for them.

    Listings are not kept: the next one must see what has changed. Raises ConfigError for a protocol that is not installed.
    """
    import fsspec

    if protocol in ("http", "https"):
        raise ConfigError(f"{protocol}:// has no listings to rely on; use the store's own protocol, such as s3://")
    try:
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except (ImportError, ValueError, TypeError) as error:  # TypeError: it wants to be told a host first
        raise ConfigError(f"{protocol}://: {error}") from error


@contextmanager
def client_errors() -> Iterator[None]:
    """Turn what the stores' clients raise, each errors of its own, into OSError; what is OSError already stays as it is."""
    try:
        yield
    except (OSError, KbError, GeneratorExit):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def version_of(status: Mapping[str, Any]) -> int:
    """A number below 2**56 that differs when an object's content does, made from what the store says of its version."""
    for key in _VERSION_KEYS:
        found = status.get(key)
        if isinstance(found, datetime):  # some tell the same time as a number elsewhere
            found = found.timestamp()
        if found:
            return int.from_bytes(hashlib.blake2b(str(found).encode(), digest_size=7).digest(), "big")
    return 0
