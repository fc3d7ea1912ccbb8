"""Who can read what a process writes: the data folder has copies of every document, but a page for people is their own matter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_users: int | None = None  # the umask that the user has set, once `restrict` has replaced it


@contextmanager
def keeping_umask() -> Iterator[None]:
    """Undo at the end what `restrict` did."""
    global _users
    try:
        yield
    finally:
        if _users is not None:
            os.umask(_users)
            _users = None


def restrict(umask: int) -> None:
    """Let nobody else read the files that this process and its children make.

    By the umask: SQLite, the embedded store and the broker make files of their own.
    """
    global _users
    before = os.umask(umask)
    if _users is None:
        _users = before


def mode_for_users() -> int | None:
    """The mode of a new file that is written for people; None: what the umask gives."""
    return None if _users is None else 0o666 & ~_users
