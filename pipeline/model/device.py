"""Chooses the device: the devices that torch finds, the requested one, and the fallback to the CPU."""

from __future__ import annotations

import logging
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DeviceError

if TYPE_CHECKING:
    from types import ModuleType

log = logging.getLogger(__name__)

#: Files with a container's CPU quota, in version 2 and in version 1 of control groups.
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
_CPU_V1 = Path("/sys/fs/cgroup/cpu")

#: Linux's description of the processor.
_CPU_INFO = Path("/proc/cpuinfo")

#: Tokens per model call. On a CPU, more tokens than this no longer fit into a core's caches; a GPU needs many to be busy.
CPU_TOKENS = 2048
GPU_TOKENS = 65536

#: GPU memory per token of a call with a small model, a generous estimate; larger models halve the call until it fits.
GPU_BYTES_PER_TOKEN = 96 * 1024


@dataclass(frozen=True, slots=True)
class Device:
    """A device as torch names it."""

    name: str  #: cpu, cuda:0, mps
    kind: str  #: cpu, cuda, mps
    label: str  #: the maker's name for it
    memory_bytes: int | None  #: of its own memory; None where it shares the host's


def choose(wanted: str = "auto", *, require_gpu: bool = False) -> Device:
    """The device for a setting: auto, cpu, cuda, cuda:N or mps.

    A GPU that does not exist or does not work is replaced by the CPU, with a warning. Raises DeviceError instead with
    `require_gpu`, and for a setting that names no device.
    """
    if wanted == "cpu":
        if require_gpu:
            raise DeviceError("the device is set to cpu, but --require-gpu asks for a GPU: drop one of them")
        return _cpu()
    kind, _, number = wanted.partition(":")
    if kind not in ("auto", "cuda", "mps") or (number and not (kind == "cuda" and number.isdecimal())):
        raise DeviceError(f"{wanted!r} is not a device: use auto, cpu, cuda, cuda:N or mps")
    why = "torch finds no GPU"
    for name in [f"cuda:{number or 0}"] * (kind != "mps") + ["mps"] * (kind != "cuda"):
        try:
            found = _try(name)
        except RuntimeError as error:  # for example an incompatible driver, or a device in a bad state
            why = str(error).splitlines()[0]
            continue
        if found is not None:
            return found
    if require_gpu:
        raise DeviceError(f"no GPU can be used ({why}), and --require-gpu forbids the CPU: repair the GPU or drop --require-gpu")
    log.warning("no GPU can be used (%s): embedding on the CPU", why)
    return _cpu()


def devices() -> list[Device]:
    """Every accelerator that torch finds and that computes correctly, in torch's order."""
    import torch

    found = []
    for name in [f"cuda:{number}" for number in range(torch.cuda.device_count())] + ["mps"]:
        try:
            found.append(_try(name))
        except RuntimeError as error:
            log.warning("%s exists, but cannot be used: %s", name, error)
    return [device for device in found if device is not None]


def visible_gpus() -> list[str]:
    """For each GPU this process may use, the value of CUDA_VISIBLE_DEVICES that selects it, in torch's order."""
    import torch

    count = torch.cuda.device_count()
    mask = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    return mask[:count] if mask else [str(number) for number in range(count)]


def gpu_uuids() -> list[str]:
    """For each of `visible_gpus`, the maker's unique id of this GPU; empty where torch does not report it."""
    import torch

    return [str(getattr(torch.cuda.get_device_properties(number), "uuid", "")) for number in range(torch.cuda.device_count())]


def token_budget(kind: str, memory_bytes: int | None) -> int:
    """Tokens per model call on a device of this kind; `memory_bytes` is None where it shares the host's memory."""
    if kind == "cpu":
        return CPU_TOKENS
    if memory_bytes is None:
        return GPU_TOKENS // 4
    return max(CPU_TOKENS, min(GPU_TOKENS, memory_bytes // 2 // GPU_BYTES_PER_TOKEN))


def usable_cores() -> int:
    """Number of cores that this process may use, by its affinity and by the container's CPU quota where one is set."""
    cores = allowed_cores()
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def allowed_cores() -> int:
    """Number of cores on which this process may run, by its affinity."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota() -> float | None:
    """Core-seconds per second that the container may use; None without a limit."""
    try:
        if _CPU_MAX.exists():
            quota, period = _CPU_MAX.read_text("ascii").split()
        else:  # version 1 of control groups
            quota, period = ((_CPU_V1 / name).read_text("ascii").strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _try(name: str) -> Device | None:
    """The device, or None if it does not exist; raises RuntimeError if it exists, but does not compute correctly."""
    import torch

    if name == "mps":
        if not torch.backends.mps.is_available():
            return None
        _compute(torch, name)
        return Device("mps", "mps", platform.processor() or "mps", None)
    if not torch.cuda.is_available() or int(name.partition(":")[2]) >= torch.cuda.device_count():
        return None
    _compute(torch, name)
    properties = torch.cuda.get_device_properties(name)
    return Device(name, "cuda", str(properties.name), int(properties.total_memory))


def _compute(torch: ModuleType, name: str) -> None:
    value = float((torch.ones(8, 8, device=name) @ torch.ones(8, 8, device=name)).sum())
    if value != 512.0:
        raise RuntimeError(f"{name} computes wrong results")


def _cpu() -> Device:
    return Device("cpu", "cpu", processor_name(), None)


def processor_name() -> str:
    """The processor's model name."""
    return _of_processor("model name") or platform.processor() or platform.machine()


def processor_flags() -> frozenset[str]:
    """The instructions of this processor by their names in Linux; empty where the system does not list them."""
    return frozenset((_of_processor("flags") or _of_processor("Features")).split())


def _of_processor(wanted: str) -> str:
    """What Linux says about the first core; empty where it says nothing."""
    try:
        for line in _CPU_INFO.read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == wanted:
                return value.strip()
    except OSError:
        pass
    return ""
