"""The file in which the guarded child hands over the records of a document; its reader trusts nothing in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DocumentError
from pipeline.metadata import Given
from pipeline.types import MAX_RECORD_ID_CHARS, Reason

if TYPE_CHECKING:  # its parsers load in a child only
    from pipeline.parse.record_documents import RecordDocument

#: Name of the file in the folder for files inside a document.
RECORDS = "records.jsonl"


def write_records(path: Path, records: Iterable[RecordDocument], max_bytes: int, tell: Callable[[], None]) -> int:
    """Write records, and return their number; `tell` is called after each. Raises DocumentError (too_large)."""
    count = size = 0
    with path.open("wb") as file:
        for record in records:
            line = json.dumps({"id": record.id, "content": record.content, "given": record.given}).encode("ascii") + b"\n"
            size += len(line)
            if size > max_bytes:
                raise DocumentError(Reason.TOO_LARGE, f"its records have more than {max_bytes} bytes as documents")
            file.write(line)
            count += 1
            tell()
    return count


def read_records(path: Path) -> Iterator[tuple[str, bytes, Given]]:
    """Ids, contents and metadata of the records in a file, lazily. Raises DocumentError (corrupt)."""
    try:
        with path.open("rb") as file:
            for line in file:
                fields = json.loads(line)
                key, content, given = str(fields["id"]), str(fields["content"]), Given.read(str(fields["given"]))
                if not 0 < len(key) <= MAX_RECORD_ID_CHARS:
                    raise ValueError("an id of an unexpected length")
                # Only what a record may say of itself.
                yield key, content.encode(), Given(record=dict(given.record or {}), wrong=tuple(map(str, given.wrong)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DocumentError(Reason.CORRUPT, f"its records cannot be read: {type(error).__name__}: {error}"[:300]) from error
