"""Claims: the documents that a worker has leased for a stage."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.types import Stage


@dataclass(frozen=True, slots=True)
class ClaimedDocument:
    """A document as its worker sees it."""

    id: str
    collection: str
    uri: str
    size: int  #: bytes
    content_hash: str
    parse_fingerprint: str  #: of the chunk file that is ready; empty before parsing
    title: str
    media_type: str
    run: int  #: that brought this version
    given: str = ""  #: metadata of its load, as JSON


@dataclass(frozen=True, slots=True)
class Claim:
    """Documents that one worker holds."""

    lease: str
    stage: Stage
    documents: tuple[ClaimedDocument, ...]

    @property
    def run(self) -> int | None:
        """The run that brought the documents; None where it was not one and the same."""
        runs = {document.run for document in self.documents}
        return runs.pop() if len(runs) == 1 else None
