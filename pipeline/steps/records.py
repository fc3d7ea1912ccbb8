"""Records of a document, such as the rows of a table: each becomes a document of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

from pipeline.ledger import Ledger
from pipeline.ledger.claims import ClaimedDocument
from pipeline.ledger.intake import ID_WINDOW, stays
from pipeline.metadata import Given
from pipeline.sandbox.extract import Extracted
from pipeline.sandbox.records import RECORDS, read_records
from pipeline.sources.uris import member_uri
from pipeline.staging import Staging
from pipeline.staging.copies import blob_key
from pipeline.types import Loss, LossKind, SourceFile, StagedFile, document_id


def record(
    ledger: Ledger,
    staging: Staging,
    document: ClaimedDocument,
    made: Extracted,
    folder: Path,
    parse_fingerprint: str,
    on_tick: Callable[[], None],
) -> tuple[Loss, ...]:
    """Stage the records of a document, which are in `folder`, and record them; those that it no longer has are marked as deleted.

    A record whose bytes are known makes no work, nor does it touch staging; one with other metadata embeds nothing. Where some
    records could not be read, none is deleted, as a missing one may be among them: the losses that are returned say so. `on_tick`
    is called often. Raises DocumentError for a file of records that is damaged, NoSpace, CollectionReplaced.
    """
    parent = Given.read(document.given)
    fingerprint = Given(record={}).parse_fingerprint(parse_fingerprint)
    present: set[bytes] = set()
    records = read_records(folder / RECORDS)
    while window := list(islice(records, ID_WINDOW)):
        found: dict[str, tuple[str, bytes]] = {}
        given: dict[str, str] = {}
        for name, content, own in window:
            uri = member_uri(document.uri, name)
            key = document_id(document.collection, uri)
            found[key] = (uri, content)
            given[key] = str(replace(own, option=parent.option, file=parent.file))
        known = ledger.intake.known(list(found))
        staged: dict[str, StagedFile] = {}
        new: dict[str, bytes] = {}
        for key, (uri, content) in found.items():
            content_hash = sha256(content).hexdigest()
            if not stays(known.get(key), content_hash, fingerprint):
                new[content_hash] = content
            staged[key] = StagedFile(SourceFile(uri, None, len(content), 0), content_hash, blob_key(content_hash))
        on_tick()
        staging.put_bytes(new, on_tick)
        ledger.intake.record_members(document.collection, document.run, document.id, staged, {}, fingerprint, given, known)
        present.update(uuid.UUID(key).bytes for key in found)
    gone = [key for key in ledger.intake.members(document.id) if uuid.UUID(key).bytes not in present]
    if gone and not made.whole:
        why = "records that are missing here stay until everything can be read"
        return (Loss(LossKind.RECORD, "", why, len(gone)),)
    ledger.removal.mark(document.collection, gone)
    return ()
