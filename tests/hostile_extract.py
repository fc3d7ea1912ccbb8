"""A stand-in for `pipeline.sandbox.extract.extract` whose documents say what they do to their process."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.chunk.units import ChunkOptions
from pipeline.errors import DocumentError, NoSpace
from pipeline.model.tokens import TokenCounter
from pipeline.parse.gate import Limits
from pipeline.sandbox import extract as extract_module
from pipeline.sandbox.extract import Extracted, ExtractJob, SoFar
from pipeline.sandbox.extract import extract as real_extract
from pipeline.types import Reason

_TAKE_200_MB = "import time; kept = b'x' * (200 << 20); time.sleep(60)"
_SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def extract(
    job: ExtractJob,
    counter: TokenCounter,
    options: ChunkOptions,
    limits: Limits,
    tell: Callable[[SoFar], None],
    on_type: Callable[[str], None],
) -> Extracted:
    """Do what the document's first word says; documents that say nothing special are extracted for real."""
    deed, _, argument = Path(job.path).read_text("utf-8", "replace").partition(" ")
    title = ""  # where it has something to say
    match deed:
        case "abort":
            os.abort()
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill-once" if first_time(job):  # crashes as a document does that suffers from the ones before it
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang-once" if first_time(job):
            time.sleep(600)
        case "allocate-once" if first_time(job):  # too little memory at the first try only
            raise MemoryError
        case "signal-server":
            os.kill(os.getppid(), signal.SIGTERM)
        case "exit":
            sys.exit(3)
        case "hang":
            time.sleep(600)
        case "over-cpu":
            os.kill(os.getpid(), signal.SIGXCPU)  # as RLIMIT_CPU does
        case "allocate":
            kept = [bytearray(64 << 20) for _ in range(1000)]
            assert kept
        case "reserve":  # address space that nothing is written to
            reserved = mmap.mmap(-1, 8 << 30, mmap.MAP_PRIVATE, mmap.PROT_READ)
            assert not reserved[0]
        case "map-file":
            with Path(tempfile.gettempdir(), "large").open("w+b") as file:
                file.truncate(2 << 30)
                assert not mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)[-1]
        case "share":
            shared = mmap.mmap(-1, 500 << 20)
            shared.write(b"x" * len(shared))
            time.sleep(60)
        case "programs":
            programs = [subprocess.Popen([sys.executable, "-c", _TAKE_200_MB]) for _ in range(2)]
            programs[0].wait()
        case "no-memory-abort":
            print("memory allocation of 4294967296 bytes failed", file=sys.stderr, flush=True)
            os.abort()
        case "recurse":
            extract_deeper()
        case "raise":
            raise ValueError("é😀" * 3000)
        case "slowly":
            extract_module.TELL_EVERY_S = 0.01
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
            title = tempfile.gettempdir()
        case "write":  # to a file or folder outside
            with (Path(argument) / "new" if Path(argument).is_dir() else Path(argument)).open("a") as file:
                file.write("x")
        case "remove":
            Path(argument).unlink()
        case "make":
            Path(argument).mkdir()
        case "move":
            Path(job.output).write_text("x")
            Path(job.output).rename(argument)
        case "connect":
            host, _, port = argument.partition(":")
            socket.create_connection((host, int(port)), 5).close()
        case "connect-by-program":
            code = f"import socket; socket.create_connection({argument.partition(':')[::2]}, 5)"
            subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
        case "grandchild" | "hidden-grandchild":
            child = subprocess.Popen(_SLEEP, start_new_session=deed.startswith("hidden"))
            title = f"{child.pid} {os.getpid()} {os.getppid()}"
            child.returncode = 0  # left behind on purpose
        case "grandchild-then-hang":
            child = subprocess.Popen(_SLEEP)
            Path(job.output + ".new").write_text(f"{child.pid} {os.getpid()} {os.getppid()}")
            Path(job.output + ".new").rename(Path(job.output).parent / "pids")
            time.sleep(600)
        case "environment":
            title = " ".join(sorted(os.environ))
    made = real_extract(job, counter, options, limits, tell, on_type)
    return replace(made, title=title) if title else made


def first_time(job: ExtractJob) -> bool:
    """Whether this is the first try at a document; its times say so, because its process may write nowhere."""
    tried = Path(job.path).stat().st_mtime == 1
    os.utime(job.path, (1, 1))
    return not tried


def extract_deeper() -> None:
    """Recurse without end."""
    extract_deeper()
