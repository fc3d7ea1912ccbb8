"""Tells when files below a root have changed, by notifications of the operating system or by looking at all of them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pipeline.errors import SourceError
from pipeline.sources.discover import Patterns
from pipeline.sources.sidecars import ENDING, TABLE
from pipeline.sources.uris import uri_of

if TYPE_CHECKING:
    from watchfiles import Change

log = logging.getLogger(__name__)

#: Seconds without a change after which a burst is over.
SETTLE_S = 0.5

#: Seconds after which a burst that does not end is no longer waited for: a file may be written to all the time.
GATHER_MAX_S = 10.0

#: Milliseconds between two checks whether the root is still the same folder.
LOOK_MS = 250

#: Seconds that the watch of a large tree may take to begin.
BEGIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Interest:
    """Chooses the changes that may concern a document below a root."""

    root: Path  #: absolute, without links; a folder or a file
    patterns: Patterns
    elsewhere: Sequence[str] = ()  #: URIs below the root that belong to other sources

    def wants(self, path: str, *, modified: bool = False) -> bool:
        """Whether a listing may differ after a change at this path. `modified`: it existed before.

        Nobody can tell whether a path that is gone was a file or a folder with documents in it, so it counts.
        """
        if path == str(self.root):
            return True
        below = os.path.relpath(path, self.root)
        *_, name = parts = below.split(os.sep)
        if parts[0] == os.pardir or not all(self.patterns.wants_name(part) for part in parts):
            return False
        uri = uri_of(Path(path))
        if any(uri == other or uri.startswith(f"{other}/") for other in self.elsewhere):
            return False
        if name == TABLE or name.endswith(ENDING):
            return True
        plain = "/".join(parts)
        if not replace(self.patterns, include=()).wants_file(name, plain):
            return False
        if os.path.isfile(path):
            return self.patterns.wants_file(name, plain)
        return not (modified and os.path.isdir(path))


@dataclass(slots=True)
class _Burst:
    """Changes that have not been taken yet."""

    first: float = 0.0  #: monotonic
    last: float = 0.0
    paths: set[str] = field(default_factory=set)

    def due_at(self) -> float:
        return min(self.last + SETTLE_S, self.first + GATHER_MAX_S)


class Changes:
    """Gathers changes below a root while it is open; a context manager that begins with the notifications in place.

    Raises SourceError where the root does not exist or cannot be watched. It ends by itself, as `lost`, when the root is
    removed or replaced, for example by a mount: notifications belong to a folder, not to its name.
    """

    def __init__(self, interest: Interest, *, poll: bool = False, poll_every_s: float = 5.0) -> None:
        """With `poll`, or where notifications cannot be had: look at all files every `poll_every_s` seconds instead."""
        self._interest = interest
        self._poll = poll
        self._poll_every_s = poll_every_s
        # The watch of a single file would end with the file, and saving it replaces it.
        self._folder = interest.root.parent if interest.root.is_file() else interest.root
        self._is_file = self._folder != interest.root
        self._before = _identity(self._folder)
        self._burst: _Burst | None = None
        self._changed = threading.Condition()
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="changes", daemon=True)
        self.lost = False  #: nothing more will be reported

    def __enter__(self) -> Changes:
        self._thread.start()
        self._ready.wait(BEGIN_S)
        try:
            self.check()
        except SourceError:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join(timeout=5)

    def due(self) -> bool:
        """Whether there are changes, and no more seem to follow at once."""
        with self._changed:
            return self._burst is not None and time.monotonic() >= self._burst.due_at()

    def take(self) -> int:
        """Begin anew; return the number of paths that have changed so far. Call it before the files are listed."""
        with self._changed:
            burst, self._burst = self._burst, None
            return len(burst.paths) if burst is not None else 0

    def wait(self, timeout_s: float) -> None:
        """Return when changes are due, when nothing more will be reported, or after the timeout."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self.lost and (now := time.monotonic()) < deadline:
                due_at = self._burst.due_at() if self._burst is not None else deadline
                if due_at <= now:
                    return
                self._changed.wait(min(due_at, deadline) - now)

    def check(self) -> None:
        """Raise SourceError if an error has ended the watch."""
        if self._error is not None:
            raise SourceError(f"cannot watch {self._folder}: {_said(self._error)}") from self._error

    def _run(self) -> None:
        try:
            try:
                self._watch(poll=self._poll)
            except (OSError, RuntimeError) as error:  # watchfiles translates errors of the operating system only in part
                if self._poll or self._ready.is_set() or not self._folder.is_dir():
                    raise
                # Most often the limit of the kernel: fs.inotify.max_user_watches.
                why = "no notifications of changes below %s (%s): looking every %g s instead"
                log.warning(why, self._folder, _said(error), self._poll_every_s)
                self._watch(poll=True)
        except (OSError, RuntimeError) as error:
            self._error = error
        with self._changed:
            self.lost = True
            self._changed.notify_all()
        self._ready.set()

    def _watch(self, *, poll: bool) -> None:
        """Note changes until told to stop, or until the root is another folder."""
        from watchfiles import watch  # the demo's environment does without it

        for changes in watch(
            self._folder, watch_filter=self._wants, stop_event=self._stop, rust_timeout=LOOK_MS, yield_on_timeout=True,
            raise_interrupt=False, force_polling=poll, poll_delay_ms=max(1, int(1000 * self._poll_every_s)),
            recursive=not self._is_file, ignore_permission_denied=True,
        ):  # fmt: skip
            self._ready.set()
            self._note([path for _, path in changes])
            if _identity(self._folder, or_none=True) != self._before:
                return

    def _wants(self, change: Change, path: str) -> bool:
        return self._interest.wants(path, modified=change.name == "modified")

    def _note(self, paths: Sequence[str]) -> None:
        if not paths:
            return
        now = time.monotonic()
        with self._changed:
            self._burst = self._burst or _Burst(first=now)
            self._burst.last = now
            self._burst.paths.update(paths)
            self._changed.notify_all()


def _identity(folder: Path, *, or_none: bool = False) -> tuple[int, int] | None:
    """Device and inode of a folder; raises SourceError if there is none, unless that is an answer."""
    try:
        status = os.stat(folder)
    except OSError as error:
        if or_none:
            return None
        raise SourceError(f"cannot read {folder}: {error.strerror}") from error
    return status.st_dev, status.st_ino


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
