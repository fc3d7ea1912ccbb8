"""Logging of every process: one line per event on stderr, as text or JSON."""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import sys
import threading
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

from pipeline.files.errors import translated
from pipeline.telemetry.context import current
from pipeline.text import utc, visible, well_formed

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

#: Libraries whose info lines are noise.
QUIET = (
    "httpx",
    "httpcore",
    "mcp",
    "urllib3",
    "sentence_transformers",
    "transformers",
    "huggingface_hub",
    "kombu",
    "celery",
    "pdfminer",
    "unstructured",
)

#: Logger of the outcomes of single documents, which `load` lists at its end anyway.
OUTCOMES = "pipeline.steps.outcomes"

#: Process name of commands.
COMMAND = "kb-ingest"

#: Max bytes of an atomic write to a pipe, even with several writers (PIPE_BUF of Linux).
PIPE_BYTES = 4096

#: Replaces text that was cut out.
CUT = "[...]"

log = logging.getLogger(__name__)


class TextLine(logging.Formatter):
    """Text lines, safe for a terminal: the reason of a failure may quote the document."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, with invisible characters escaped."""
        return visible(super().format(record), kept="\t\n")


class JsonLine(logging.Formatter):
    """One JSON object per line, always with the same keys; null for unknown values.

    `max_bytes` limits a line including its end: a message is cut at its end, a traceback or URI at its beginning.
    """

    def __init__(self, process: str, max_bytes: int | None = None) -> None:
        super().__init__()
        self._process = process
        self._max_bytes = max_bytes
        self._host = socket.gethostname()

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record. ASCII, so that neither the encoding of stderr nor a line separator in a text breaks it."""
        about = current()
        row = {
            "time": utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            "run": about.run,
            "stage": about.stage,
            "document": about.uri,
            "document_id": about.document,
            "request": about.request,
            "process": self._process,
            "host": self._host,
            "pid": os.getpid(),
            "exception": self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else None,
        }
        row = {key: well_formed(value) if isinstance(value, str) else value for key, value in row.items()}
        line = json.dumps(row)
        if self._max_bytes is not None and len(line) >= self._max_bytes:
            line = json.dumps(_shortened(row, self._max_bytes - 1))
        return line


def _shortened(row: dict[str, Any], most: int) -> dict[str, Any]:
    """The row with its long texts cut to at most `most` characters of JSON."""
    texts = {key: row[key] for key in ("document", "message", "exception") if row[key] is not None}
    room = most - len(json.dumps(row | dict.fromkeys(texts, "")))
    for number, (key, text) in enumerate(texts.items()):
        # Room that one text does not use is left for the next.
        share = room // (len(texts) - number)
        row = row | {key: _cut(text, share, end=key != "message")}
        room -= _width(row[key])
    return row


def _cut(text: str, room: int, *, end: bool) -> str:
    """The beginning or end of a text that fits into `room` characters of JSON, with CUT for the rest."""
    if _width(text) <= room:
        return text
    room, kept = room - len(CUT), 0
    for character in reversed(text) if end else text:
        room -= _width(character)
        if room < 0:
            break
        kept += 1
    return CUT + text[len(text) - kept :] if end else text[:kept] + CUT


def _width(text: str) -> int:
    return len(json.dumps(text)) - 2


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes each line in one call; otherwise lines of processes that share a pipe would mix."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record's line."""
        try:
            left = f"{self.format(record)}{self.terminator}".encode("utf-8", "backslashreplace")
            try:
                descriptor = self.stream.fileno()
            except OSError:  # a stream in memory
                self.stream.write(left.decode())
                return
            self.stream.flush()
            while left:  # more than once if it is not a pipe, or a disk is full
                left = left[os.write(descriptor, left) :]
        except Exception:
            self.handleError(record)


def _max_bytes(stream: TextIO) -> int | None:
    """Max bytes of a line on this stream; None if it keeps lines of any length whole."""
    try:
        return PIPE_BYTES if stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode) else None
    except OSError:
        return None


def _message(record: logging.LogRecord) -> str:
    """The message, even if the arguments do not match it or are not text: the logging error would not be JSON."""
    try:
        return record.getMessage()
    except Exception as misfit:
        try:
            return f"{record.msg} {record.args!r}"
        except Exception:
            return f"{record.pathname}:{record.lineno} logs a message that cannot be formatted: {type(misfit).__name__}"


def set_up(level: str, *, log_format: Literal["text", "json"] = "text", prefix: str = "") -> None:
    """Send log lines of `level` (debug, info, warning, error) and above to stderr; `prefix` names the process."""
    handler: logging.StreamHandler[TextIO] = logging.StreamHandler(sys.stderr)
    # This logger warns that the folder transport has no host name.
    logging.getLogger("kombu.connection").setLevel(logging.ERROR)
    if log_format == "json":
        handler = LineHandler(sys.stderr)
        handler.setFormatter(JsonLine(prefix or COMMAND, _max_bytes(sys.stderr)))
        _catch_all()
    else:
        handler.setFormatter(TextLine(f"{prefix} {FORMAT}" if prefix else FORMAT, datefmt="%H:%M:%S"))
        if level == "warning":
            handler.addFilter(lambda record: record.name != OUTCOMES)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if level != "debug":
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        warnings.simplefilter("ignore")


def structured() -> bool:
    """Whether log lines are JSON, so that nothing else may be written to stderr."""
    return any(isinstance(handler.formatter, JsonLine) for handler in logging.getLogger().handlers)


def _catch_all() -> None:
    """Turn what Python itself writes to stderr into log lines."""
    logging.captureWarnings(True)

    def died(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.critical("%s", error, exc_info=(kind, error, trace))

    def thread_died(end: threading.ExceptHookArgs) -> None:
        name = end.thread.name if end.thread else "?"
        log.error("the thread %s died", name, exc_info=end.exc_value)

    def ignored(end: sys.UnraisableHookArgs) -> None:
        trace = (end.exc_type, end.exc_value, end.exc_traceback) if end.exc_value else None
        log.error("%s: %r", end.err_msg or "exception ignored in", end.object, exc_info=trace)

    sys.excepthook, threading.excepthook, sys.unraisablehook = died, thread_died, ignored


def divert(path: Path) -> None:
    """Keep our log lines on stderr, and redirect all other output to stdout and stderr to a file.

    Banners and farewells of libraries are noise to users. A fatal error of the interpreter is not, so the output is kept. If
    the file cannot be written, this output is lost: a warning reports it, and work continues.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        log.warning("%s; until this is fixed, output of libraries is lost", translated(error, path))
        file = open(os.devnull, "ab")  # noqa: SIM115 - closed below
    kept = os.dup(2)
    with file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(os.fdopen(kept, "w", encoding="utf-8", errors="replace", buffering=1))
