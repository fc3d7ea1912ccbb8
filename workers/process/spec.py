"""The worker processes of a host, their devices and their names."""

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

#: Runs in its own process, with the configured device: the device an embed worker would use, the GPUs to pin to, their ids.
QUESTION = (
    "import json, sys; from pipeline.model.device import choose, gpu_uuids, visible_gpus; "
    "print(json.dumps([choose(sys.argv[1]).name, visible_gpus(), gpu_uuids()]))"
)


class Clock(StrEnum):
    """A process that serves schedules and no documents; only with Redis."""

    BEAT = "beat"  #: sends a tick every few seconds while it holds the lock
    TICK = "tick"  #: starts due schedules at each tick


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """A worker process to run."""

    stage: Stage | Clock
    name: str  #: role and device, as in `embed-cuda0@host`; unique among live workers
    concurrency: int
    visible_gpu: str = ""  #: the only GPU visible to this process; empty: all GPUs
    #: Lock on its device or place, for it to inherit; None if another supervisor holds it, or if it needs none.
    lock: WorkersLock | None = field(default=None, compare=False, repr=False)


def parse_processes(settings: Settings) -> int:
    """Parse processes of this host: as configured, or half of the usable cores, 1 to 8; embedding needs the others."""
    return settings.parse_workers or max(1, min(8, usable_cores() // 2))


def plan(settings: Settings, ledger: Ledger, stages: Sequence[Stage], on_end: Callable[[str, bool], None]) -> list[WorkerSpec]:
    """The workers for these stages: one for parsing with its processes, and one embed worker per GPU or one for other devices.

    Reserves their names in the ledger and locks their devices. Waits for workers of a killed supervisor, and calls `on_end`
    for those that have ended. Raises LedgerUnavailable, and ConfigError if a GPU already has a worker.
    """
    specs = []
    # First, because importing torch may take longer than the ledger keeps the name of a worker that does not start.
    embedders = _embedders(settings) if Stage.EMBED in stages else []
    if Stage.PARSE in stages:
        lock = _lock(settings, ledger, "parse", on_end)
        specs.append(WorkerSpec(Stage.PARSE, _take(ledger, Stage.PARSE, "parse"), parse_processes(settings), lock=lock))
    seen: Counter[str] = Counter()
    for embedder in embedders:
        device = embedder.device
        seen[device] += 1
        again = f".{seen[device]}" if seen[device] > 1 else ""  # a GPU that is listed twice
        lock = _lock(settings, ledger, f"embed-{embedder.place}{again}", on_end, alone=device if embedder.accelerated else "")
        name = _take(ledger, Stage.EMBED, f"embed-{device}{again}" if device else "embed")
        specs.append(WorkerSpec(stage=Stage.EMBED, name=name, concurrency=1, visible_gpu=embedder.gpu, lock=lock))
    return specs


def clocks(settings: Settings, ledger: Ledger, on_end: Callable[[str, bool], None]) -> list[WorkerSpec]:
    """The processes that run schedules with Redis. Raises LedgerUnavailable."""
    lock = _lock(settings, ledger, Clock.TICK, on_end)
    return [
        # Not a consumer, so nothing addresses it by its name, and it has no row in the ledger.
        WorkerSpec(Clock.BEAT, f"{Clock.BEAT}@{socket.gethostname()}", 1),
        WorkerSpec(Clock.TICK, _take(ledger, Clock.TICK, Clock.TICK), 1, lock=lock),
    ]


def role_of(name: str) -> str:
    """The role of a worker, from its name; for consumers it is the name of their queue."""
    return name.partition("@")[0].partition("-")[0]


def _lock(
    settings: Settings, ledger: Ledger, place: str, on_end: Callable[[str, bool], None], *, alone: str = ""
) -> WorkersLock | None:
    """The lock of a place on this host; None if another supervisor holds it, which is an error for the device `alone`."""
    host = socket.gethostname()
    lock = WorkersLock(settings.data_dir / "locks" / f"{re.sub(r'[^-.0-9A-Za-z]', '_', place)}@{host}.lock")
    if lock.acquire(ENDING_S):
        before = lock.before
        # All of its processes are dead. If the ledger knows another worker by that name, its container has our host's name.
        if before is not None and before.worker and ledger.registry.holder(before.worker) in (None, (host, before.pid)):
            on_end(before.worker, True)
        return lock
    if alone:
        raise ConfigError(f"{alone} is used by {lock.taken_by()}: stop it first, or list other GPUs in KB_GPU_IDS")
    return None


def _take(ledger: Ledger, role: Stage | Clock, process: str) -> str:
    """`process@host`, or with our process id if a worker with that name is alive, or not known to be dead.

    In containers process ids repeat, so even that name may be taken.
    """
    host, pid = socket.gethostname(), os.getpid()
    names = chain((process, f"{process}-{pid}"), (f"{process}-{pid}-{number}" for number in count(2)))
    return next(
        name
        for name in (f"{one}@{host}" for one in names)
        # A worker without its broker sends no heartbeats, but returns under its name.
        if not _lives(ledger.registry.holder(name), host) and ledger.registry.take_name(name, role.value, host, pid)
    )


def _lives(holder: tuple[str, int] | None, host: str) -> bool:
    """Whether the holder is a live process of this host other than this one, which may reuse its own names."""
    return holder is not None and holder[0] == host and holder[1] != os.getpid() and is_alive(holder[1])


@dataclass(frozen=True, slots=True)
class _Embedder:
    """An embed worker before it gets its name."""

    device: str  #: as in its name; empty if not known yet
    gpu: str = ""  #: the GPU it is pinned to, if any
    uuid: str = ""  #: of the GPU, if torch reports it

    @property
    def accelerated(self) -> bool:
        """Whether it needs exclusive use of its device."""
        return self.device.startswith(("cuda", "mps"))

    @property
    def place(self) -> str:
        """A unique name of its device: containers with the same host name may each see another GPU as number 0."""
        if self.gpu.startswith("MIG-"):  # a part of a GPU; other parts may share the uuid
            return self.gpu
        return self.uuid or (self.device if self.gpu.isdecimal() else self.gpu or self.device)


def _embedders(settings: Settings) -> list[_Embedder]:
    """The embed workers of this host."""
    wanted = settings.ingest_device
    if settings.embed_url:
        return [_Embedder("http")]
    if wanted == "cpu" or (settings.embedded_broker and settings.embedded_store):
        # A command that embeds by itself does not import torch a second time only for a name.
        return [_Embedder(_short(wanted))]
    # The embedded store has one owner, so several processes need a server.
    pins = wanted in ("auto", "cuda") and not settings.embedded_store
    device, uuids = _ask(wanted, settings.gpu_ids if pins else ())
    several = tuple(uuids) if len(uuids) > 1 else ()
    gpus = settings.gpu_ids or several
    if not pins or not gpus:
        number = int(device.partition(":")[2] or 0) if device.startswith("cuda") else len(uuids)
        return [_Embedder(_short(device), uuid="".join([*uuids.values()][number : number + 1]))]
    found = []
    for number, gpu in enumerate(gpus):
        name = _short(f"cuda:{gpu if gpu.isdecimal() else number}") if gpu in uuids else "cpu"
        found.append(_Embedder(name, gpu, uuids.get(gpu, "")))
    return found


def _ask(wanted: str, only: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The device that torch uses for `wanted` (empty if unknown), and its visible GPUs, only those of `only` if it is not empty.

    For each GPU, the id to pin to and the uuid. Runs in its own process: the supervisor must neither import torch nor touch
    a device before it forks.
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
    """A device as part of a name: cuda0, cpu, mps; empty for `auto` and unknown devices."""
    if device == "cuda":
        return "cuda0"
    return device.replace(":", "") if re.fullmatch(r"cpu|mps|cuda:\d+", device) else ""
