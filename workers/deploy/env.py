"""The values that `kb-ingest init` and `assess --write` write to `.env`, and whether the model fits into memory."""

from __future__ import annotations

import grp
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import HostError, KbError
from pipeline.host import envfile
from pipeline.host.engine import Engine
from pipeline.host.models import MODELS, ModelCard, card_of
from pipeline.host.recommend import Recommendation
from pipeline.ledger import Ledger
from pipeline.settings import Settings
from pipeline.text import memory

#: Subfolders of the data folder that containers write to; they must exist, because Docker would create them for root.
FOLDERS = ("staging", "hf_cache", "redis", "qdrant-server", "flower", "prometheus", "grafana")

#: User and group id of containers that root sets up.
DEFAULT_ID = 1000

#: Memory that services, parsers and command use next to the embed worker; their limits would refuse starts that work.
SERVICES_BYTES = 2 << 30

#: Max share of the host's memory for Docker Desktop's virtual machine; the host needs the rest.
DESKTOP_SHARE = 0.75

#: Memory requested on top of the need: the virtual machine keeps some for itself.
DESKTOP_SPARE_BYTES = 1 << 30


def initial(env: Mapping[str, str], folder: Path, *, native: bool, data_dir: Path | None) -> dict[str, str]:
    """Values that a deployment in `folder` needs and `env` lacks; missing secrets are generated."""
    uid, gid = (os.getuid(), os.getgid()) if os.getuid() else (DEFAULT_ID, DEFAULT_ID)
    password = env.get("KB_REDIS_PASSWORD") or secrets.token_hex(24)
    wanted = {
        "COMPOSE_PROFILES": "services" if native else "containers",
        "KB_DATA_DIR": str((data_dir or folder / "data").absolute()),
        "KB_DOCUMENTS": str((folder / "documents").absolute()),
        "KB_UID": str(uid),
        "KB_GID": str(gid),
        "KB_VIDEO_GID": _group("video", 44),
        "KB_RENDER_GID": _group("render", 992),
        "KB_REDIS_PASSWORD": password,
        "KB_API_KEY": secrets.token_hex(24),
        "KB_FLOWER_AUTH": f"kb:{secrets.token_hex(12)}",
        "KB_GRAFANA_PASSWORD": secrets.token_hex(12),
        # For commands and workers on this host; containers use other addresses.
        "KB_REDIS_URL": f"redis://:{password}@127.0.0.1:{env.get('KB_REDIS_PORT', '6379')}/0",
        "KB_QDRANT_URL": f"http://127.0.0.1:{env.get('KB_QDRANT_PORT', '6333')}",
    }
    return {name: value for name, value in wanted.items() if not env.get(name)}


def make_folders(data_dir: Path, documents: Path, uid: int, gid: int) -> None:
    """Create the data folder and its subfolders for the user that containers run as.

    Raises HostError.
    """
    try:
        documents.mkdir(parents=True, exist_ok=True)
        for path in (data_dir, *(data_dir / name for name in FOLDERS)):
            made = not path.exists()
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if made and os.getuid() == 0:
                os.chown(path, uid, gid)
    except OSError as error:
        raise HostError(f"cannot create {error.filename}: {error.strerror}") from error


def recommended(settings: Settings, found: Recommendation) -> dict[str, str]:
    """The values of a recommendation; the model only if no collection was made with another one."""
    values = dict(found.limits)
    if not collections_of(settings) or settings.model == found.model.name:
        values["KB_MODEL"] = found.model.name
    return values


def collections_of(settings: Settings) -> list[str]:
    """Names of the collections in the ledger; empty if no ledger exists yet or it does not answer."""
    try:
        if not settings.database_url and not (settings.data_dir / "kb.db").exists():
            return []
        with Ledger.open(settings.ledger_url) as ledger:
            return [collection.name for collection in ledger.collections.all()]
    except (KbError, OSError):
        return []


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A model that does not fit."""

    model: str
    need_bytes: int
    have_bytes: int
    where: str  #: the owner of the memory
    raisable: bool  #: whether Docker Desktop's memory can be raised enough
    smaller: ModelCard | None  #: the best model that fits, if no collection would be affected

    def __str__(self) -> str:
        return f"{self.model} needs about {memory(self.need_bytes)}, {self.where} has {memory(self.have_bytes)}"


def shortfall(settings: Settings, engine: Engine | None, memory_bytes: int) -> Shortfall | None:
    """Check whether the configured model fits: next to the services into the engine's memory, or into the host's.

    A model that is not in the table, or one at KB_EMBED_URL, is assumed to fit.
    """
    card = card_of(settings.model)
    if card is None or settings.embed_url:
        return None
    have = engine.memory_bytes if engine else memory_bytes
    beside = SERVICES_BYTES if engine else 0
    if card.worker_bytes() + beside <= have:
        return None
    fitting = [] if collections_of(settings) else [one for one in MODELS if one.worker_bytes() + beside <= have]
    need = card.worker_bytes() + beside
    return Shortfall(
        model=card.name,
        need_bytes=need,
        have_bytes=have,
        where="Docker" if engine else "this host",
        raisable=engine is not None and engine.desktop and need <= memory_bytes * DESKTOP_SHARE,
        smaller=fitting[-1] if fitting else None,
    )


def choose_smaller(folder: Path, card: ModelCard) -> None:
    """Write another model to `.env`."""
    envfile.update(folder / ".env", {"KB_MODEL": card.name}, comment="the model that fits the memory")


def _group(name: str, default: int) -> str:
    """The id of a group of this host, because images do not know its name."""
    try:
        return str(grp.getgrnam(name).gr_gid)
    except KeyError:
        return str(default)
