"""Options shared by several commands, and the choice of the collection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

if TYPE_CHECKING:
    from pipeline.ledger import Ledger
    from pipeline.settings import Settings
    from pipeline.store.base import VectorStore

C = TypeVar("C", bound=Callable[..., Any])


def json_option(command: C) -> C:
    """`--json`, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(command)


def strict_options(command: C) -> C:
    """`--strict` and `--fail-on-loss`: what else counts as a failure."""
    strict = click.option("--strict", is_flag=True, help="Exit with 3 if documents were skipped, too.")
    loss = click.option(
        "--fail-on-loss", is_flag=True, help="Exit with 3 if parts of the documents that this run indexed could not be read, too."
    )
    return strict(loss(command))


def collection_option(text: str) -> Callable[[C], C]:
    """`--collection`; `text` is the help text."""
    return click.option("--collection", "-c", metavar="NAME", help=text)


def existing_collection_option(purpose: str) -> Callable[[C], C]:
    """`--collection` of a command that needs an existing collection; `purpose` completes "Collection to"."""
    return collection_option(f"Collection to {purpose} (KB_COLLECTION; default: the only existing collection).")


def of_ledger(settings: Settings, ledger: Ledger) -> Settings:
    """Settings with the chosen collection of the ledger; raises CollectionMissing."""
    from pipeline.store.choice import chosen

    return chosen(settings, ledger.collections.names())


def of_store(settings: Settings, store: VectorStore) -> Settings:
    """Settings with the chosen collection of the store, for commands that need no ledger; raises CollectionMissing.

    A collection that was named is not looked up here: the first request of the command does so.
    """
    from pipeline.store.choice import chosen, is_named

    return settings if is_named(settings) else chosen(settings, store.aliases())


def check_filters(filters: Sequence[str]) -> None:
    """Raise UsageError for a filter that cannot be read, before a store is opened or a model is loaded."""
    from pipeline.errors import FilterError
    from pipeline.filters import tree_of

    for text in filters:
        try:
            tree_of([text])
        except FilterError as error:
            raise click.UsageError(f"--filter {text}: {error}") from error
