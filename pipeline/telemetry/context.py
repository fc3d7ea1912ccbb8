"""The context of the running code for log lines: a run, a stage, a document."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class About:
    """A run, a stage and a document, as far as they are known."""

    run: int | None = None  #: None also if a batch contains documents of several runs
    stage: str | None = None  #: load, parse or embed
    document: str | None = None  #: id
    uri: str | None = None  #: URI of the document
    request: str | None = None  #: id of a request to the service


_NOTHING = About()

_about: ContextVar[About] = ContextVar("about", default=_NOTHING)


def current() -> About:
    """Context of the calling code. A thread starts with an empty one, unless it runs in a copy of another thread's context."""
    return _about.get()


@contextmanager
def about(**known: Any) -> Iterator[None]:
    """Set fields of `About` for a `with` block; the other fields keep their values.

    Do not use it around a `yield` in a generator: the consumer's code would get the same context.
    """
    token = _about.set(replace(_about.get(), **known))
    try:
        yield
    finally:
        _about.reset(token)
