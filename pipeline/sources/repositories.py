"""URLs of git repositories, and the URIs of the files in them: pure text, no program is called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, quote_from_bytes, unquote

from pipeline.errors import ConfigError

#: Beginning of the URLs of repositories; the protocol follows.
GIT = "git+"

#: Protocols by which repositories are fetched. Plain HTTP and git's own can be changed on the way.
PROTOCOLS = ("https", "ssh", "file")

#: Characters of these URIs that are not percent-encoded, besides letters, digits and `_.-~`.
SAFE = "/@:#[]"

_PLACE = re.compile(r"(?:[\w.~-]+@)?(?:[A-Za-z0-9][\w.-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
#: What a name of a branch or tag cannot contain; see git-check-ref-format. `#` begins the folder of our URLs.
_NO_REF = re.compile(r"^-|[\x00-\x20\x7f~^:?*\[\\#]|\.\.|@\{|//|/$|\.lock$|\.$")

#: Examples for messages.
USAGE = "git+https://host/repository.git, git+ssh://git@host/repository.git or git+file:///path, then @ref and #folder as needed"


@dataclass(frozen=True, slots=True)
class Repository:
    """A part of a repository at a branch, tag or commit."""

    url: str  #: as git takes it
    ref: str  #: branch, tag or commit; empty: the default branch
    folder: str  #: path of a folder or file in it; empty: everything
    base: str  #: beginning of the URIs of its files, up to the `#`

    @property
    def uri(self) -> str:
        """The beginning of the URIs of all files that are meant, without a trailing slash."""
        return self.base + (f"/{quote(self.folder, safe=SAFE)}" if self.folder else "")

    def uri_of(self, path: bytes) -> str:
        """The URI of the file at a path from the root of the repository."""
        return f"{self.base}/{quote_from_bytes(path, safe=SAFE)}"


def is_repository(location: str) -> bool:
    """Whether a location or URI is one of a git repository."""
    return location.lower().startswith(GIT)


def repository(location: str) -> Repository:
    """The repository that a URL means: `git+PROTOCOL://host/path@ref#folder`, as pip has it.

    The ref follows the last `@` of the path; a path that has one itself needs `@HEAD`. Raises ConfigError, whose text has no part
    of the URL: it may have a password in it.
    """
    protocol, _, rest = location[len(GIT) :].partition("://")
    protocol = protocol.lower()
    if protocol not in PROTOCOLS:
        raise ConfigError(f"git+{protocol[:20]}: is not supported; use {USAGE}")
    place, _, folder = rest.partition("#")
    host, _, path = place.partition("/")
    user, at, name = host.rpartition("@")
    if at and (":" in user or protocol == "https"):
        raise ConfigError(
            "a URL of a repository must not contain a password or token; put it into the file of KB_GIT_CREDENTIALS, or use "
            "a credential helper of git or a key of ssh"
        )
    if protocol == "file" and host == "localhost":
        host = ""
    if (protocol == "file") == bool(host) or (host and not _PLACE.fullmatch(host)) or "?" in place:
        raise ConfigError(f"this is no URL of a repository; use {USAGE}")
    path, at, ref = unquote(path).rstrip("/").rpartition("@") if "@" in path else (unquote(path).rstrip("/"), "", "")
    if not path or not path.isprintable():
        raise ConfigError(f"the URL of a repository has no path; use {USAGE}")
    if at and (not ref or _NO_REF.search(ref)):
        raise ConfigError(f"the URL of a repository names no valid branch, tag or commit after its last @; use {USAGE}")
    folder = unquote(folder).strip("/")
    if folder and any(part in ("", ".", "..") or not part.isprintable() for part in folder.split("/")):
        raise ConfigError("the folder after the # of a repository's URL is no path inside the repository")
    start = f"{protocol}://{user + '@' if user else ''}{name.lower()}/"
    named = path + at + ref
    return Repository(
        url=start + quote(path, safe=SAFE), ref="" if ref == "HEAD" else ref, folder=folder,
        base=f"{GIT}{start}{quote(named, safe=SAFE)}#",
    )  # fmt: skip
