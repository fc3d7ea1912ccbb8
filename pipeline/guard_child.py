"""The guard's server: reads batches on stdin, forks a child for each, and lets it tell what becomes of every document."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import logging
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.errors import DocumentError, NoSpace
from pipeline.extract import Extracted, ExtractJob
from pipeline.parse import MEDIA_TYPES, preload
from pipeline.parse.gate import Limits
from pipeline.tokens import TokenCounter
from pipeline.types import Reason
from pipeline.units import ChunkOptions

log = logging.getLogger(__name__)

#: A chunk file or temporary file larger than this is a bomb.
MOST_FILE_BYTES = 8 << 30

#: Longest detail that is passed on: an event must fit into one atomic write to a pipe.
MOST_DETAIL_CHARS = 800

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send `number` to this process when its parent dies; without effect where the kernel cannot."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    except (OSError, AttributeError):
        return


class Server:
    """Forks children; single-threaded, so that a fork finds no lock held."""

    def __init__(self, options: dict[str, Any], out: int) -> None:
        self._out = out
        self._chunks = ChunkOptions(**options["chunks"])
        self._limits = Limits(**options["limits"])
        self._memory_bytes = int(options["memory_bytes"])
        self._timeout_s = float(options["timeout_s"])
        self._counter = TokenCounter.from_folder(Path(options["tokenizer"]))
        module, _, name = str(options["extract"]).partition(":")
        self._extract: Callable[[ExtractJob, TokenCounter, ChunkOptions, Limits], Extracted] = getattr(import_module(module), name)
        self._loaded: set[str] = set()

    def serve(self) -> None:
        """Work until stdin ends."""
        for line in sys.stdin.buffer:
            request = json.loads(line)
            new = set(request["preload"]) & MEDIA_TYPES - self._loaded
            preload(new)
            self._loaded |= new
            # What is there now is never collected in children: their pages stay shared.
            gc.collect()
            gc.freeze()
            pid = os.fork()
            if pid == 0:
                self._child(request)
            _, status, usage = os.wait4(pid, 0)
            scale = 1 if sys.platform == "darwin" else 1024
            self._tell({"exit": os.waitstatus_to_exitcode(status), "memory_bytes": usage.ru_maxrss * scale})

    def _child(self, request: dict[str, Any]) -> None:
        try:
            os.setsid()  # a group of its own: killing it takes pandoc along
            die_with_parent()
            self._confine(Path(request["folder"]))
            self._tell({"child": os.getpid()})
            for number, job in enumerate(request["jobs"]):
                self._one(number, ExtractJob(**job))
        finally:
            # Never back into the server's loop, and no exit handlers of what the server has imported.
            os._exit(0)

    def _confine(self, folder: Path) -> None:
        """Give the child a private temporary folder and its limits."""
        null = os.open(os.devnull, os.O_RDONLY)
        errors = os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(null, 0)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        used = _address_space()
        for limit, value in (
            (resource.RLIMIT_AS, used + self._memory_bytes),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, MOST_FILE_BYTES),
        ):
            try:
                resource.setrlimit(limit, (value, value))
            except (ValueError, OSError) as error:  # macOS knows no limit of the address space
                log.warning("no limit %d here: %s", limit, error)
        with contextlib.suppress(OSError):
            # If the host runs out of memory, the kernel takes the parser and not its caller.
            Path("/proc/self/oom_score_adj").write_text("1000", "ascii")

    def _one(self, number: int, job: ExtractJob) -> None:
        """Extract one document and tell what became of it."""
        self._tell({"start": number})
        self._allow_cpu(job)
        try:
            made = self._extract(job, self._counter, self._chunks, self._limits)
        except NoSpace as error:
            self._tell({"no_space": str(error)[:MOST_DETAIL_CHARS]})
            os._exit(0)
        except DocumentError as error:
            self._fail(number, error.reason, error.detail)
        except MemoryError:
            self._fail(number, Reason.OUT_OF_MEMORY, f"the parser passed {self._memory_bytes >> 20} MB")
        except RecursionError:
            self._fail(number, Reason.CORRUPT, "nested too deeply")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._tell({"no_space": str(error)[:MOST_DETAIL_CHARS]})
                os._exit(0)
            self._fail(number, Reason.CORRUPT, f"{type(error).__name__}: {error}")
        except Exception as error:  # whatever a parser may raise is a fact about the document
            self._fail(number, Reason.CORRUPT, f"{type(error).__name__}: {error}")
        else:
            fields = asdict(made)
            fields["title"] = made.title[:300]
            self._tell({"end": number, "extracted": fields})

    def _fail(self, number: int, reason: Reason, detail: str) -> None:
        self._tell({"end": number, "reason": reason, "detail": detail[:MOST_DETAIL_CHARS]})
        if reason is Reason.OUT_OF_MEMORY:
            os._exit(0)  # the heap is in pieces; the next document deserves a fresh child

    def _allow_cpu(self, job: ExtractJob) -> None:
        """CPU time for one document on top of what the batch has used; the wall clock is the parent's matter."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        size = Path(job.path).stat().st_size if Path(job.path).exists() else 0
        allowed = int(usage.ru_utime + usage.ru_stime + self._timeout_s + 2 * size / 1e6) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.RLIM_INFINITY))

    def _tell(self, event: dict[str, Any]) -> None:
        os.write(self._out, json.dumps(event).encode("ascii", "replace") + b"\n")


def _address_space() -> int:
    """Bytes of address space in use."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def main() -> None:
    """Serve on stdin and on what was stdout; everything that libraries print goes to stderr."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.dup(1)
    os.dup2(2, 1)
    Server(json.loads(sys.argv[1]), out).serve()


if __name__ == "__main__":
    main()
