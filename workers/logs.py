"""Logging of every process: one line an event, on stderr; for people, or as JSON."""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import sys
import threading
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

from pipeline.files.errors import translated
from pipeline.telemetry.context import current
from pipeline.text import visible, well_formed

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

#: Libraries that say more than anybody wants to know.
QUIET = (
    "httpx",
    "httpcore",
    "urllib3",
    "sentence_transformers",
    "transformers",
    "huggingface_hub",
    "kombu",
    "celery",
    "pdfminer",
    "unstructured",
)

#: Says what became of single documents, which `load` lists at its end anyway.
OUTCOMES = "pipeline.steps.outcomes"

#: The name of a process that is no worker.
COMMAND = "kb-ingest"

#: Bytes that are written to a pipe in one piece, whoever else writes to it (PIPE_BUF of Linux).
PIPE_BYTES = 4096

#: Stands for what was cut out of a text.
CUT = "[...]"

log = logging.getLogger(__name__)


class TextLine(logging.Formatter):
    """Lines for people, who may read them on a terminal: why a document failed may be told in the document's own words."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, with what cannot be seen written out."""
        return visible(super().format(record), kept="\t\n")


class JsonLine(logging.Formatter):
    """One JSON object a line, always with the same keys; null where something is not known.

    With `most_bytes` a line is no longer, its end included: of a message the beginning is kept, of a traceback and a URI the end.
    """

    def __init__(self, process: str, most_bytes: int | None = None) -> None:
        super().__init__()
        self._process = process
        self._most_bytes = most_bytes
        self._host = socket.gethostname()

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record: ASCII, so that neither the encoding of stderr nor a separator in a text breaks it."""
        about = current()
        row = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            "run": about.run,
            "stage": about.stage,
            "document": about.uri,
            "document_id": about.document,
            "process": self._process,
            "host": self._host,
            "pid": os.getpid(),
            "exception": self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else None,
        }
        row = {key: well_formed(value) if isinstance(value, str) else value for key, value in row.items()}
        line = json.dumps(row)
        if self._most_bytes is not None and len(line) >= self._most_bytes:
            line = json.dumps(_shortened(row, self._most_bytes - 1))
        return line


def _shortened(row: dict[str, Any], most: int) -> dict[str, Any]:
    """The row with its long texts cut so that it has at most so many characters as JSON."""
    texts = {key: row[key] for key in ("document", "message", "exception") if row[key] is not None}
    room = most - len(json.dumps(row | dict.fromkeys(texts, "")))
    for number, (key, text) in enumerate(texts.items()):
        # What one leaves over is there for the next.
        share = room // (len(texts) - number)
        row = row | {key: _cut(text, share, end=key != "message")}
        room -= _width(row[key])
    return row


def _cut(text: str, room: int, *, end: bool) -> str:
    """As much of the beginning or end of a text as fits into so many characters of JSON, with CUT for the rest."""
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
    """Writes each line in one call, as lines of processes that share a pipe would be torn otherwise."""

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
            while left:  # more than once where it is no pipe, or a disk is full
                left = left[os.write(descriptor, left) :]
        except Exception:
            self.handleError(record)


def _most_bytes(stream: TextIO) -> int | None:
    """Bytes of a line on this stream; None where lines of any length stay whole."""
    try:
        return PIPE_BYTES if stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode) else None
    except OSError:
        return None


def _message(record: logging.LogRecord) -> str:
    """The message, also of a call whose arguments do not fit, or are no text: the complaint about it would be no JSON."""
    try:
        return record.getMessage()
    except Exception as misfit:
        try:
            return f"{record.msg} {record.args!r}"
        except Exception:
            return f"{record.pathname}:{record.lineno} logs what cannot be written: {type(misfit).__name__}"


def set_up(level: str, *, log_format: Literal["text", "json"] = "text", prefix: str = "") -> None:
    """Send log lines of `level` (debug, info, warning, error) and above to stderr; `prefix` names the process."""
    handler: logging.StreamHandler[TextIO] = logging.StreamHandler(sys.stderr)
    # It warns that the folder transport has no host name.
    logging.getLogger("kombu.connection").setLevel(logging.ERROR)
    if log_format == "json":
        handler = LineHandler(sys.stderr)
        handler.setFormatter(JsonLine(prefix or COMMAND, _most_bytes(sys.stderr)))
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
    """Whether log lines are JSON, so that nothing else may go to stderr."""
    return any(isinstance(handler.formatter, JsonLine) for handler in logging.getLogger().handlers)


def _catch_all() -> None:
    """Have what Python writes to stderr by itself become log lines."""
    logging.captureWarnings(True)

    def died(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.critical("%s", error, exc_info=(kind, error, trace))

    def thread_died(end: threading.ExceptHookArgs) -> None:
        name = end.thread.name if end.thread else "?"
        log.error("the thread %s died", name, exc_info=end.exc_value)

    def ignored(end: sys.UnraisableHookArgs) -> None:
        trace = (end.exc_type, end.exc_value, end.exc_traceback) if end.exc_value else None
        log.error("%s: %r", end.err_msg or "nobody could catch an exception in", end.object, exc_info=trace)

    sys.excepthook, threading.excepthook, sys.unraisablehook = died, thread_died, ignored


def divert(path: Path) -> None:
    """Keep our log lines on stderr, and send everything else that is written there, or to stdout, to a file.

    Banners and farewells of libraries are noise to whoever runs a command; a fatal error of the interpreter is not, so
    it is kept. Where the file cannot be written, all of that is lost, and a warning says so: work goes on without it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        log.warning("%s; what libraries print is lost until then", translated(error, path))
        file = open(os.devnull, "ab")  # noqa: SIM115 - closed below
    kept = os.dup(2)
    with file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(os.fdopen(kept, "w", encoding="utf-8", errors="replace", buffering=1))
