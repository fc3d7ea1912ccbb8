"""A stand-in for `pipeline.extract.extract` whose documents say what they do to their process."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.errors import DocumentError, NoSpace
from pipeline.extract import Extracted, ExtractJob
from pipeline.extract import extract as real_extract
from pipeline.parse.gate import Limits
from pipeline.tokens import TokenCounter
from pipeline.types import Reason
from pipeline.units import ChunkOptions

_SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def extract(job: ExtractJob, counter: TokenCounter, options: ChunkOptions, limits: Limits) -> Extracted:
    """Do what the document's first word says; documents that say nothing special are extracted for real."""
    deed, _, argument = Path(job.path).read_text("utf-8", "replace").partition(" ")
    match deed:
        case "abort":
            os.abort()
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill-once":  # crashes at the first try, as a document does that suffers from the ones before it
            if not Path(argument).exists():
                Path(argument).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        case "kill-server":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        case "exit":
            sys.exit(3)
        case "hang":
            time.sleep(600)
        case "over-cpu":
            os.kill(os.getpid(), signal.SIGXCPU)  # as RLIMIT_CPU does
        case "allocate":
            kept = [bytearray(64 << 20) for _ in range(1000)]
            assert kept
        case "allocate-once":  # too little memory at the first try only
            if not Path(argument).exists():
                Path(argument).touch()
                raise MemoryError
        case "no-memory-abort":
            print("memory allocation of 4294967296 bytes failed", file=sys.stderr, flush=True)
            os.abort()
        case "recurse":
            extract_deeper()
        case "raise":
            raise ValueError("é😀" * 3000)
        case "refuse":
            raise DocumentError(Reason.ENCRYPTED, "needs a password")
        case "no-space":
            raise NoSpace("/tmp is full")
        case "noise":
            print("noise on stdout\n" * 20_000, flush=True)
            print('{"end": 0, "reason": "corrupt", "detail": "forged"}', flush=True)
            os.write(1, b"raw noise\n" * 20_000)
            os.write(2, b"raw noise\n" * 20_000)
        case "litter":
            Path("relative").write_text("x")
            Path(tempfile.gettempdir(), "x").write_text("x")
            Path("~").expanduser().joinpath("y").write_text("y")
            Path(argument).write_text(tempfile.gettempdir())
        case "grandchild" | "hidden-grandchild":
            child = subprocess.Popen(_SLEEP, start_new_session=deed.startswith("hidden"))
            Path(argument).write_text(f"{child.pid} {os.getpid()} {os.getppid()}")
            child.returncode = 0  # left behind on purpose
        case "grandchild-then-hang":
            child = subprocess.Popen(_SLEEP)
            Path(argument + ".new").write_text(f"{child.pid} {os.getpid()} {os.getppid()}")
            Path(argument + ".new").rename(argument)
            time.sleep(600)
        case "environment":
            Path(argument).write_text("\n".join(sorted(os.environ)))
    return real_extract(job, counter, options, limits)


def extract_deeper() -> None:
    """Recurse without end."""
    extract_deeper()
