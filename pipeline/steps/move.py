"""Copies staged files to another place; `promote` copies points, `pipeline.ledger.transfer` the ledger."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

from pipeline.files.copy import copy_file
from pipeline.ledger import Ledger
from pipeline.ledger.intake import ID_WINDOW
from pipeline.staging import Batch, Staging
from pipeline.staging.contents import is_chunk_key
from pipeline.types import SourceFile


def put_staged(staging: Staging, batch: Batch, key: str, path: Path) -> None:
    """Put a copy or chunk file of another staging area into this one, in a batch of it; `path` stays."""
    if is_chunk_key(key):
        written = staging.scratch()
        copy_file(path, written)
        batch.put_chunks(key, written)
    else:
        found = path.stat()
        batch.put(SourceFile("", path, found.st_size, found.st_mtime_ns))


def copy_staged(ledger: Ledger, source: Staging, target: Staging, on_file: Callable[[int], None]) -> int:
    """Copy the staged files that the ledger needs, those that are there already excepted; return how many it needs.

    `on_file` gets the number so far. A copy that was interrupted continues. Raises FileNotFoundError for one that vanished
    meanwhile, NoSpace, StagingUnavailable.
    """
    number, contents = 0, source.contents()
    while window := list(islice(contents, ID_WINDOW)):
        idle = {one.key for one in ledger.upkeep.unneeded(window)}
        needed = [one for one in window if one.key not in idle]
        there = target.with_chunks(one.key for one in needed if one.is_chunk_file)
        packed = source.packed(one.key for one in needed if one.packed and one.key not in there)
        with target.batch() as batch:
            for one in needed:
                if one.key in packed:
                    batch.keep(one.key, packed[one.key])
                elif one.key not in there:
                    _copy(source, target, batch, one.key)
                number += 1
                on_file(number)
    return number


def _copy(source: Staging, target: Staging, batch: Batch, key: str) -> None:
    held = target.scratch()
    try:
        source.export(key, held)
        put_staged(target, batch, key, held)
    finally:
        held.unlink(missing_ok=True)
