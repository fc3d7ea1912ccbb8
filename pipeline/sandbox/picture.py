"""Draws pages of untrusted PDFs in a process of its own, confined as a parser is, that lives for one page."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import DocumentError
from pipeline.sandbox.confine import PDEATHSIG, allow_writes_only_in, forbid_sockets, prctl
from pipeline.sandbox.environment import environment
from pipeline.sandbox.memory import cap_growth
from pipeline.types import Reason

#: Seconds, and bytes of memory beyond what the process has at its start, for one page.
TIMEOUT_S, MEMORY_BYTES = 15.0, 512 << 20

#: Maximum bytes of a picture.
MAX_BYTES = 16 << 20

#: Processes at once; others wait.
_places = threading.BoundedSemaphore(2)


def draw(path: Path, number: int, lines: Sequence[str]) -> bytes:
    """Page `number` of the PDF at `path` as PNG, with `lines` marked; see `pipeline.parse.pdf.picture`.

    Raises DocumentError: a page that does not exist, one that takes too long, or a file that pdfium cannot draw.
    """
    asked = json.dumps({"path": str(path.resolve()), "number": number, "lines": list(lines)}).encode()
    with _places, tempfile.TemporaryFile() as out:
        # A file and not a pipe: the kernel limits its size, however much the process writes.
        try:
            ended = subprocess.run(
                [sys.executable, "-P", "-m", "pipeline.sandbox.picture"], env=environment(), input=asked, stdout=out,
                stderr=subprocess.PIPE, timeout=TIMEOUT_S, start_new_session=True, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise DocumentError(Reason.TIMEOUT, f"drawing page {number} took longer than {TIMEOUT_S:.0f} s") from error
        out.seek(0)
        drawn = out.read(MAX_BYTES)
    if ended.returncode or not drawn.startswith(b"\x89PNG"):
        raise DocumentError(Reason.CORRUPT, f"page {number} cannot be drawn")
    return drawn


def main() -> None:
    """Draw what stdin asks for, and write it to stdout."""
    prctl(PDEATHSIG, signal.SIGKILL)
    asked = json.loads(sys.stdin.buffer.read())
    from pipeline.parse.pdf.picture import page_picture

    # Before the document is opened; the modules are in memory by then.
    cap_growth(MEMORY_BYTES)
    cpu_s = int(TIMEOUT_S)
    for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, MAX_BYTES), (resource.RLIMIT_CPU, cpu_s)):
        resource.setrlimit(limit, (value, value))
    forbid_sockets()
    allow_writes_only_in([])
    try:
        drawn = page_picture(Path(asked["path"]), asked["number"], asked["lines"])
    except DocumentError as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(drawn)


if __name__ == "__main__":
    main()
