"""Files that lie in an object store and not in a folder: which URLs they have, and what opens them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

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


def is_url(location: str) -> bool:
    """Whether a location is a URL of an object store; `file://` is a folder's."""
    return "://" in location and not location.startswith("file://")


def split_url(url: str) -> tuple[str, str]:
    """Protocol and path of an object's URL or URI, as `s3` and `bucket/key`; percent-encoding stays as it is."""
    protocol, _, path = url.partition("://")
    return protocol.lower(), path.strip("/")


def object_uri(protocol: str, path: str) -> str:
    """The URI of an object, percent-encoded as those of files are."""
    return f"{protocol}://{quote_from_bytes(path.strip('/').encode('utf-8', 'surrogateescape'))}"


def object_path(uri: str) -> tuple[str, str]:
    """Protocol and plain path of an object's URI."""
    protocol, path = split_url(uri)
    return protocol, unquote_to_bytes(path).decode("utf-8", "surrogateescape")


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
