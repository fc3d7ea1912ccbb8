"""From a host to settings: the model that fits, where it runs, and what each container may use. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.host.machine import Machine
from pipeline.host.models import MODELS, ModelCard
from pipeline.model.device import token_budget

#: A model is too slow for a host that could not embed a million chunks with it in eight hours.
LEAST_CHUNKS_PER_S = 35.0

#: Speed of a core beside one with AMX, by the best instructions it has: measured on one machine with the better ones switched
#: off (docs/models.md). NEON was not measured and is taken for AVX2.
CORE_SPEED = {"amx_bf16": 1.0, "avx512_bf16": 0.3, "avx512f": 0.3, "avx2": 0.18, "asimd": 0.18}

#: Share of the memory that the embed worker may take; stores, parsers and the system want the rest.
EMBED_SHARE = 0.5

#: Share that parse workers may take, and what one of them needs with its parser for all but the largest documents.
PARSE_SHARE = 0.25
PARSER_BYTES = 1 << 30

#: A small collection.
LEAST_QDRANT_BYTES = 512 << 20

#: Limits of the containers that are there in every mode.
SERVICE_LIMITS = ("KB_REDIS_MEMORY", "KB_QDRANT_MEMORY")

_MIB = 1 << 20
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Settings for a host."""

    model: ModelCard
    device: str  #: what embed workers use: cuda, mps, cpu
    dtype: str  #: what the calibration of KB_DTYPE=auto is likely to choose there
    embed_workers: int  #: one a GPU, or one for everything else
    token_budget: int  #: tokens in one model call, as KB_EMBED_TOKEN_BUDGET=0 takes it
    why: str  #: in one sentence
    chunks_per_s: float | None  #: forecast on a CPU; None on an accelerator, where nothing was measured
    parse_workers: int
    limits: dict[str, str]  #: of the containers, by the name of their variable in compose.yaml
    docker_bytes: int  #: memory that all containers together may take


def recommend(
    machine: Machine, docker_bytes: int | None = None, model: ModelCard | None = None, *, native: bool = False
) -> Recommendation:
    """What to run on this machine.

    Containers have `docker_bytes` (default: all of the machine's memory). With `native` only the services are in containers,
    and workers have the machine's memory. `model` keeps one that is chosen already.
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
    """Chunks a second on the machine's cores."""
    speed = CORE_SPEED[machine.instructions[0]] if machine.instructions else 0.1
    return card.chunks_per_s / 2 * machine.cores * speed


def _dtype(machine: Machine, device: str) -> str:
    """On a CPU only AMX gains from bf16: with AVX-512's bf16 alone, 41 chunks/s beside 57 in fp32 (docs/models.md)."""
    if device == "cpu":
        return "bfloat16" if "amx_bf16" in machine.instructions else "float32"
    return "bfloat16" if device == "cuda" else "float16"


def _fits(card: ModelCard, machine: Machine, device: str, memory: int) -> bool:
    if card.worker_bytes(device) > memory * EMBED_SHARE:
        return False
    if device == "cpu":
        return forecast(card, machine) >= LEAST_CHUNKS_PER_S
    own = min((found.memory_bytes or memory for found in machine.accelerators if found.usable), default=memory)
    return card.device_bytes() <= own * 0.8


def _why(machine: Machine, device: str, *, kept: bool) -> str:
    if kept:
        return "it is the one that the collections here were made with, or that is set"
    where = f"{machine.cores} cores" if device == "cpu" else device
    rule = f" and embeds at least {LEAST_CHUNKS_PER_S:.0f} chunks/s" if device == "cpu" else ""
    return f"the best of the table that fits into half of the memory{rule} on {where}"


def _limits(card: ModelCard, device: str, parse_workers: int, containers: int, *, native: bool) -> dict[str, int]:
    """Limits that add up to no more than the containers' memory: what model and parsers need, half of the rest for Qdrant."""
    limits = {
        "KB_REDIS_MEMORY": 512 * _MIB, "KB_SCHEDULER_MEMORY": 640 * _MIB, "KB_FLOWER_MEMORY": 384 * _MIB,
        "KB_EMBED_MEMORY": int(card.worker_bytes(device) * 1.5), "KB_PARSE_MEMORY": 512 * _MIB + parse_workers * PARSER_BYTES,
    }  # fmt: skip
    rest = containers - (limits["KB_REDIS_MEMORY"] if native else sum(limits.values()))
    if rest < LEAST_QDRANT_BYTES:  # tight: the room above what the model needs goes first
        spare = limits["KB_EMBED_MEMORY"] - int(card.worker_bytes(device) * 1.1)
        limits["KB_EMBED_MEMORY"] -= max(0, min(spare, LEAST_QDRANT_BYTES - rest))
    return limits | {"KB_QDRANT_MEMORY": max(LEAST_QDRANT_BYTES, rest // 2)}


def parse_size(text: str) -> int:
    """Bytes of `10g`, `512m`, `64k` or a plain number, as Docker writes them.

    Raises ValueError.
    """
    text = text.strip().lower().removesuffix("b").removesuffix("i")
    factor = {"k": 1 << 10, "m": _MIB, "g": _GIB, "t": 1 << 40}.get(text[-1:], 0)
    number = float(text[:-1]) if factor else float(text)
    if not 0 < number * (factor or 1) < 1 << 60:
        raise ValueError(text)
    return int(number * (factor or 1))


def format_size(size: int) -> str:
    """A size as Docker reads it, in whole mebibytes."""
    return f"{max(1, size // _MIB)}m"
