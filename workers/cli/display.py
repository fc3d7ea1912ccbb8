"""The progress of a load: a live display on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from workers import logs
from workers.cli.context import say
from workers.loading import Moment

#: Seconds between two plain lines.
PLAIN_EVERY_S = 5.0

#: Seconds over which rates are averaged.
RATE_WINDOW_S = 15.0


class Rate:
    """Chunks and documents a second over the last RATE_WINDOW_S."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def add(self, chunks: int, documents: int) -> None:
        """Note where the counts stand now."""
        now = time.monotonic()
        self._seen.append((now, chunks, documents))
        while len(self._seen) > 2 and now - self._seen[0][0] > RATE_WINDOW_S:
            self._seen.popleft()

    def per_s(self) -> tuple[float, float]:
        """(chunks/s, documents/s)."""
        if len(self._seen) < 2:
            return 0.0, 0.0
        (began, chunks, documents), (now, chunks_now, documents_now) = self._seen[0], self._seen[-1]
        span = max(now - began, 1e-6)
        return (chunks_now - chunks) / span, (documents_now - documents) / span


class Display:
    """Shows one moment after the other."""

    def __init__(self, live: Live | None, stderr: int) -> None:
        self.stderr = stderr  #: file descriptor for what worker processes say
        self._live = live
        self._rate = Rate()
        self._last_line = 0.0
        self._trouble = ""

    def __call__(self, moment: Moment) -> None:
        """Show where the run stands."""
        states = moment.progress.states
        total = sum(states.values())
        done = total - moment.progress.open
        self._rate.add(moment.progress.embedded, done)
        if self._live is not None:
            self._live.update(self._picture(moment, done, total))
            return
        if moment.trouble != self._trouble and moment.trouble:
            say(moment.trouble, logging.WARNING)
        self._trouble = moment.trouble
        if time.monotonic() - self._last_line >= PLAIN_EVERY_S:
            self._last_line = time.monotonic()
            say(self._line(moment, done, total))

    def _line(self, moment: Moment, done: int, total: int) -> str:
        chunks_per_s, documents_per_s = self._rate.per_s()
        open_documents = moment.progress.open
        eta = "" if moment.staging or not documents_per_s else f", {_span(open_documents / documents_per_s)} left"
        counts = moment.counts
        found = f"{counts.discovered} files, {counts.unchanged} unchanged"
        failed = moment.progress.states.get("quarantined", 0)
        return (
            f"{found}{' so far' if moment.staging else ''}; {done} of {total} documents done, {failed} quarantined, "
            f"{moment.progress.embedded} chunks, {chunks_per_s:.0f} chunks/s{eta}"
        )

    def _picture(self, moment: Moment, done: int, total: int) -> Group:
        bar = Table.grid(padding=(0, 1))
        bar.add_row(Text("documents"), ProgressBar(total=max(total, 1), completed=done, width=40), Text(f"{done}/{total}"))
        lines: list[Text | Table] = [bar, Text(self._line(moment, done, total))]
        lines += [Text(f"worker {row.name}: {row.device or row.role} {row.note}", style="dim") for row in moment.workers]
        if moment.trouble:
            lines.append(Text(moment.trouble, style="yellow"))
        lines += [Text(f"quarantined: {failure.uri}: {failure.reason}", style="red") for failure in moment.failures]
        return Group(*lines)


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextmanager
def progress_display() -> Iterator[Display]:
    """A display that fits stderr."""
    console = Console(stderr=True)
    if not console.is_terminal or logs.structured():
        yield Display(None, 2)
        return
    read, write = os.pipe()
    # What workers say goes above the display, which would otherwise be torn.
    above = threading.Thread(target=_relay, args=(read, console), name="relay", daemon=True)
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        above.start()
        yield Display(live, write)
        os.close(write)
        above.join(timeout=1)


def _relay(read: int, console: Console) -> None:
    with os.fdopen(read, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            console.print(Text(line.rstrip(), style="dim"))
