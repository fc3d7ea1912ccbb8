"""Which worker processes a host runs, on which devices, and what they are called."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, count

from pipeline.ledger import Ledger
from pipeline.model.device import usable_cores
from pipeline.settings import Settings
from pipeline.types import Stage

#: Run in a process of its own, with the configured device: what an embed worker would take here, and the GPUs to pin to.
QUESTION = "import sys; from pipeline.model.device import choose, visible_gpus; print(choose(sys.argv[1]).name, *visible_gpus())"


class Clock(StrEnum):
    """A process that serves schedules and no documents, where there is Redis."""

    BEAT = "beat"  #: sends a tick every few seconds, if it is the one that has the lock
    TICK = "tick"  #: starts what is due at each tick


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """A worker process to run."""

    stage: Stage | Clock
    name: str  #: `embed-cuda0@host`: role and device; no other worker that lives has it
    concurrency: int
    visible_gpu: str = ""  #: the one GPU this process may see; empty: whatever is there


def parse_processes(settings: Settings) -> int:
    """Parse processes of this host: as configured, else half of the usable cores, 1 to 8; embedding wants the others."""
    return settings.parse_workers or max(1, min(8, usable_cores() // 2))


def plan(settings: Settings, ledger: Ledger, stages: Sequence[Stage]) -> list[WorkerSpec]:
    """The workers for these stages: one for parsing with its processes, one embed worker a GPU or one for everything else.

    Their names are taken in the ledger. Raises LedgerUnavailable.
    """
    specs = []
    # First, as torch may take longer to import than a name is kept for whoever does not begin.
    embedders = _embedders(settings) if Stage.EMBED in stages else []
    if Stage.PARSE in stages:
        specs.append(WorkerSpec(Stage.PARSE, _take(ledger, Stage.PARSE, "parse"), parse_processes(settings)))
    seen: Counter[str] = Counter()
    for device, gpu in embedders:
        seen[device] += 1
        again = f".{seen[device]}" if seen[device] > 1 else ""  # a GPU that was named twice
        name = _take(ledger, Stage.EMBED, f"embed-{device}{again}" if device else "embed")
        specs.append(WorkerSpec(Stage.EMBED, name, 1, gpu))
    return specs


def clocks(ledger: Ledger) -> list[WorkerSpec]:
    """What carries schedules out where there is Redis. Raises LedgerUnavailable."""
    return [
        # No consumer, so it is never spoken to by its name, and it has no row in the ledger.
        WorkerSpec(Clock.BEAT, f"{Clock.BEAT}@{socket.gethostname()}", 1),
        WorkerSpec(Clock.TICK, _take(ledger, Clock.TICK, Clock.TICK), 1),
    ]


def role_of(name: str) -> str:
    """What a worker does, by its name; for those that consume it is the name of their queue."""
    return name.partition("@")[0].partition("-")[0]


def _take(ledger: Ledger, role: Stage | Clock, process: str) -> str:
    """`process@host`, or with our process id where a worker that lives, or was killed just now, has that name.

    In containers process ids repeat, so even that name may be taken.
    """
    host, pid = socket.gethostname(), os.getpid()
    names = chain((process, f"{process}-{pid}"), (f"{process}-{pid}-{number}" for number in count(2)))
    return next(
        name
        for name in (f"{one}@{host}" for one in names)
        # One without its broker gives no signs of life, and will be back under its name.
        if not _lives(ledger.work.holder(name), host) and ledger.work.take_name(name, role.value, host, pid)
    )


def _lives(holder: tuple[str, int] | None, host: str) -> bool:
    """Whether a process of this host still runs, other than this one, which may take its own names again."""
    if holder is None or holder[0] != host or holder[1] == os.getpid():
        return False
    try:
        os.kill(holder[1], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user, and running
        return True
    return True


def _embedders(settings: Settings) -> list[tuple[str, str]]:
    """For each embed worker its device as in its name, empty where nobody knows yet, and the GPU it is pinned to, if any."""
    wanted = settings.ingest_device
    if settings.embed_url:
        return [("http", "")]
    if wanted == "cpu" or (settings.embedded_broker and settings.embedded_store):
        # A command that embeds by itself does not import torch once more only for a name.
        return [(_short(wanted), "")]
    # The embedded store has one owner, so only a server is fed by several processes.
    pins = wanted in ("auto", "cuda") and not settings.embedded_store
    device, visible = _ask(wanted, settings.gpu_ids if pins else ())
    gpus = (settings.gpu_ids or (visible if len(visible) > 1 else ())) if pins else ()
    if not gpus:
        return [(_short(device), "")]
    return [
        (_short(f"cuda:{gpu if gpu.isdecimal() else number}") if gpu in visible else "cpu", gpu) for number, gpu in enumerate(gpus)
    ]


def _ask(wanted: str, only: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The device that torch takes for `wanted`, empty where it cannot say, and the GPUs it sees, of `only` where not empty.

    In a process of its own: the supervisor must neither hold torch nor touch a device before it forks.
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(only)} if only else None
    answer = subprocess.run(
        [sys.executable, "-c", QUESTION, wanted], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    device, *gpus = answer.stdout.split() or ("", *only)
    return device, tuple(gpus)


def _short(device: str) -> str:
    """A device as part of a name: cuda0, cpu, mps; empty for `auto` and for what is no device."""
    if device == "cuda":
        return "cuda0"
    return device.replace(":", "") if re.fullmatch(r"cpu|mps|cuda:\d+", device) else ""
