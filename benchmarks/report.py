"""What a benchmark leaves behind: the machine, the figures, a table."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import torch

from pipeline.model.device import usable_cores

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    flags = next((line for line in _lines("/proc/cpuinfo") if line.startswith("flags")), "")
    return {
        "cores": usable_cores(), "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "amx_bf16": "amx_bf16" in flags, "avx512_bf16": "avx512_bf16" in flags, "python": platform.python_version(),
        "torch": torch.__version__, "load_average": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def save(name: str, figures: Mapping[str, object]) -> None:
    """Write the figures to results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": machine(), **figures}, indent=1) + "\n", "utf-8")


def ratios(rates: Mapping[str, Sequence[float]], base: str) -> dict[str, float]:
    """Medians over the rounds of each one's rate by that of `base` in the same round."""
    return {
        name: round(statistics.median(rate / other for rate, other in zip(values, rates[base], strict=True)), 2)
        for name, values in rates.items()
    }


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8").splitlines()
    except OSError:
        return []
