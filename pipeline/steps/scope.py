"""What a load looks at, and what it has met there."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.sources.discover import Patterns
from pipeline.sources.uris import Root, root_uri


@dataclass(frozen=True, slots=True)
class Scope:
    """Roots, and which of their files are wanted."""

    roots: Sequence[Root]
    patterns: Patterns = field(default_factory=Patterns)
    elsewhere: Sequence[str] = ()  #: URIs of other sources inside the roots: what lies there is theirs
    formerly: Sequence[str] = ()  #: URIs of what the roots were before, such as the old target of a link

    def uris(self) -> list[str]:
        """The URIs of the roots as they are now."""
        return [root_uri(root) for root in self.roots]

    def is_elsewhere(self, uri: str) -> bool:
        """Whether a file is another source's."""
        return any(lies_below(uri, other) for other in self.elsewhere)


@dataclass(slots=True)
class Listed:
    """What a listing has met, to tell afterwards what it has not."""

    roots: Sequence[str]  #: their URIs
    ids: set[bytes] = field(default_factory=set)  #: 16 bytes a document
    files: list[int] = field(default_factory=list)  #: how many, by root
    unlisted: list[str] = field(default_factory=list)  #: folders that could not be listed

    def __post_init__(self) -> None:
        self.files = [0 for _ in self.roots]

    def add(self, document: str, uri: str) -> None:
        """Note a document by id and URI."""
        self.ids.add(uuid.UUID(document).bytes)
        for number, root in enumerate(self.roots):
            if lies_below(uri, root):
                self.files[number] += 1

    def __contains__(self, document: str) -> bool:
        return uuid.UUID(document).bytes in self.ids


def lies_below(uri: str, root: str) -> bool:
    """Whether a URI is that of a root, or of something below it."""
    return uri == root or uri.startswith(f"{root}/")
