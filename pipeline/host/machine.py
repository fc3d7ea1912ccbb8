"""The hardware of this host: processor, memory, disk and accelerators."""

from __future__ import annotations

import platform
import re
import shutil
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from pipeline.files.errors import translating
from pipeline.host.command import ask
from pipeline.model.device import processor_name, usable_cores

#: Where the limit of a container's memory stands, in the second and in the first version of control groups.
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

#: Instructions that decide how fast a processor embeds, the best first: the flag, and what people call it.
INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bf16", "avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device that can embed faster than the processor."""

    name: str  #: what its maker calls it
    kind: str  #: what torch calls it: cuda, mps
    memory_bytes: int | None  #: of its own; None where it shares the host's
    usable: bool  #: torch has it; False: only the maker's own program sees it


@dataclass(frozen=True, slots=True)
class Machine:
    """A host, as far as it matters here."""

    system: str  #: Linux, Darwin, Windows
    processor: str
    cores: int  #: that this process may use
    instructions: tuple[str, ...]  #: keys of INSTRUCTIONS
    memory_bytes: int  #: in a container: what it may use
    disk_free_bytes: int  #: where the data folder is or will be
    accelerators: tuple[Accelerator, ...]


def look(data_dir: Path) -> Machine:
    """Look at this host; asks torch in a process of its own, and the vendors' programs where torch finds nothing."""
    return Machine(
        platform.system(), processor_name(), usable_cores(), instructions(), memory_bytes(), free_bytes(data_dir), accelerators()
    )


def instructions() -> tuple[str, ...]:
    """The instructions that matter, the best first."""
    try:
        flags = set(re.findall(r"\S+", Path("/proc/cpuinfo").read_text("utf-8", "replace")))
    except OSError:
        flags = {"asimd"} if platform.machine() in ("arm64", "aarch64") else set()
    return tuple(flag for flag in INSTRUCTIONS if flag in flags)


def memory_bytes() -> int:
    """Memory of the host, or the container's limit where that is less."""
    total = int(psutil.virtual_memory().total)
    for path in _MEMORY_LIMITS:
        try:
            return min(total, int(path.read_text("ascii")))
        except (OSError, ValueError):  # no container, or `max`
            continue
    return total


def free_bytes(folder: Path) -> int:
    """Free space of the disk that holds a folder, which need not exist yet. Raises ConfigError where it cannot be looked at."""
    with translating(folder):
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free


def accelerators() -> tuple[Accelerator, ...]:
    """Every accelerator: those of torch, else what the vendors' programs see."""
    return _of_torch() or tuple(found for probe in probes() for found in answered(probe, ask(probe["command"])))


@cache
def probes() -> list[dict[str, Any]]:
    """The vendors' programs and how to read them, from probes.toml."""
    return list(tomllib.loads((Path(__file__).parent / "probes.toml").read_text("utf-8"))["probe"])


def answered(probe: dict[str, Any], answer: str | None) -> list[Accelerator]:
    """The accelerators in what a program of `probes` has printed."""
    names = re.findall(probe["name"], answer or "", re.M)
    memories = re.findall(probe["memory"], answer or "", re.M) if "memory" in probe else [None] * len(names)
    return [
        Accelerator(name.strip(), probe["device"], int(memory) * probe["unit"] if memory else None, False)
        for name, memory in zip(names, memories, strict=False)
    ]


def _of_torch() -> tuple[Accelerator, ...]:
    # In a process of its own: it takes a second, and a broken driver can end the process that asks.
    code = (
        "from pipeline.model.device import devices\n"
        "for device in devices(): print(device.kind, device.memory_bytes or 0, device.label, sep='\\t')"
    )
    answer = ask([sys.executable, "-c", code], 60.0) or ""
    rows = [line.split("\t") for line in answer.splitlines() if line.count("\t") == 2]
    return tuple(Accelerator(label, kind, int(memory) or None, True) for kind, memory, label in rows)
