"""From a host to settings: the model that fits, its device, and the limits of each container. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.host.machine import Machine
from pipeline.host.models import MODELS, ModelCard
from pipeline.model.device import token_budget

#: Minimum rate on a CPU: at this rate, a million chunks take eight hours.
MIN_CHUNKS_PER_S = 35.0

#: Speed of a core compared with one with AMX, by its best instructions: measured on one machine with the better ones switched
#: off (docs/models.md). NEON was not measured; it is assumed to equal AVX2.
CORE_SPEED = {"amx_bf16": 1.0, "avx512_bf16": 0.3, "avx512f": 0.3, "avx2": 0.18, "asimd": 0.18}

#: Share of the memory that the embed worker may take; stores, parsers and the system need the rest.
EMBED_SHARE = 0.5

#: Share that parse workers may take, and the memory of one of them with its parser for all but the largest documents.
PARSE_SHARE = 0.25
PARSER_BYTES = 1 << 30

#: Minimum memory limit of Qdrant, enough for a small collection.
MIN_QDRANT_BYTES = 512 << 20

#: Limits of the containers that run in every mode.
SERVICE_LIMITS = ("KB_REDIS_MEMORY", "KB_QDRANT_MEMORY")

_MIB = 1 << 20
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Settings for a host."""

    model: ModelCard
    device: str  #: device of the embed workers: cuda, mps, cpu
    dtype: str  #: the type that the calibration of KB_DTYPE=auto is likely to choose there
    embed_workers: int  #: one per GPU; one on other devices
    token_budget: int  #: tokens in one model call, as with KB_EMBED_TOKEN_BUDGET=0
    why: str  #: the reason, in one sentence
    chunks_per_s: float | None  #: forecast on a CPU; None on an accelerator, where nothing was measured
    parse_workers: int
    limits: dict[str, str]  #: container limits, by the name of their variable in compose.yaml
    docker_bytes: int  #: memory that all containers together may take


def recommend(
    machine: Machine, docker_bytes: int | None = None, model: ModelCard | None = None, *, native: bool = False
) -> Recommendation:
    """Recommend settings for this machine.

    Containers can use `docker_bytes` (default: all of the machine's memory). With `native`, only the services run in
    containers, and workers can use the machine's memory. `model` keeps a model that is already chosen.
    """
    containers = docker_bytes or machine.memory_bytes
    memory = machine.memory_bytes if native else containers
    usable = [found for found in machine.accelerators if found.usable]
    device = usable[0].kind if usable else "cpu"
    fitting = [card for card in MODELS if _fits(card, machine, device, memory)]
    card = model or (fitting[-1] if fitting else MODELS[0])
    parse_workers = max(1, min(8, machine.cores // 2, int(memory * PARSE_SHARE) // PARSER_BYTES))
    limits = _limits(card, device, parse_workers, containers, native=native)
    sizes = {name: format_size(size) for name, size in limits.items()}
    return Recommendation(
        model=card,
        device=device,
        dtype=_dtype(machine, device),
        embed_workers=len(usable) if device == "cuda" else 1,
        token_budget=token_budget(device, usable[0].memory_bytes if usable else None),
        why=_why(machine, device, kept=model is not None),
        chunks_per_s=forecast(card, machine) if device == "cpu" else None,
        parse_workers=parse_workers,
        limits=sizes
        | {
            "KB_CLI_MEMORY": sizes["KB_EMBED_MEMORY"],
            "KB_EMBED_CPUS": str(machine.cores),
            "KB_PARSE_CPUS": str(parse_workers),
            "KB_PARSE_WORKERS": str(parse_workers),
        },
        docker_bytes=sum(limits[name] for name in (SERVICE_LIMITS if native else limits)),
    )


def forecast(card: ModelCard, machine: Machine) -> float:
    """Chunks per second on the machine's cores."""
    speed = CORE_SPEED[machine.instructions[0]] if machine.instructions else 0.1
    return card.chunks_per_s / 2 * machine.cores * speed


def _dtype(machine: Machine, device: str) -> str:
    """On a CPU only AMX gains from bf16: with only AVX-512's bf16, 41 chunks/s compared with 57 in fp32 (docs/models.md)."""
    if device == "cpu":
        return "bfloat16" if "amx_bf16" in machine.instructions else "float32"
    return "bfloat16" if device == "cuda" else "float16"


def _fits(card: ModelCard, machine: Machine, device: str, memory: int) -> bool:
    if card.worker_bytes(device) > memory * EMBED_SHARE:
        return False
    if device == "cpu":
        return forecast(card, machine) >= MIN_CHUNKS_PER_S
    own = min((found.memory_bytes or memory for found in machine.accelerators if found.usable), default=memory)
    return card.device_bytes() <= own * 0.8


def _why(machine: Machine, device: str, *, kept: bool) -> str:
    if kept:
        return "the existing collections were made with it, or it is set"
    where = f"{machine.cores} cores" if device == "cpu" else device
    rule = f" and embeds at least {MIN_CHUNKS_PER_S:.0f} chunks/s" if device == "cpu" else ""
    return f"the best model in the table that fits into half of the memory{rule} on {where}"


def _limits(card: ModelCard, device: str, parse_workers: int, containers: int, *, native: bool) -> dict[str, int]:
    """Limits that add up to at most the containers' memory: the needs of model and parsers, and half of the rest for Qdrant."""
    limits = {
        "KB_REDIS_MEMORY": 512 * _MIB, "KB_SCHEDULER_MEMORY": 640 * _MIB, "KB_FLOWER_MEMORY": 384 * _MIB,
        "KB_SERVE_MEMORY": card.worker_bytes(device), "KB_EMBED_MEMORY": int(card.worker_bytes(device) * 1.5),
        "KB_PARSE_MEMORY": 512 * _MIB + parse_workers * PARSER_BYTES,
    }  # fmt: skip
    rest = containers - (limits["KB_REDIS_MEMORY"] if native else sum(limits.values()))
    if rest < MIN_QDRANT_BYTES:  # tight: first reduce the margin above the model's needs
        spare = limits["KB_EMBED_MEMORY"] - int(card.worker_bytes(device) * 1.1)
        limits["KB_EMBED_MEMORY"] -= max(0, min(spare, MIN_QDRANT_BYTES - rest))
    return limits | {"KB_QDRANT_MEMORY": max(MIN_QDRANT_BYTES, rest // 2)}


def parse_size(text: str) -> int:
    """Bytes of a size in Docker's notation: `10g`, `512m`, `64k` or a plain number.

    Raises ValueError.
    """
    text = text.strip().lower().removesuffix("b").removesuffix("i")
    factor = {"k": 1 << 10, "m": _MIB, "g": _GIB, "t": 1 << 40}.get(text[-1:], 0)
    number = float(text[:-1]) if factor else float(text)
    if not 0 < number * (factor or 1) < 1 << 60:
        raise ValueError(text)
    return int(number * (factor or 1))


def format_size(size: int) -> str:
    """A size in Docker's notation, in whole mebibytes."""
    return f"{max(1, size // _MIB)}m"
