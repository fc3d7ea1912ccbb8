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
from pipeline.host.command import output_of
from pipeline.model.device import processor_name, usable_cores

#: Files with a container's memory limit, in version 2 and version 1 of control groups.
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

#: Instructions that decide how fast a processor embeds, the best first: flag -> common name.
INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bf16", "avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device that can embed faster than the processor."""

    name: str  #: the vendor's name
    kind: str  #: torch's name: cuda, mps
    memory_bytes: int | None  #: its own memory; None if it shares the host's
    usable: bool  #: torch can use it; False if only the vendor's program sees it


@dataclass(frozen=True, slots=True)
class Machine:
    """The properties of a host that matter here."""

    system: str  #: Linux, Darwin, Windows
    processor: str
    cores: int  #: cores that this process may use
    instructions: tuple[str, ...]  #: keys of INSTRUCTIONS
    memory_bytes: int  #: in a container: its limit
    disk_free_bytes: int  #: on the disk where the data folder is or will be
    accelerators: tuple[Accelerator, ...]


def look(data_dir: Path) -> Machine:
    """Inspect this host. Runs torch in a separate process, and the vendors' programs if torch finds nothing."""
    return Machine(
        system=platform.system(),
        processor=processor_name(),
        cores=usable_cores(),
        instructions=instructions(),
        memory_bytes=memory_bytes(),
        disk_free_bytes=free_bytes(data_dir),
        accelerators=accelerators(),
    )


def instructions() -> tuple[str, ...]:
    """The instructions that matter, the best first."""
    try:
        flags = set(re.findall(r"\S+", Path("/proc/cpuinfo").read_text("utf-8", "replace")))
    except OSError:
        flags = {"asimd"} if platform.machine() in ("arm64", "aarch64") else set()
    return tuple(flag for flag in INSTRUCTIONS if flag in flags)


def memory_bytes() -> int:
    """Memory of the host, or the container's limit if that is lower."""
    total = int(psutil.virtual_memory().total)
    for path in _MEMORY_LIMITS:
        try:
            return min(total, int(path.read_text("ascii")))
        except (OSError, ValueError):  # not in a container, or the limit is `max`
            continue
    return total


def free_bytes(folder: Path) -> int:
    """Free space on the disk of a folder, which may not exist yet. Raises ConfigError if the folder cannot be accessed."""
    with translating(folder):
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free


def accelerators() -> tuple[Accelerator, ...]:
    """Every accelerator: those that torch finds, else those that the vendors' programs report."""
    return _of_torch() or tuple(found for probe in probes() for found in answered(probe, output_of(probe["command"])))


@cache
def probes() -> list[dict[str, Any]]:
    """The vendors' programs and how to parse their output, from probes.toml."""
    return list(tomllib.loads((Path(__file__).parent / "probes.toml").read_text("utf-8"))["probe"])


def answered(probe: dict[str, Any], answer: str | None) -> list[Accelerator]:
    """The accelerators in the output of a program from `probes`."""
    names = re.findall(probe["name"], answer or "", re.M)
    memories = re.findall(probe["memory"], answer or "", re.M) if "memory" in probe else [None] * len(names)
    return [
        Accelerator(name.strip(), probe["device"], int(memory) * probe["unit"] if memory else None, False)
        for name, memory in zip(names, memories, strict=False)
    ]


def _of_torch() -> tuple[Accelerator, ...]:
    # In a separate process: it takes a second, and a broken driver can crash the process that loads it.
    code = (
        "from pipeline.model.device import devices\n"
        "for device in devices(): print(device.kind, device.memory_bytes or 0, device.label, sep='\\t')"
    )
    answer = output_of([sys.executable, "-c", code], 60.0) or ""
    rows = [line.split("\t") for line in answer.splitlines() if line.count("\t") == 2]
    return tuple(Accelerator(label, kind, int(memory) or None, True) for kind, memory, label in rows)
