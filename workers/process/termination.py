"""Handling SIGTERM while a process holds documents."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class Termination:
    """Lets the first SIGTERM of a block raise SystemExit, but not inside `held`; ignores later ones.

    The pool's own handler raises at any line, and a second signal would kill the process while it returns its documents. A
    kernel signal mask does not help: Python runs handlers in the main thread, whichever thread received the signal. Outside
    the main thread this class does nothing.
    """

    def __init__(self) -> None:
        self._main = threading.current_thread() is threading.main_thread()
        self._held = False
        self._came: int | None = None

    def __enter__(self) -> Termination:
        if self._main:
            self._before = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._before if self._before is not None else signal.SIG_DFL)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Defer the signal until the end of the block."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._came is not None:
                self._fire(self._came, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._came = number
        else:
            self._fire(number, frame)

    def _fire(self, number: int, frame: FrameType | None) -> None:
        self._came = None
        try:
            if callable(self._before):
                self._before(number, frame)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(128 + number)
