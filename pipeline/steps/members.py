"""Files inside documents, such as attachments and the contents of archives: each becomes a document of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.errors import DocumentError
from pipeline.ledger import Ledger
from pipeline.ledger.claims import ClaimedDocument
from pipeline.ledger.intake import Refused
from pipeline.sandbox.extract import ExtractedMember
from pipeline.sources.uris import member_uri
from pipeline.staging import Staging
from pipeline.types import SourceFile, StagedFile, document_id


def record(
    ledger: Ledger, staging: Staging, document: ClaimedDocument, members: Sequence[ExtractedMember], folder: Path, fingerprint: str
) -> None:
    """Stage the files of a document, which are in `folder`, and record them; those that it no longer has are marked as deleted.

    A file whose bytes are known, and were parsed with this fingerprint, makes no work. Raises NoSpace, CollectionReplaced.
    """
    staged: dict[str, StagedFile] = {}
    refused: dict[str, Refused] = {}
    with staging.batch() as batch:
        for member in members:
            uri = member_uri(document.uri, member.name)
            key = document_id(document.collection, uri)
            path = folder / member.file
            if member.reason is not None:
                refused[key] = Refused(SourceFile(uri, None, 0, 0), member.reason, member.detail)
                continue
            try:
                copy = batch.put(SourceFile(uri, path, path.stat().st_size, 0))
            except DocumentError as error:
                refused[key] = Refused(SourceFile(uri, None, 0, 0), error.reason, error.detail)
            else:
                # The time of the temporary file says nothing.
                staged[key] = replace(copy, source=replace(copy.source, path=None, mtime_ns=0))
            finally:
                path.unlink(missing_ok=True)
    ledger.intake.record_members(document.collection, document.run, document.id, staged, refused, fingerprint)
    there = staged.keys() | refused.keys()
    ledger.removal.mark(document.collection, [key for key in ledger.intake.members(document.id) if key not in there])
