"""A short measurement that chooses the fastest precision and number of streams for this device and this model."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.embed.plan import CANARY_TEXTS, ComputePlan, T, Trial
from pipeline.files.replace import replace_file
from pipeline.model.device import usable_cores
from pipeline.text import plural

if TYPE_CHECKING:
    from pipeline.model.device import Device

log = logging.getLogger(__name__)

#: Minimum cosine to fp32 for a precision to be used.
MIN_COSINE = 0.999

#: Instructions of x86, as torch names them, that compute bf16 by way of fp32, six times as slowly: it need not be measured.
WITHOUT_BF16 = ("NO AVX", "AVX2")

#: A choice must be at least this many times as fast as the simpler one.
MIN_GAIN = 1.1

#: Maximum number of streams: with more, they wait for the interpreter that they share.
MAX_STREAMS = 16

#: Rounds of the canary texts per core when streams are compared: every stream needs several calls.
ROUNDS_PER_CORE = 2

#: Measurements per number of streams, as long as the two fastest are within MIN_GAIN of each other; the best one counts,
#: because other work on this machine can only slow them down.
STREAM_TRIES = 2

#: Number of streams on a GPU: while one computes, the others prepare and upload.
GPU_STREAMS = 3


def calibrated(memory: Path, device: Device, model: str, dtype: str, load: Callable[[], T], *, measured: bool = True) -> T:
    """The embedder that `load` returns in fp32, with the fastest plan whose vectors agree with fp32; `dtype` may fix the precision.

    Whether a half precision is faster depends on the processor's instructions and the library's kernels. The best number
    of streams depends on its caches. Both are therefore measured, with the rate, once per processor, number of cores, torch
    version and model. The file `memory` keeps the result. It is a cache: a damaged or missing one is made again. With
    `measured` off, the embedder stays in fp32 where nothing is kept.
    """
    key = f"{device.label} | {device.kind} | {usable_cores()} cores | torch {torch.__version__} | {model} | {dtype}"
    embedder = load()
    plan = _plan(_read(memory).get(key))
    if plan is not None:
        embedder.use(plan)
        return embedder
    plan = ComputePlan("float32", 1, usable_cores())
    embedder.use(plan)
    if not measured:
        return embedder
    if dtype != "auto":
        plan = replace(plan, dtype=dtype)
    elif device.kind != "cpu" or torch.backends.cpu.get_cpu_capability() not in WITHOUT_BF16:
        embedder, plan = _precision(embedder, device, plan, load)
    plan = _streams(embedder, device, plan)
    embedder.use(plan)
    if not plan.chunks_per_s:
        plan = replace(plan, chunks_per_s=round(_measure(embedder, CANARY_TEXTS * plan.streams)[0], 1))
        embedder.use(plan)
    _remember(memory, key, plan)
    return embedder


def _precision(embedder: T, device: Device, plan: ComputePlan, load: Callable[[], T]) -> tuple[T, ComputePlan]:
    """The fastest precision that agrees with fp32, and an embedder in that precision or still in fp32."""
    best, exact = _measure(embedder)
    for dtype in ("bfloat16",) if device.kind == "cpu" else ("float16", "bfloat16"):
        candidate = replace(plan, dtype=dtype)
        trial = embedder if embedder.info.dtype == "float32" else load()
        trial.use(candidate)
        try:
            if device.kind == "cpu" and _is_slower(trial, len(CANARY_TEXTS) / best):
                log.info("%s is not faster on %s", dtype, device.name)
                continue
            rate, vectors = _measure(trial)
        except RuntimeError as error:  # some devices lack some operations in some precisions
            log.info("%s does not run in %s: %s", device.name, dtype, error)
            continue
        cosine = float((vectors * exact).sum(1).min())
        log.info("%s: %.0f chunks/s, minimum cosine %.5f", dtype, rate, cosine)
        if cosine >= MIN_COSINE and rate >= best * MIN_GAIN:
            best, plan, embedder = rate, candidate, trial
    return (embedder if embedder.info.dtype in ("float32", plan.dtype) else load()), plan


def _streams(embedder: Trial, device: Device, plan: ComputePlan) -> ComputePlan:
    """The fastest number of streams; each stream gets its share of the cores."""
    if device.kind != "cpu":
        return replace(plan, streams=GPU_STREAMS if device.kind == "cuda" else 1)
    cores = usable_cores()
    texts = CANARY_TEXTS * (ROUNDS_PER_CORE * cores)
    counts = [1 << power for power in range(MAX_STREAMS.bit_length()) if 1 << power <= min(cores, MAX_STREAMS)]
    candidates = [replace(plan, streams=streams, threads=cores // streams) for streams in counts]
    best = dict.fromkeys(candidates, 0.0)
    for _ in range(STREAM_TRIES if len(candidates) > 1 else 0):
        for candidate in candidates:
            embedder.use(candidate)
            rate, _ = _measure(embedder, texts)
            log.info("%s, threads of each: %d: %.0f chunks/s", plural(candidate.streams, "stream"), candidate.threads, rate)
            best[candidate] = max(best[candidate], rate)
        first, second = sorted(best.values(), reverse=True)[:2]
        if first > MIN_GAIN * second:
            break
    fastest = max(candidates, key=best.__getitem__)
    return replace(fastest, chunks_per_s=round(best[fastest], 1))


def _is_slower(embedder: Trial, limit_s: float) -> bool:
    """Whether the canary texts take longer than `limit_s`; returns soon after that time, even on a slow device.

    A processor without instructions for bf16 takes six times as long as in fp32, and half a minute next to other work.
    """
    embedder.embed(CANARY_TEXTS[:1])  # the first call on a device pays for its set-up
    began = time.perf_counter()
    for start in range(0, len(CANARY_TEXTS), 2):
        embedder.embed(CANARY_TEXTS[start : start + 2])
        if time.perf_counter() - began > limit_s:
            return True
    return False


def _measure(embedder: Trial, texts: tuple[str, ...] = CANARY_TEXTS) -> tuple[float, NDArray[np.float32]]:
    embedder.embed(CANARY_TEXTS[:2])  # the first call on a device pays for its set-up
    began = time.perf_counter()
    vectors = embedder.embed(texts)
    return len(texts) / (time.perf_counter() - began), vectors


def _plan(remembered: object) -> ComputePlan | None:
    """The remembered plan; None where the file holds something else."""
    match remembered:
        case {
            "dtype": "float32" | "bfloat16" | "float16" as dtype,
            "streams": int(streams),
            "threads": int(threads),
            "chunks_per_s": float(rate),
        }:
            return ComputePlan(dtype, streams, threads, rate) if streams > 0 and threads > 0 and rate > 0 else None
        case _:
            return None


def _read(memory: Path) -> dict[str, object]:
    try:
        value = json.loads(memory.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _remember(memory: Path, key: str, plan: ComputePlan) -> None:
    """Add a result; of two concurrent writers, one may lose its result, which is then measured again."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        replace_file(memory, json.dumps({**_read(memory), key: asdict(plan)}, indent=1).encode())
    except OSError as error:  # a read-only data folder only costs a second at each start
        log.info("cannot save the calibration, which is repeated at the next start: %s", error)
