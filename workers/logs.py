"""Logging of every process: one line an event, on stderr."""

from __future__ import annotations

import logging
import sys
import warnings

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
    handler.setFormatter(logging.Formatter(f"{prefix} {FORMAT}" if prefix else FORMAT, datefmt="%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if level != "debug":
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        warnings.simplefilter("ignore")
