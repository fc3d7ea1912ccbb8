"""The choice of a collection: the named one, the default, or the only one; and the error for a missing one."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.errors import CollectionMissing
from pipeline.settings import Settings

#: Maximum number of collections that a message names.
MAX_NAMED = 20


def missing(name: str, names: Iterable[str]) -> CollectionMissing:
    """The error for a collection that is not among those that exist."""
    existing = sorted(names)
    if not existing:
        return CollectionMissing(f"there is no collection {name!r}, nor any other; `kb-ingest load PATH` makes one")
    return CollectionMissing(f"there is no collection {name!r}; existing: {_listed(existing)}")


def is_named(settings: Settings) -> bool:
    """Whether the collection is named, in the command or as KB_COLLECTION."""
    return "collection" in settings.model_fields_set


def chosen(settings: Settings, names: Iterable[str]) -> Settings:
    """Settings with the chosen collection: the named one, else the default if it exists, else the only one.

    Raises CollectionMissing, with the names of the existing ones, if the named one is missing or there are several.
    """
    existing = sorted(names)
    if settings.collection in existing:
        return settings
    if is_named(settings):
        raise missing(settings.collection, existing)
    if not existing:
        raise CollectionMissing("there is no collection yet; `kb-ingest load PATH` makes one")
    if len(existing) > 1:
        raise CollectionMissing(f"there are several collections: {_listed(existing)}; name one with --collection or KB_COLLECTION")
    return settings.model_copy(update={"collection": existing[0]})


def _listed(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(map(repr, names[:MAX_NAMED])) + (f" and {more} more" if more > 0 else "")
