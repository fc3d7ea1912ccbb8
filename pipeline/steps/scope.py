"""The scope of a load, and the documents that its listing found."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.sources.discover import Patterns
from pipeline.sources.uris import Root, root_uri
from pipeline.types import SourceFile


@dataclass(frozen=True, slots=True)
class Scope:
    """Roots, and patterns for their files."""

    roots: Sequence[Root]
    patterns: Patterns = field(default_factory=Patterns)
    elsewhere: Sequence[str] = ()  #: URIs of other sources inside the roots, which own the files there
    formerly: Sequence[str] = ()  #: earlier URIs of the roots, such as the old target of a link
    files: Sequence[SourceFile] = ()  #: files that were handed over, such as uploads, and are in no root
    gone: Sequence[str] = ()  #: URIs whose files no longer exist, as their place has said: their documents are deleted

    def uris(self) -> list[str]:
        """The current URIs of the roots, and those of the files, also of those that are gone."""
        return [*(root_uri(root) for root in self.roots), *(file.uri for file in self.files), *self.gone]

    def is_elsewhere(self, uri: str) -> bool:
        """Whether a file belongs to another source."""
        return any(lies_below(uri, other) for other in self.elsewhere)


@dataclass(slots=True)
class Listed:
    """The documents that a listing found, to find the missing ones afterwards."""

    roots: Sequence[str]  #: URIs of the roots
    ids: set[bytes] = field(default_factory=set)  #: 16 bytes per document
    files: list[int] = field(default_factory=list)  #: number of files, by root
    unlisted: list[str] = field(default_factory=list)  #: folders that could not be listed

    def __post_init__(self) -> None:
        self.files = [0 for _ in self.roots]

    def add(self, document: str, uri: str) -> None:
        """Record a document by id and URI."""
        self.ids.add(uuid.UUID(document).bytes)
        for number, root in enumerate(self.roots):
            if lies_below(uri, root):
                self.files[number] += 1

    def remove(self, document: str, uri: str) -> None:
        """Forget a document that was recorded: its source lists it, and says that it does not exist."""
        self.ids.remove(uuid.UUID(document).bytes)
        for number, root in enumerate(self.roots):
            if lies_below(uri, root):
                self.files[number] -= 1

    def __contains__(self, document: str) -> bool:
        return uuid.UUID(document).bytes in self.ids


def lies_below(uri: str, root: str) -> bool:
    """Whether a URI is the root or below it."""
    return uri == root or uri.startswith(f"{root}/")
