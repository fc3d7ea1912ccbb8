"""The cost of the records of a file, found without changing anything."""

from __future__ import annotations

import random
from hashlib import sha256
from itertools import islice
from pathlib import Path

from pipeline.ledger import Ledger
from pipeline.ledger.intake import ID_WINDOW
from pipeline.sandbox.extract import ExtractJob
from pipeline.sandbox.guard import ParseGuard
from pipeline.sandbox.records import RECORDS, read_records
from pipeline.sources.uris import member_uri
from pipeline.steps.sampling import SEED, Estimate, Sampled, extrapolate
from pipeline.types import document_id

#: Maximum number of new and changed records of a file whose chunks are counted. Of more, this many are chosen at random.
SAMPLE_RECORDS = 64


def cost(ledger: Ledger, guard: ParseGuard, generation: str, uri: str, folder: Path) -> tuple[Estimate, bool]:
    """The chunks of the new and changed records of the file at `uri`, and whether they were estimated from a sample.

    `folder` has the records, as the guarded child wrote them. Raises DocumentError (corrupt).
    """
    chance = random.Random(SEED)
    sample: list[bytes] = []
    count = size = 0
    records = read_records(folder / RECORDS)
    while window := list(islice(records, ID_WINDOW)):
        found = {document_id(generation, member_uri(uri, name)): content for name, content, _ in window}
        known = ledger.intake.known(list(found))
        for key, content in found.items():
            if key in known and known[key].indexed_hash == sha256(content).hexdigest():
                continue
            count, size = count + 1, size + len(content)
            if len(sample) < SAMPLE_RECORDS:
                sample.append(content)
            elif (at := chance.randrange(count)) < SAMPLE_RECORDS:
                sample[at] = content
    if not count:
        return Estimate(0.0, 0.0, 0.0, 0), False
    return extrapolate(_parsed(guard, sample, folder), count, size), count > len(sample)


def _parsed(guard: ParseGuard, contents: list[bytes], folder: Path) -> list[Sampled]:
    """The chunks of some records."""
    jobs, sampled = [], {}
    for number, content in enumerate(contents):
        path, key = folder / str(number), document_id("", str(number))
        path.write_bytes(content)
        sampled[key] = Sampled(len(content), 0, 0)
        jobs.append(ExtractJob(str(path), path.name, key, f"{path}.chunks", is_record=True))
    for outcome in guard.run(jobs, lambda: None):
        if (made := outcome.extracted) is not None:
            key = outcome.job.document_id
            sampled[key] = Sampled(sampled[key].size, made.chunks, made.tokens)
    return list(sampled.values())
