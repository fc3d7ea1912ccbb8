"""What decides whether a document must be processed again: the collection and the fingerprints of the configuration."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipeline.errors import ConfigError
from pipeline.ledger import Ledger
from pipeline.ledger.generations import Collection
from pipeline.settings import Settings
from pipeline.telemetry.tracing import check_tracing
from pipeline.types import Program


@dataclass(frozen=True, slots=True)
class Prepared:
    """What decides whether a document must be worked on again."""

    collection: Collection  #: the live generation
    parse_fingerprint: str
    embed_fingerprint: str
    programs: frozenset[Program]  #: programs that need not be installed, and are


def prepare(settings: Settings, ledger: Ledger, name: str, *, create: bool) -> Prepared:
    """Fingerprints of this configuration, and the collection's row in the ledger; `create` records a new one.

    Raises ConfigError, ModelError, and CollectionMismatch when the collection was made with another model.
    """
    check_tracing(settings)
    from pipeline.embed import dimension_of
    from pipeline.embed.base import embed_fingerprint
    from pipeline.model.files import resolve_limit, resolve_tokenizer
    from pipeline.parse.programs import installed_programs
    from pipeline.sandbox.guard import GuardOptions
    from pipeline.store.names import check_name, physical_name

    check_name(name)
    taken = ledger.collections.get(name)
    if taken is not None and taken.public != name:
        raise ConfigError(f"{name!r} is a generation of the collection {taken.public!r}; use that name")
    found = ledger.collections.live(name)
    if found is not None:
        settings = settings.of_collection(found.profile)
    dimension = dimension_of(settings)
    fingerprint = embed_fingerprint(settings, dimension)
    options = GuardOptions.from_settings(settings, resolve_tokenizer(settings), resolve_limit(settings))
    parse = options.fingerprint()
    if found is None:
        new = Collection(
            name=name,
            physical=physical_name(name, fingerprint),
            model=settings.model,
            revision=settings.model_revision,
            dimension=dimension,
            fingerprint=fingerprint,
            canary="",
            created_at=time.time(),
        )
        found = ledger.collections.add(new) if create else new
    found.require_model(fingerprint, settings.model)
    return Prepared(found, parse, fingerprint, installed_programs(options.limits.ocr))
