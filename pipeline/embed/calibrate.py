"""A short measurement that decides which precision pays on this device with this model."""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pipeline.device import Device
    from pipeline.embed.local import LocalEmbedder

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

#: A precision must be this many times as fast as fp32 to be worth leaving it.
LEAST_GAIN = 1.1


def choose_dtype(memory: Path, device: Device, model: str, load: Callable[[torch.dtype], LocalEmbedder]) -> torch.dtype:
    """The fastest precision whose vectors agree with fp32; the answer is remembered in the file `memory`.

    Whether a half precision pays depends on the processor's instructions and the library's kernels, so it is measured,
    once a processor, torch version and model. The file is a cache: damaged or missing, it is made anew.
    """
    key = f"{device.label} | {device.kind} | torch {torch.__version__} | {model}"
    known = _read(memory).get(key)
    if known in ("float32", "bfloat16", "float16"):
        dtype: torch.dtype = getattr(torch, known)
        return dtype
    best, rates = torch.float32, {}
    reference = load(torch.float32)
    rates[best], exact = _measure(reference)
    for candidate in _candidates(device):
        try:
            rate, vectors = _measure(load(candidate))
        except RuntimeError as error:  # not every operation exists in every precision everywhere
            log.info("%s does not run in %s: %s", device.name, candidate, error)
            continue
        cosine = float((vectors * exact).sum(1).min())
        rates[candidate] = rate
        log.info("%s: %.0f chunks/s, least cosine %.5f", candidate, rate, cosine)
        if cosine >= LEAST_COSINE and rate >= rates[best] * LEAST_GAIN:
            best = candidate
    _remember(memory, key, str(best).removeprefix("torch."))
    return best


def _candidates(device: Device) -> tuple[torch.dtype, ...]:
    return (torch.bfloat16,) if device.kind == "cpu" else (torch.float16, torch.bfloat16)


def _measure(embedder: LocalEmbedder) -> tuple[float, torch.Tensor]:
    embedder.embed(CANARY_TEXTS[:2])
    began = time.perf_counter()
    vectors = embedder.embed(CANARY_TEXTS)
    return len(CANARY_TEXTS) / (time.perf_counter() - began), torch.from_numpy(vectors)


def _read(memory: Path) -> dict[str, str]:
    try:
        value = json.loads(memory.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _remember(memory: Path, key: str, dtype: str) -> None:
    """Add an answer; two writers at once may lose one of them, which is measured again."""
    temporary = memory.with_name(f"{memory.name}.{uuid.uuid4().hex}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({**_read(memory), key: dtype}, indent=1), "utf-8")
        os.replace(temporary, memory)
    except OSError as error:  # a read-only data folder costs a second at each start, no more
        log.info("cannot remember the calibration: %s", error)
        temporary.unlink(missing_ok=True)
