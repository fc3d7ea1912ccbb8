"""Which worker processes a host runs, on which devices, and what they are called."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, count

from pipeline.errors import ConfigError
from pipeline.ledger import Ledger
from pipeline.model.device import usable_cores
from pipeline.settings import Settings
from pipeline.types import Stage
from workers.process.alive import is_alive
from workers.process.locks import ENDING_S, WorkersLock

log = logging.getLogger(__name__)

#: Run in a process of its own, with the configured device: what an embed worker would take here, the GPUs to pin to, their ids.
QUESTION = (
    "import json, sys; from pipeline.model.device import choose, gpu_uuids, visible_gpus; "
    "print(json.dumps([choose(sys.argv[1]).name, visible_gpus(), gpu_uuids()]))"
)


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
    #: Of what it runs on, for it to inherit; None where another supervisor has it, or it is not worth one.
    lock: WorkersLock | None = field(default=None, compare=False, repr=False)


def parse_processes(settings: Settings) -> int:
    """Parse processes of this host: as configured, else half of the usable cores, 1 to 8; embedding wants the others."""
    return settings.parse_workers or max(1, min(8, usable_cores() // 2))


def plan(settings: Settings, ledger: Ledger, stages: Sequence[Stage], on_end: Callable[[str, bool], None]) -> list[WorkerSpec]:
    """The workers for these stages: one for parsing with its processes, one embed worker a GPU or one for everything else.

    Their names are taken in the ledger, and what they run on is locked. Workers of a supervisor that was killed are waited
    for; `on_end` is told of those that are gone. Raises LedgerUnavailable, and ConfigError where a GPU has its worker already.
    """
    specs = []
    # First, as torch may take longer to import than a name is kept for whoever does not begin.
    embedders = _embedders(settings) if Stage.EMBED in stages else []
    if Stage.PARSE in stages:
        lock = _lock(settings, ledger, "parse", on_end)
        specs.append(WorkerSpec(Stage.PARSE, _take(ledger, Stage.PARSE, "parse"), parse_processes(settings), lock=lock))
    seen: Counter[str] = Counter()
    for embedder in embedders:
        device = embedder.device
        seen[device] += 1
        again = f".{seen[device]}" if seen[device] > 1 else ""  # a GPU that was named twice
        lock = _lock(settings, ledger, f"embed-{embedder.place}{again}", on_end, alone=device if embedder.accelerated else "")
        name = _take(ledger, Stage.EMBED, f"embed-{device}{again}" if device else "embed")
        specs.append(WorkerSpec(Stage.EMBED, name, 1, embedder.gpu, lock))
    return specs


def clocks(settings: Settings, ledger: Ledger, on_end: Callable[[str, bool], None]) -> list[WorkerSpec]:
    """What carries schedules out where there is Redis. Raises LedgerUnavailable."""
    lock = _lock(settings, ledger, Clock.TICK, on_end)
    return [
        # No consumer, so it is never spoken to by its name, and it has no row in the ledger.
        WorkerSpec(Clock.BEAT, f"{Clock.BEAT}@{socket.gethostname()}", 1),
        WorkerSpec(Clock.TICK, _take(ledger, Clock.TICK, Clock.TICK), 1, lock=lock),
    ]


def role_of(name: str) -> str:
    """What a worker does, by its name; for those that consume it is the name of their queue."""
    return name.partition("@")[0].partition("-")[0]


def _lock(
    settings: Settings, ledger: Ledger, place: str, on_end: Callable[[str, bool], None], *, alone: str = ""
) -> WorkersLock | None:
    """The lock of a place on this host; None where another supervisor has it, which is an error for the device `alone`."""
    host = socket.gethostname()
    lock = WorkersLock(settings.data_dir / "locks" / f"{re.sub(r'[^-.0-9A-Za-z]', '_', place)}@{host}.lock")
    if lock.acquire(ENDING_S):
        before = lock.before
        # All of its processes are dead. Where the ledger knows another one by that name, its container has our host's name.
        if before is not None and before.worker and ledger.registry.holder(before.worker) in (None, (host, before.pid)):
            on_end(before.worker, True)
        return lock
    if alone:
        raise ConfigError(f"{alone} is used by {lock.taken_by()}: stop that first, or name other GPUs in KB_GPU_IDS")
    return None


def _take(ledger: Ledger, role: Stage | Clock, process: str) -> str:
    """`process@host`, or with our process id where a worker that lives has that name, or may live: we are not told it is dead.

    In containers process ids repeat, so even that name may be taken.
    """
    host, pid = socket.gethostname(), os.getpid()
    names = chain((process, f"{process}-{pid}"), (f"{process}-{pid}-{number}" for number in count(2)))
    return next(
        name
        for name in (f"{one}@{host}" for one in names)
        # One without its broker gives no signs of life, and will be back under its name.
        if not _lives(ledger.registry.holder(name), host) and ledger.registry.take_name(name, role.value, host, pid)
    )


def _lives(holder: tuple[str, int] | None, host: str) -> bool:
    """Whether a process of this host still runs, other than this one, which may take its own names again."""
    return holder is not None and holder[0] == host and holder[1] != os.getpid() and is_alive(holder[1])


@dataclass(frozen=True, slots=True)
class _Embedder:
    """An embed worker to be named."""

    device: str  #: as in its name; empty where nobody knows yet
    gpu: str = ""  #: the one it is pinned to, if any
    uuid: str = ""  #: of the GPU, where torch says it

    @property
    def accelerated(self) -> bool:
        """Whether it needs its device for itself."""
        return self.device.startswith(("cuda", "mps"))

    @property
    def place(self) -> str:
        """What it runs on: containers that have one host name may each call another GPU number 0."""
        if self.gpu.startswith("MIG-"):  # a part of a GPU, whose uuid the others may share
            return self.gpu
        return self.uuid or (self.device if self.gpu.isdecimal() else self.gpu or self.device)


def _embedders(settings: Settings) -> list[_Embedder]:
    """The embed workers of this host."""
    wanted = settings.ingest_device
    if settings.embed_url:
        return [_Embedder("http")]
    if wanted == "cpu" or (settings.embedded_broker and settings.embedded_store):
        # A command that embeds by itself does not import torch once more only for a name.
        return [_Embedder(_short(wanted))]
    # The embedded store has one owner, so only a server is fed by several processes.
    pins = wanted in ("auto", "cuda") and not settings.embedded_store
    device, uuids = _ask(wanted, settings.gpu_ids if pins else ())
    gpus = (settings.gpu_ids or (tuple(uuids) if len(uuids) > 1 else ())) if pins else ()
    if not gpus:
        number = int(device.partition(":")[2] or 0) if device.startswith("cuda") else len(uuids)
        return [_Embedder(_short(device), uuid="".join([*uuids.values()][number : number + 1]))]
    return [
        _Embedder(_short(f"cuda:{gpu if gpu.isdecimal() else number}") if gpu in uuids else "cpu", gpu, uuids.get(gpu, ""))
        for number, gpu in enumerate(gpus)
    ]


def _ask(wanted: str, only: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The device that torch takes for `wanted`, empty where it cannot say, and the GPUs it sees, of `only` where not empty.

    Of each GPU what to pin to, and its uuid. In a process of its own: the supervisor must neither hold torch nor touch a
    device before it forks.
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(only)} if only else None
    answer = subprocess.run(
        [sys.executable, "-c", QUESTION, wanted], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if answer.returncode or not answer.stdout:
        return "", dict.fromkeys(only, "")
    device, visible, uuids = json.loads(answer.stdout.splitlines()[-1])
    return str(device), dict(zip(visible, uuids, strict=False))


def _short(device: str) -> str:
    """A device as part of a name: cuda0, cpu, mps; empty for `auto` and for what is no device."""
    if device == "cuda":
        return "cuda0"
    return device.replace(":", "") if re.fullmatch(r"cpu|mps|cuda:\d+", device) else ""
