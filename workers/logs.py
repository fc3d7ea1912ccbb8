"""Logging of every process: one line an event, on stderr."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path

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


def set_up(level: str, *, prefix: str = "") -> None:
    """Send log lines of `level` (debug, info, warning, error) and above to stderr; `prefix` names the process."""
    handler = logging.StreamHandler(sys.stderr)
    # It warns that the folder transport has no host name.
    logging.getLogger("kombu.connection").setLevel(logging.ERROR)
    handler.setFormatter(logging.Formatter(f"{prefix} {FORMAT}" if prefix else FORMAT, datefmt="%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if level != "debug":
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        warnings.simplefilter("ignore")


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
