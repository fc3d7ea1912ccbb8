"""Work in progress on stderr: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.ledger.registry import WorkerRow
from pipeline.ledger.report import Progress
from pipeline.text import duration, memory, one_line, plural, visible
from pipeline.types import DocumentState, Stage
from workers import logs
from workers.cli.context import say
from workers.monitoring.diagnosis import Verdict
from workers.monitoring.snapshot import Moment

#: Seconds between two plain lines.
PLAIN_EVERY_S = 5.0

#: Seconds over which the utilisation of workers is averaged, and the minimum for a meaningful figure.
BUSY_WINDOW_S, BUSY_MIN_S = 15.0, 4.0

#: A busy worker records its seconds of work about every 5 s; one whose figure has not changed for this many seconds is idle.
BUSY_WRITTEN_S = 10.0

#: Width of a bar, in columns.
BAR = 40

#: Verdicts that get a line of their own, and the styles of the live display, which also shows STARTING.
_SAID = (Verdict.STARVED, Verdict.STALLED, Verdict.PAUSED)
_STYLES = {Verdict.STARVED: "bold red", Verdict.STALLED: "bold red", Verdict.PAUSED: "yellow", Verdict.STARTING: "yellow"}


class Utilisation:
    """Share of recent time that each worker was busy.

    Measured between two moments at which the worker recorded its seconds; its work since the last record is not known yet.
    """

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, float]]] = {}  #: by worker: (monotonic, seconds of work since its start)
        self._guessed: set[str] = set()  #: workers whose first record has an unknown time

    def add(self, worker: WorkerRow) -> None:
        """Note how long a worker has been busy so far."""
        now, name = time.monotonic(), worker.name
        seen = self._seen.setdefault(name, deque())
        if worker.starting or (seen and worker.busy_s < seen[-1][1]):  # its time starts when it is ready
            seen.clear()
        if worker.starting:
            return
        if not seen:
            seen.append((now, worker.busy_s))
            # A worker that has just become ready has not recorded anything yet.
            (self._guessed.add if worker.busy_s else self._guessed.discard)(name)
        elif worker.busy_s != seen[-1][1] or now - seen[-1][0] >= BUSY_WRITTEN_S:
            if name in self._guessed:
                self._guessed.discard(name)
                seen.clear()
            seen.append((now, worker.busy_s))
        while len(seen) > 2 and seen[-1][0] - seen[1][0] >= BUSY_WINDOW_S:
            seen.popleft()

    def of(self, worker: WorkerRow) -> float | None:
        """0 to 1; None until two records are at least BUSY_MIN_S apart."""
        seen = self._seen.get(worker.name, deque())
        if len(seen) < 2 or (span := seen[-1][0] - seen[0][0]) < BUSY_MIN_S:
            return None
        return min(1.0, (seen[-1][1] - seen[0][1]) / span / max(1, worker.processes))


class Display:
    """Shows one moment after another."""

    def __init__(self, live: Live | None, stderr: int) -> None:
        self.stderr = stderr  #: file descriptor for the output of worker processes
        self._live = live
        self._busy = Utilisation()
        self._last_line = 0.0
        self._told: tuple[Verdict, str] | None = None

    def __call__(self, moment: Moment) -> None:
        """Show the state of the work."""
        for worker in moment.workers:
            self._busy.add(worker)
        if self._live is not None:
            self._live.update(picture(moment, self._busy))
            return
        told = (moment.diagnosis.verdict, moment.trouble)
        text = one_line(str(moment.diagnosis) if moment.diagnosis.verdict in _SAID else moment.trouble)
        if text and told != self._told:
            say(text, logging.WARNING if moment.diagnosis.stuck or moment.trouble else logging.INFO)
        self._told = told
        if time.monotonic() - self._last_line >= PLAIN_EVERY_S:
            self._last_line = time.monotonic()
            say(line(moment))


def line(moment: Moment) -> str:
    """A moment as one line of text."""
    states = moment.progress.states
    total = sum(states.values())
    found = f"{plural(moment.counts.discovered, 'file')}, {moment.counts.unchanged} unchanged" if moment.counts else ""
    parts = [found + (" so far" if moment.staging else "")] if found else []
    parts += [
        f"{total - moment.progress.open} of {plural(total, 'document')} done",
        f"{states.get(DocumentState.QUARANTINED, 0)} quarantined",
        chunks(moment.progress),
        _speed(moment),
    ]
    return " · ".join(parts)


def chunks(progress: Progress) -> str:
    """`12,400 chunks parsed so far, 8,100 written`; `8,100 of 12,400 chunks written` once all documents are parsed."""
    if progress.unparsed_bytes:
        return f"{plural(progress.parsed, 'chunk')} parsed so far, {progress.written:,} written"
    return f"{progress.written:,} of {plural(progress.parsed, 'chunk')} written"


def picture(moment: Moment, busy: Utilisation) -> Group:
    """A moment as a display for a terminal."""
    rows: list[RenderableType] = [_bars(moment), Text(_speed(moment))]
    if moment.workers:
        rows.append(_workers(moment, busy))
    rows.append(_queues(moment))
    if moment.diagnosis.verdict in _STYLES:
        rows.append(Text(visible(str(moment.diagnosis)), style=_STYLES[moment.diagnosis.verdict]))
    elif moment.trouble:
        rows.append(Text(one_line(moment.trouble), style="yellow"))
    for failure in moment.failures:
        name = visible(unquote(failure.uri).rpartition("/")[2])
        words = f"quarantined {name}: {failure.reason}: {one_line(failure.detail)}"
        rows.append(Text(words, style="red", overflow="ellipsis", no_wrap=True))
    return Group(*rows)


def _bars(moment: Moment) -> Table:
    """The progress of each stage."""
    states, counts = moment.progress.states, moment.counts
    total = sum(states.values())
    table = Table.grid(padding=(0, 1))
    if counts is not None:
        found = f"{plural(counts.discovered, 'file')}, {counts.unchanged} unchanged{' so far' if moment.staging else ''}"
        table.add_row(
            Text("stage"),
            ProgressBar(total=None if moment.staging else 1, completed=1, width=BAR, pulse=moment.staging),
            Text(found),
        )
    progress = moment.progress
    unparsed = states.get(DocumentState.PENDING, 0) + states.get(DocumentState.PARSING, 0)
    # By bytes and tokens, not by documents: one document may be larger than all the others together.
    parsed = 1 - progress.unparsed_bytes / progress.bytes if progress.bytes else 1.0
    tokens = progress.written_tokens + (progress.left_tokens or 0)
    written = progress.written_tokens / tokens if tokens else 1.0
    if progress.left_tokens is None:
        written = 0.0
    stages = (("parse", parsed, total - unparsed, progress.parsed), ("embed", written, total - progress.open, progress.written))
    for name, share, done, made in stages:
        words = f"{done} of {plural(total, 'document')}, {plural(made, 'chunk')}"
        table.add_row(Text(name), ProgressBar(total=1, completed=share if total else 0.0, width=BAR), Text(words))
    return table


def _workers(moment: Moment, busy: Utilisation) -> Table:
    """Each worker with its device and its utilisation."""
    table = Table.grid(padding=(0, 1))
    for worker in moment.workers:
        share = busy.of(worker)
        processes = "1 process" if worker.processes == 1 else f"{worker.processes} processes"
        where = f"{worker.device} {worker.dtype}" if worker.device else processes
        held = memory(worker.memory_bytes) if worker.memory_bytes else ""
        table.add_row(
            Text(worker.name, style="dim"),
            Text(where, style="dim"),
            ProgressBar(total=1, completed=share or 0.0, width=10),
            Text("" if share is None else f"{share:4.0%}"),
            Text(held, style="dim"),
            Text(one_line(worker.note), style="yellow"),
        )
    return table


def _queues(moment: Moment) -> Text:
    depths = (f"{stage} {'does not answer' if depth is None else depth}" for stage, depth in moment.queues.items())
    waiting = ", ".join(f"{moment.progress.states.get(stage.waiting, 0)} for {stage}" for stage in Stage)
    return Text(f"messages in the queues: {', '.join(depths)}; waiting documents: {waiting}", style="dim")


def _speed(moment: Moment) -> str:
    """`96 chunks/s, 3.1 documents/s, 2 min 5 s left`."""
    rates = moment.rates
    documents = f"{rates.documents_per_s:.3g}" if rates.documents_per_s < 100 else f"{rates.documents_per_s:.0f}"
    words = f"{rates.chunks_per_s:.0f} chunks/s, {documents} documents/s"
    return f"{words}, {left}" if (left := time_left(moment)) else words


def time_left(moment: Moment) -> str:
    """`2 min 5 s left`; `2 min 5 s left to parse` before the first write; empty if the time is unknown or work is stuck."""
    if not moment.progress.open or moment.diagnosis.stuck:
        return ""
    if moment.left_s is not None:
        return f"{duration(moment.left_s, rough=True)} left"
    return f"{duration(moment.parse_left_s, rough=True)} left to parse" if moment.parse_left_s is not None else ""


@contextmanager
def progress_display() -> Iterator[Display]:
    """Open a display that suits stderr."""
    console = Console(stderr=True)
    # A terminal that cannot move its cursor, such as an editor's, would show a live display only once, at the end.
    if not console.is_terminal or console.is_dumb_terminal or logs.structured():
        yield Display(None, 2)
        return
    read, write = os.pipe()
    # Output of workers goes above the display; otherwise it would break the display.
    above = threading.Thread(target=_relay, args=(read, console), name="relay", daemon=True)
    with Live(console=console, refresh_per_second=4, transient=True) as live, _log_lines_above():
        above.start()
        try:
            yield Display(live, write)
        finally:
            os.close(write)
            above.join(timeout=1)


@contextmanager
def _log_lines_above() -> Iterator[None]:
    """Send our own log lines above the display: Live replaces sys.stderr, but log handlers still hold the previous stream."""
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler)]
    before = [(handler, handler.setStream(sys.stderr)) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in before:
            if stream is not None:
                handler.setStream(stream)


def _relay(read: int, console: Console) -> None:
    with os.fdopen(read, encoding="utf-8", errors="replace") as lines:
        for text in lines:
            console.print(Text(visible(text.rstrip().expandtabs()), style="dim"))
