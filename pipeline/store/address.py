"""The address of a Qdrant server, and the oldest version that is supported."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pipeline.errors import ConfigError
from pipeline.urls import mask_url

#: The first version with indexes of prefixes, which filters by folder and URI need.
MIN_VERSION = (1, 19)

_VERSION = re.compile(r"(\d+)\.(\d+)")


def host_of(url: str) -> str:
    """The host that `url` names. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise ConfigError(f"KB_QDRANT_URL is not a valid URL: {error}; use a URL such as http://127.0.0.1:6333") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"KB_QDRANT_URL {mask_url(url)!r}: use a URL such as http://127.0.0.1:6333")
    if parts.username or parts.password:
        raise ConfigError("KB_QDRANT_URL contains a user or password, which Qdrant does not support; set KB_API_KEY instead")
    return host


def check_version(version: str, url: str) -> None:
    """Raises ConfigError for a server that is too old; a version that cannot be read passes."""
    found = _VERSION.match(version)
    if found and (int(found[1]), int(found[2])) < MIN_VERSION:
        least = ".".join(map(str, MIN_VERSION))
        raise ConfigError(
            f"Qdrant at {url} has version {version}, and kb-ingest needs {least} or newer: older ones cannot filter by folder "
            "or the beginning of a URI. Update the server; its collections stay as they are"
        )
