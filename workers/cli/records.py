"""Options that say how the records of files become documents."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from workers.cli.context import say

if TYPE_CHECKING:
    from pipeline.types import RecordFields

C = TypeVar("C", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--records/--no-records",
        "wanted",
        default=None,
        help="Make each line of JSON lines, object of an array in JSON and row of a CSV or TSV a document of its own, or stop "
        "doing so (default: as in the last load of the file).",
    ),
    click.option(
        "--record-id", metavar="FIELD", help="Field that identifies a record (default: id or _id, else a hash of the record)."
    ),
    click.option(
        "--record-array", metavar="PATH", help="Of a JSON object, the array of records, such as data.items (default: its only one)."
    ),
    click.option("--record-text", multiple=True, metavar="FIELDS", help="Fields that are text, such as title,body (default: all)."),
    click.option(
        "--record-metadata",
        multiple=True,
        metavar="FIELDS",
        help="Fields to store as metadata, which filters can use, such as team,priority (default: none).",
    ),
)


def records_options(command: C) -> C:
    """`--records` and what belongs to it, as the argument `records`: RecordFields, or None without any of these options."""

    @functools.wraps(command)
    def decoded(
        *args: Any,
        wanted: bool | None,
        record_id: str | None,
        record_array: str | None,
        record_text: tuple[str, ...],
        record_metadata: tuple[str, ...],
        **others: Any,
    ) -> Any:
        return command(*args, records=_chosen(wanted, record_id, record_array, record_text, record_metadata), **others)

    made: Any = decoded
    for option in reversed(_OPTIONS):
        made = option(made)
    return made  # type: ignore[no-any-return]


def say_without_records(paths: Sequence[str], records: RecordFields | None) -> None:
    """Name the files among PATHs that were named themselves, and whose records cannot be documents."""
    from pathlib import Path

    from pipeline.parse.kinds import may_hold_records

    if records is not None and records.wanted:
        for path in paths:
            if Path(path).is_file() and not may_hold_records(path):
                say(f"{path}: --records reads JSON lines, JSON, CSV and TSV by the ending of the name; this file is one document")


def _chosen(
    wanted: bool | None, key: str | None, array: str | None, text: Sequence[str], metadata: Sequence[str]
) -> RecordFields | None:
    from pipeline.metadata import record_field_name, why_not
    from pipeline.types import RecordFields

    texts, fields = _listed(text), _listed(metadata)
    if wanted is None and not (key or array or texts or fields):
        return None
    if wanted is False and (key or array or texts or fields):
        raise click.UsageError("--no-records: leave out --record-id, --record-array, --record-text and --record-metadata")
    for one in fields:
        if why := why_not(record_field_name(one)):
            raise click.UsageError(f"--record-metadata {one}: {why}")
    return RecordFields((key or "").strip(), texts, fields, wanted is not False, (array or "").strip())


def _listed(options: Sequence[str]) -> tuple[str, ...]:
    """The fields of an option that is repeated or has several, separated by commas; each once."""
    return tuple(dict.fromkeys(one.strip() for option in options for one in option.split(",") if one.strip()))
