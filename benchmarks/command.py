"""Runs the kb-ingest command as a user would, for benchmarks of the whole process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

#: Seconds between two looks at the memory of all processes.
SAMPLE_S = 0.1


@dataclass(slots=True)
class Ran:
    """A command that has ended."""

    seconds: float  #: wall clock, start-up included
    answer: dict[str, Any]  #: what it printed with --json
    peak_mb: dict[str, float] = field(default_factory=dict)  #: largest resident set by role, of one process


def load(data: Path, *arguments: str, memory: bool = False, device: str = "cpu", redis: str = "", part_tokens: int = 0) -> Ran:
    """`kb-ingest load ARGUMENTS --json` with its own data folder; raises SystemExit when it fails.

    In embedded mode, or with the queues in `redis` for the workers of `up`.
    """
    command = [sys.executable, "-m", "workers", "load", *arguments, "--json"]
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        env=environment(data, device, redis) | {"KB_PART_TOKENS": str(part_tokens)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        sampler = _Sampler(process.pid) if memory else None
        out, err = process.communicate()
        seconds = time.perf_counter() - began
        peaks = sampler.stop() if sampler else {}
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{err}")
    return Ran(seconds, json.loads(out), peaks)


@contextmanager
def up(data: Path, redis: str, device: str = "cpu") -> Iterator[None]:
    """`kb-ingest up`, whose workers serve the loads of a data folder."""
    command = [sys.executable, "-m", "workers", "up"]
    with subprocess.Popen(command, env=environment(data, device, redis), stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def run(data: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
    """What `kb-ingest ARGUMENTS` prints, with further environment variables; raises SystemExit when it fails."""
    command = [sys.executable, "-m", "workers", *arguments]
    done = subprocess.run(command, env=environment(data) | dict(variables or {}), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def environment(data: Path, device: str = "cpu", redis: str = "") -> dict[str, str]:
    """The variables of a command over a data folder, without settings of this shell."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("KB_")}
    found |= {"KB_DATA_DIR": str(data), "HF_HUB_OFFLINE": "1", "KB_INGEST_DEVICE": device, "KB_DEVICE": device}
    return found | ({"KB_REDIS_URL": redis} if redis else {})


class _Sampler:
    """Looks at the resident memory of a process and all below it."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._peaks: dict[str, float] = defaultdict(float)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, float]:
        """The peaks in MB."""
        self._ended.set()
        self._thread.join()
        return {role: round(peak / 2**20) for role, peak in sorted(self._peaks.items())}

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            try:
                for process in [self._process, *self._process.children(recursive=True)]:
                    role = _role(process.cmdline())
                    self._peaks[role] = max(self._peaks[role], process.memory_info().rss)
            except psutil.Error:  # one of them has ended meanwhile
                continue


def _role(command: list[str]) -> str:
    text = " ".join(command)
    if "pipeline.sandbox.server" in text:
        return "parser's child"
    if "workers.process.modelserver" in text:
        return "model"
    if "workers.process.forkserver" in text:
        return "fork server"
    if "workers.process.worker" in text:
        return "embed worker" if " embed " in text else "parse worker"
    return "load command"
