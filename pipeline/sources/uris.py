"""Roots, URIs and paths: pure text functions that access no disk and no server."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from pipeline.sources.pages import is_page, page_name, site
from pipeline.sources.repositories import SAFE, is_repository, repository
from pipeline.text import visible


def is_url(location: str) -> bool:
    """Whether a location is the URL of an object store or of another remote source; a `file://` URL is a folder."""
    return "://" in location and not location.startswith("file://")


def split_url(url: str) -> tuple[str, str]:
    """Protocol and path of an object's URL or URI, as `s3` and `bucket/key`; percent-encoding stays unchanged."""
    protocol, _, path = url.partition("://")
    return protocol.lower(), path.strip("/")


def object_uri(protocol: str, path: str) -> str:
    """The URI of an object, percent-encoded like those of files."""
    return f"{protocol}://{quote_from_bytes(path.strip('/').encode('utf-8', 'surrogateescape'))}"


def object_path(uri: str) -> tuple[str, str]:
    """Protocol and plain path of an object's URI."""
    protocol, path = split_url(uri)
    return protocol, unquote_to_bytes(path).decode("utf-8", "surrogateescape")


def is_remote(location: object) -> bool:
    """Whether a root or a URI is one of a git repository or a website."""
    return isinstance(location, str) and (is_repository(location) or is_page(location))


#: Where a listing begins: a folder or file, or the URL of objects, of a repository or of a website.
Root = Path | str


def root_of(location: str) -> Root:
    """The root that a PATH or URL from the command line stands for. Raises ConfigError for a URL that cannot be used."""
    if is_url(location):
        if is_repository(location):
            repository(location)
        elif is_page(location):
            site(location)
        return location
    return path_of(location) if location.startswith("file://") else Path(location)


def root_uri(root: Root) -> str:
    """The beginning of all URIs below a root, without a trailing slash; for a root that is a file, its URI."""
    if isinstance(root, str):
        if is_page(root):
            return site(root).root
        return repository(root).uri if is_repository(root) else object_uri(*split_url(root))
    return uri_of(root.expanduser().resolve()).rstrip("/")


def uri_of(path: Path) -> str:
    """The `file://` URI of an absolute path; names that are not valid text are preserved, percent-encoded byte by byte."""
    return "file://" + quote_from_bytes(os.fsencode(path))


def path_of(uri: str) -> Path:
    """The path of a `file://` URI."""
    return Path(os.fsdecode(unquote_to_bytes(uri.removeprefix("file://"))))


#: Between the URI of a document and the path of a file inside it. In the paths of files, `!` is percent-encoded.
MEMBER = "!/"


def member_uri(uri: str, path: str) -> str:
    """The URI of a file inside the document at `uri`."""
    return f"{uri}{MEMBER}{quote_from_bytes(path.encode('utf-8', 'surrogateescape'))}"


def parent_uri(uri: str) -> str:
    """The URI of the document that contains the file at `uri`; empty for a file of its own."""
    return uri.rpartition(MEMBER)[0]


def depth_of(uri: str) -> int:
    """Number of documents around the file at `uri`."""
    return uri.count(MEMBER)


@lru_cache(maxsize=1 << 12)  # each step asks for the names of a batch several times
def name_of(uri: str) -> str:
    """The name of the file or object at a URI, ending included."""
    if is_page(uri):
        return page_name(uri)
    return path_of(uri).name if uri.startswith("file://") else PurePosixPath(object_path(uri)[1]).name


def folder_of(uri: str) -> str:
    """The folder of the file at a URI, or the URL of the object's folder, for display and filters; it can always be stored."""
    if uri.startswith("file://"):
        return _shown(uri.rpartition("/")[0])
    if is_page(uri):  # as people know it, so with its percent-encoding
        return uri.rpartition("/")[0]
    if is_repository(uri):
        return unquote_to_bytes(uri.rpartition("/")[0]).decode("utf-8", "replace")
    protocol, path = object_path(uri)
    return f"{protocol}://{path.rpartition('/')[0]}".encode("utf-8", "replace").decode()


def quoted_path(protocol: str, path: str) -> str:
    """What follows `://` in URIs of a protocol, percent-encoded as these URIs have it."""
    if is_page(f"{protocol}://"):
        return path.replace("!", "%21")
    return quote(path, safe=SAFE if is_repository(f"{protocol}://") else "/")


@lru_cache(maxsize=1 << 10)  # each of its files asks
def _shown(folder: str) -> str:
    return str(path_of(folder if folder != "file://" else "file:///")).encode("utf-8", "replace").decode()


def shown_path(uri: str) -> str:
    """Folder and name of the file or object at a URI human-readable: not percent-encoded, with nothing hidden; a page's URL."""
    if is_page(uri):
        return visible(uri)
    return visible(f"{folder_of(uri).rstrip('/')}/{name_of(uri)}")
