"""Copies a collection from one store to another with vectors and payloads, then points the alias at the copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from pipeline.errors import ConfigError, StoreUnavailable
from pipeline.store.base import VectorStore

#: Points in memory at a time; the target splits them by its own limits.
_PAGE_POINTS = 1024


@dataclass(frozen=True, slots=True)
class PromoteReport:
    """Counts of a copy."""

    copied: int  #: points written to the target in this run
    source_count: int  #: points of the source after the copy
    target_count: int  #: points of the target after the copy, the same number


def promote(
    source: VectorStore, target: VectorStore, physical: str, alias: str, on_progress: Callable[[int, int], None]
) -> PromoteReport:
    """Copy `physical` to the target under the same name; set `alias` there once the counts agree, unless it is empty.

    `on_progress(copied, total)` is called after every page. An interrupted copy is repeated from the start: ids stay the
    same, so nothing is duplicated. Nothing is ever deleted from the target.

    If the counts differ at the end, the alias stays unchanged. Raises StoreUnavailable if points are missing because the
    source was written to meanwhile, and ConfigError if the target holds points that the source lacks. CollectionMismatch,
    CollectionMissing and the stores' own errors pass through.
    """
    total = source.count(physical)
    target.create(physical, source.dimension(physical), parts=source.has_parts(physical))
    target.add_fields(physical, source.fields(physical))
    points, copied = source.scan_points(physical), 0
    while page := list(islice(points, _PAGE_POINTS)):
        target.upsert(physical, page)
        copied += len(page)
        on_progress(copied, total)
    target.flush(physical)
    source_count, target_count = source.count(physical), target.count(physical)
    if target_count > source_count:
        raise ConfigError(
            f"the target's collection {physical!r} holds {_points(target_count - source_count)} that the source lacks; "
            "drop it there and promote again"
        )
    if target_count < source_count:
        raise StoreUnavailable(
            f"the source's collection {physical!r} grew by {_points(source_count - target_count)} while it was copied; "
            "wait until the load is done and promote again"
        )
    if alias:
        target.set_alias(alias, physical)
    return PromoteReport(copied, source_count, target_count)


def _points(number: int) -> str:
    return f"{number} point" if number == 1 else f"{number} points"
