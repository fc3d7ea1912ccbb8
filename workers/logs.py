"""Logging of every process: one line an event, on stderr; for people, or as JSON."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

from pipeline.context import current, well_formed

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

log = logging.getLogger(__name__)


class JsonLine(logging.Formatter):
    """One JSON object a line, always with the same keys; null where something is not known."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process
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
        return json.dumps({key: well_formed(value) if isinstance(value, str) else value for key, value in row.items()})


def _message(record: logging.LogRecord) -> str:
    """The message, also of a call whose arguments do not fit: the complaint about it would be no JSON."""
    try:
        return record.getMessage()
    except Exception:
        return f"{record.msg} {record.args!r}"


def set_up(level: str, *, log_format: Literal["text", "json"] = "text", prefix: str = "") -> None:
    """Send log lines of `level` (debug, info, warning, error) and above to stderr; `prefix` names the process."""
    handler = logging.StreamHandler(sys.stderr)
    # It warns that the folder transport has no host name.
    logging.getLogger("kombu.connection").setLevel(logging.ERROR)
    if log_format == "json":
        handler.setFormatter(JsonLine(prefix or COMMAND))
        _catch_all()
    else:
        handler.setFormatter(logging.Formatter(f"{prefix} {FORMAT}" if prefix else FORMAT, datefmt="%H:%M:%S"))
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

    sys.excepthook, threading.excepthook = died, thread_died


def divert(path: Path) -> None:
    """Keep our log lines on stderr, and send everything else that is written there, or to stdout, to a file.

    Banners and farewells of libraries are noise to whoever runs a command; a fatal error of the interpreter is not, so
    it is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(os.fdopen(kept, "w", encoding="utf-8", errors="replace", buffering=1))
