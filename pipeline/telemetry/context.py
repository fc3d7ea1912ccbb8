"""What the code that runs now is about, for log lines: a run, a stage, a document."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class About:
    """A run, a stage and a document, as far as they are known."""

    run: int | None = None  #: None also where a batch holds documents of several runs
    stage: str | None = None  #: load, parse or embed
    document: str | None = None  #: id
    uri: str | None = None  #: of the document


_NOTHING = About()

_about: ContextVar[About] = ContextVar("about", default=_NOTHING)


def current() -> About:
    """What the calling code is about. A thread begins with nothing, unless it runs in a copy of another one's context."""
    return _about.get()


@contextmanager
def about(**known: Any) -> Iterator[None]:
    """Say by the names of `About` what a `with` block is about; the rest stays as it was.

    Not around a `yield` of a generator: whoever takes its values would be about the same.
    """
    token = _about.set(replace(_about.get(), **known))
    try:
        yield
    finally:
        _about.reset(token)
