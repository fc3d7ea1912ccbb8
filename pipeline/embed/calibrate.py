"""What this machine suggests for a model: the precision, the plans to compare, and the file that keeps what loads found out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.embed.plan import CANARY_TEXTS, ComputePlan, Plans
from pipeline.embed.turns import Known
from pipeline.files.replace import replace_file
from pipeline.model.device import allowed_cores, cpu_quota, processor_flags, usable_cores

if TYPE_CHECKING:
    from pipeline.model.device import Device

log = logging.getLogger(__name__)

#: Minimum cosine to fp32 for a half precision to be used.
MIN_COSINE = 0.999

#: Texts for this check: short ones, because an embed worker's first start waits for it.
CHECKED_TEXTS = tuple(sorted(CANARY_TEXTS, key=len)[:3])

#: Instructions that compute in bf16, by their names on x86 and on ARM. Without them it is computed by way of fp32, six times as
#: slowly.
BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})

#: Instructions that decide which plan is fast.
TELLING_FLAGS = BF16_FLAGS | {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "amx_fp16", "sve", "i8mm"}

#: Levels of torch, which a variable of the environment can lower, that use none of them.
WITHOUT_BF16 = ("NO AVX", "AVX2")

#: Maximum number of streams: with more, they wait for the interpreter that they share.
MAX_STREAMS = 16

#: Plans to compare; every one of them costs turns in which the load is slower.
MAX_PLANS = 3

#: Changes when plans have other rates than before, because the model is computed in another way.
WAY = 2

#: Number of streams on a GPU: while one computes, the others prepare and upload.
GPU_STREAMS = 3

#: CUDA devices before this compute capability have no fast half precision.
HALF_CAPABILITY = (7, 0)


class Trial(Protocol):
    """An embedder of this process whose precision can change once."""

    def cast(self, dtype: str) -> None:
        """Change from fp32 to another precision."""

    def embed(self, texts: tuple[str, ...], /) -> NDArray[np.float32]:
        """Unit vectors of texts, (texts, dimension)."""


T = TypeVar("T", bound=Trial)


def half_precisions(device: Device) -> tuple[str, ...]:
    """Precisions that are faster than fp32 on a device, the preferred one first; empty if there is none."""
    if device.kind == "cpu":
        there = BF16_FLAGS & processor_flags() and torch.backends.cpu.get_cpu_capability() not in WITHOUT_BF16
        return ("bfloat16",) if there else ()
    if device.kind == "cuda" and torch.cuda.get_device_capability(device.name) < HALF_CAPABILITY:
        return ()
    return ("float16", "bfloat16")


def in_best_precision(device: Device, load: Callable[[], T]) -> tuple[T, str]:
    """An embedder of `load`, which makes them in fp32, and its precision: a half one that is fast here and agrees with fp32.

    The device's instructions decide, not a measurement: vectors must not depend on what else ran at the first start.
    """
    embedder = load()
    exact: NDArray[np.float32] | None = None
    for dtype in half_precisions(device):
        exact = embedder.embed(CHECKED_TEXTS) if exact is None else exact
        trial = load()
        try:
            trial.cast(dtype)
            cosine = float((trial.embed(CHECKED_TEXTS) * exact).sum(1).min())
        except RuntimeError as error:  # some devices lack some operations in some precisions
            log.info("%s does not run in %s: %s", device.name, dtype, error)
            continue
        log.info("%s: minimum cosine to fp32 %.5f", dtype, cosine)
        if cosine >= MIN_COSINE:
            return trial, dtype
    return embedder, "float32"


def plans(device: Device, dtype: str, *, packs: bool) -> Plans:
    """Plans worth comparing, at most MAX_PLANS, the most likely one first.

    A core's caches serve one stream best, so a stream for each core comes first, without padding. On AVX2 in fp32 this won by
    more than anything could change. In half precision, whose kernels are made for each shape, it is compared with padding.
    """
    if device.kind != "cpu":
        return (ComputePlan(GPU_STREAMS if device.kind == "cuda" else 1, 1),)
    cores = usable_cores()
    counts = [min(cores, MAX_STREAMS)]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    found = [ComputePlan(streams, cores // streams, packs) for streams in counts]
    if packs and dtype != "float32":
        found.insert(1, ComputePlan(found[0].streams, found[0].threads))
    return tuple(found[:MAX_PLANS])


def identity(device: Device, model: str, dtype: str) -> str:
    """All that the choice of a plan depends on: device, instructions, cores, quota, torch, model, and how it is computed."""
    flags = " ".join(sorted(TELLING_FLAGS & processor_flags())) if device.kind == "cpu" else device.kind
    quota = cpu_quota()
    cores = f"{allowed_cores()} cores" + (f", {quota:g} of them at a time" if quota else "")
    return f"{device.label} | {flags} | {cores} | torch {torch.__version__} | {model} | {dtype} | {WAY}"


class Memory:
    """The entry of one machine and model in `calibration.json`. It is a cache: a damaged or missing one is made again."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key

    def read(self) -> tuple[str, Known] | None:
        """The precision, and what is known about the plans; None where the file holds nothing or something else."""
        match self._all().get(self._key):
            case {"dtype": "float32" | "bfloat16" | "float16" as dtype, "rounds": list(rounds), **rest}:
                return dtype, _settled(rest) or Known(rounds=tuple(one for one in rounds if _is_round(one)))
            case _:
                return None

    def write(self, dtype: str, known: Known) -> None:
        """Replace the entry; of two concurrent writers, one may lose its entry, which is then made again."""
        entry: dict[str, object] = {"dtype": dtype, "rounds": list(known.rounds)}
        if known.settled is not None:
            plan = known.settled
            entry |= {"streams": plan.streams, "threads": plan.threads, "packed": plan.packed}
            entry |= {"tokens_per_s": round(known.work_per_s, 1), "chunks_per_s": round(known.texts_per_s, 1)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, json.dumps({**self._all(), self._key: entry}, indent=1).encode())
        except OSError as error:  # with a read-only data folder, each start begins with the plan that the machine suggests
            log.info("cannot save the calibration: %s", error)

    def _all(self) -> dict[str, object]:
        try:
            value = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}


def _settled(entry: dict[object, object]) -> Known | None:
    match entry:
        case {
            "streams": int(streams),
            "threads": int(threads),
            "packed": bool(packed),
            "tokens_per_s": float(work),
            "chunks_per_s": float(texts),
        } if min(streams, threads, work, texts) > 0:
            return Known(ComputePlan(streams, threads, packed), work, texts)
        case _:
            return None


def _is_round(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(rate, float) for rate in value.values())
