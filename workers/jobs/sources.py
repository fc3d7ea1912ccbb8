"""What a load loads: a job, and the job of a named source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import SourceError
from pipeline.ledger import Ledger
from pipeline.ledger.sources import Source
from pipeline.metadata import Raw
from pipeline.settings import Settings
from pipeline.sources.discover import Patterns
from pipeline.sources.uris import root_of, root_uri
from pipeline.steps.scope import Scope, lies_below
from pipeline.types import RecordFields


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be loaded, and how."""

    scope: Scope
    action: str = "load"  #: as it stands in the ledger
    source: str = ""
    schedule: str = ""
    sync: bool = False  #: what the ledger knows in this scope and is no longer there is deleted
    allow_delete: bool = False  #: a person's word that many deletions, or an empty source, are meant
    wait: bool = True
    checksum: bool = False
    meta: Mapping[str, Raw] = field(default_factory=dict)  #: metadata of all its documents
    records: RecordFields | None = None  #: how the records of its files are documents; None: as in earlier loads
    token: str = ""  #: name of the token with which the service was asked for it


def source_job(ledger: Ledger, settings: Settings, name: str) -> tuple[Source, Job]:
    """A named source, and the job that keeps its collection equal to it; raises SourceError."""
    every = ledger.sources.all()
    source = next((one for one in every if one.name == name), None)
    if source is None:
        names = ", ".join(one.name for one in every) or "none yet"
        raise SourceError(f"there is no source {name!r} (known: {names}); `kb-ingest source add` makes one")
    root = root_of(source.location)
    uri = root_uri(root)
    formerly = (source.root,) if source.root not in ("", uri) else ()
    patterns = Patterns(source.include, source.exclude, settings.ignore, settings.hidden)
    scope = Scope([root], patterns, sources_inside(ledger, source.collection, [uri]), formerly)
    return source, Job(scope, action="sync", source=name, sync=True, records=source.records)


def sources_inside(ledger: Ledger, collection: str, uris: Sequence[str]) -> list[str]:
    """URIs of a collection's sources that lie inside of these roots: their documents are their own matter."""
    every = [root_uri(root_of(one.location)) for one in ledger.sources.all() if one.collection == collection]
    return [one for one in every if any(one != uri and lies_below(one, uri) for uri in uris)]
