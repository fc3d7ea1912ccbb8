"""Standard output with its own error, so that a full disk is not reported as a bug in kb-ingest."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import OutputError


class Output(io.TextIOWrapper):
    """A text stream that raises OutputError if a write fails, and BrokenPipeError if the reader has closed the pipe."""

    def write(self, text: str, /) -> int:
        """Write text; see the class for errors."""
        with _translated():
            return super().write(text)

    def flush(self) -> None:
        """Write the buffer; see the class for errors."""
        with _translated():
            super().flush()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror}") from error


def guard() -> None:
    """Replace sys.stdout with an Output, unless the descriptor is closed."""
    before = sys.stdout
    if isinstance(before, io.TextIOWrapper):
        sys.stdout = Output(
            before.buffer,
            encoding=before.encoding,
            errors=before.errors,
            line_buffering=before.line_buffering,
            write_through=before.write_through,
        )


def abandon() -> None:
    """Discard the buffer; otherwise Python would flush it at exit and fail with its own exit status."""
    if sys.stdout is None:
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
