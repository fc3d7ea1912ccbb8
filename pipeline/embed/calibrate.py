"""A short measurement that decides which precision, and how many streams, pay on this device with this model."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.files.replace import replace_file
from pipeline.model.device import usable_cores

if TYPE_CHECKING:
    from pipeline.embed.local import LocalEmbedder
    from pipeline.model.device import Device

log = logging.getLogger(__name__)

_SENTENCES = (
    "The scheduler starts a new run when the previous one has ended, and records how many documents changed.",
    "An index over the payload field makes filters fast; without it every point of the collection is looked at.",
    "Water boils at a lower temperature in the mountains, because the pressure of the air is lower there.",
    "To open a file for writing, pass the mode as the second argument; the file is truncated if it exists.",
    "She closed the ledger, put the pen back into its stand and looked at the rain on the window for a while.",
    "Half precision halves the memory of the weights, but sums over many numbers should be kept in full precision.",
    "The warranty covers parts and labour for two years, unless the seal has been broken by an unauthorised person.",
)

#: Texts of different lengths, the usual one among them, for measuring a rate and comparing precisions.
CANARY_TEXTS = tuple(
    " ".join(_SENTENCES[(start + step) % len(_SENTENCES)] for step in range(length))
    for start, length in enumerate((1, 8, 8, 4, 8, 8, 2, 8, 6, 8, 8, 3))
)

#: Least cosine to fp32 for a precision to be used.
LEAST_COSINE = 0.999

#: A choice must be this many times as fast as the plainer one to be taken.
LEAST_GAIN = 1.1

#: Most streams: beyond this the interpreter, which they share, is what they wait for.
MOST_STREAMS = 16

#: Canary texts for each core when streams are compared: every stream needs several calls.
ROUNDS_PER_CORE = 2

#: How often each number of streams is measured; the best time counts, because whatever else runs here only ever slows it down.
STREAM_TRIES = 2

#: Streams on a GPU: while one computes, the others prepare and upload.
GPU_STREAMS = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model computes."""

    dtype: str  #: of the transformer: float32, bfloat16, float16
    streams: int  #: model calls at once
    threads: int  #: of each of them


def calibrated(memory: Path, device: Device, model: str, dtype: str, load: Callable[[], LocalEmbedder]) -> LocalEmbedder:
    """The embedder that `load` gives in fp32, with the fastest plan whose vectors agree with fp32; `dtype` may fix the precision.

    Whether a half precision pays depends on the processor's instructions and the library's kernels, and how many streams
    on its caches, so both are measured, once a processor, number of cores, torch version and model. The answer is
    remembered in the file `memory`. That is a cache: damaged or missing, it is made anew.
    """
    key = f"{device.label} | {device.kind} | {usable_cores()} cores | torch {torch.__version__} | {model} | {dtype}"
    embedder = load()
    plan = _plan(_read(memory).get(key))
    if plan is not None:
        embedder.use(plan)
        return embedder
    plan = Plan("float32", 1, usable_cores())
    embedder.use(plan)
    if dtype == "auto":
        embedder, plan = _precision(embedder, device, plan, load)
    else:
        plan = replace(plan, dtype=dtype)
    plan = _streams(embedder, device, plan)
    embedder.use(plan)
    _remember(memory, key, plan)
    return embedder


def _precision(
    embedder: LocalEmbedder, device: Device, plan: Plan, load: Callable[[], LocalEmbedder]
) -> tuple[LocalEmbedder, Plan]:
    """The fastest precision that agrees, and an embedder that is in it or still in fp32."""
    best, exact = _measure(embedder)
    for dtype in ("bfloat16",) if device.kind == "cpu" else ("float16", "bfloat16"):
        candidate = replace(plan, dtype=dtype)
        trial = embedder if embedder.info.dtype == "float32" else load()
        trial.use(candidate)
        try:
            if device.kind == "cpu" and _is_slower(trial, len(CANARY_TEXTS) / best):
                log.info("%s does not pay on %s", dtype, device.name)
                continue
            rate, vectors = _measure(trial)
        except RuntimeError as error:  # not every operation exists in every precision everywhere
            log.info("%s does not run in %s: %s", device.name, dtype, error)
            continue
        cosine = float((vectors * exact).sum(1).min())
        log.info("%s: %.0f chunks/s, least cosine %.5f", dtype, rate, cosine)
        if cosine >= LEAST_COSINE and rate >= best * LEAST_GAIN:
            best, plan, embedder = rate, candidate, trial
    return (embedder if embedder.info.dtype in ("float32", plan.dtype) else load()), plan


def _streams(embedder: LocalEmbedder, device: Device, plan: Plan) -> Plan:
    """The number of streams that is fastest; each has its share of the cores."""
    if device.kind != "cpu":
        return replace(plan, streams=GPU_STREAMS if device.kind == "cuda" else 1)
    cores = usable_cores()
    texts = CANARY_TEXTS * (ROUNDS_PER_CORE * cores)
    counts = [1 << power for power in range(MOST_STREAMS.bit_length()) if 1 << power <= min(cores, MOST_STREAMS)]
    candidates = [replace(plan, streams=streams, threads=cores // streams) for streams in counts]
    best = dict.fromkeys(candidates, 0.0)
    for _ in range(STREAM_TRIES if len(candidates) > 1 else 0):
        for candidate in candidates:
            embedder.use(candidate)
            rate, _ = _measure(embedder, texts)
            log.info("%d streams of %d threads: %.0f chunks/s", candidate.streams, candidate.threads, rate)
            best[candidate] = max(best[candidate], rate)
    return max(candidates, key=best.__getitem__)


def _is_slower(embedder: LocalEmbedder, limit_s: float) -> bool:
    """Whether the canary texts take longer than `limit_s`; known soon after that, however slow it is.

    A processor without the instructions for bf16 takes six times as long as in fp32, and half a minute beside other work.
    """
    embedder.embed(CANARY_TEXTS[:1])  # the first call on a device pays for its set-up
    began = time.perf_counter()
    for start in range(0, len(CANARY_TEXTS), 2):
        embedder.embed(CANARY_TEXTS[start : start + 2])
        if time.perf_counter() - began > limit_s:
            return True
    return False


def _measure(embedder: LocalEmbedder, texts: tuple[str, ...] = CANARY_TEXTS) -> tuple[float, NDArray[np.float32]]:
    embedder.embed(CANARY_TEXTS[:2])  # the first call on a device pays for its set-up
    began = time.perf_counter()
    vectors = embedder.embed(texts)
    return len(texts) / (time.perf_counter() - began), vectors


def _plan(remembered: object) -> Plan | None:
    """The plan that was remembered, unless the file holds something else."""
    match remembered:
        case {"dtype": "float32" | "bfloat16" | "float16" as dtype, "streams": int(streams), "threads": int(threads)}:
            return Plan(dtype, streams, threads) if streams > 0 and threads > 0 else None
        case _:
            return None


def _read(memory: Path) -> dict[str, object]:
    try:
        value = json.loads(memory.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _remember(memory: Path, key: str, plan: Plan) -> None:
    """Add an answer; two writers at once may lose one of them, which is measured again."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        replace_file(memory, json.dumps({**_read(memory), key: asdict(plan)}, indent=1).encode())
    except OSError as error:  # a read-only data folder costs a second at each start, no more
        log.info("cannot remember the calibration: %s", error)
