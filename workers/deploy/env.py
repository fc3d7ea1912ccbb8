"""What `kb-ingest init` and `assess --write` put into `.env`, and whether a start fits the memory that there is."""

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

#: Folders of the data folder that containers write to; they must be there, as Docker would make them for root.
FOLDERS = ("staging", "hf_cache", "redis", "qdrant-server", "flower", "prometheus", "grafana")

#: Whom containers run as where whoever sets them up is root.
DEFAULT_ID = 1000

#: What services, parsers and command take beside the embed worker, so that a start is not refused for the limits' sake.
SERVICES_BYTES = 2 << 30

#: Share of the host's memory that Docker Desktop's machine may take; the host wants the rest.
DESKTOP_SHARE = 0.75

#: What is asked for beyond the need: the machine keeps some of its memory for itself.
DESKTOP_SPARE_BYTES = 1 << 30


def initial(env: Mapping[str, str], folder: Path, *, native: bool, data_dir: Path | None) -> dict[str, str]:
    """Values that a deployment in `folder` needs and `env` does not have; secrets are made anew each time they are missing."""
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
        # For commands and workers on this host; containers have addresses of their own.
        "KB_REDIS_URL": f"redis://:{password}@127.0.0.1:{env.get('KB_REDIS_PORT', '6379')}/0",
        "KB_QDRANT_URL": f"http://127.0.0.1:{env.get('KB_QDRANT_PORT', '6333')}",
    }
    return {name: value for name, value in wanted.items() if not env.get(name)}


def make_folders(data_dir: Path, documents: Path, uid: int, gid: int) -> None:
    """Make the data folder and its parts for the user whom containers run as.

    Raises HostError.
    """
    try:
        documents.mkdir(parents=True, exist_ok=True)
        for path in (data_dir, *(data_dir / name for name in FOLDERS)):
            made = not path.exists()
            path.mkdir(parents=True, exist_ok=True, mode=0o750)
            if made and os.getuid() == 0:
                os.chown(path, uid, gid)
    except OSError as error:
        raise HostError(f"cannot make {error.filename}: {error.strerror}") from error


def recommended(settings: Settings, found: Recommendation) -> dict[str, str]:
    """The values of a recommendation; the model only where no collection was made with another one."""
    values = dict(found.limits)
    if not collections_of(settings) or settings.model == found.model.name:
        values["KB_MODEL"] = found.model.name
    return values


def collections_of(settings: Settings) -> list[str]:
    """Names of the collections in the ledger; empty where there is no ledger yet or it does not answer."""
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
    where: str  #: whose memory it is
    raisable: bool  #: Docker Desktop's: it can be given more
    smaller: ModelCard | None  #: the best model that would fit, where changing it harms no collection

    def __str__(self) -> str:
        need, have = self.need_bytes / (1 << 30), self.have_bytes / (1 << 30)
        return f"{self.model} needs about {need:.1f} GB, {self.where} has {have:.1f} GB"


def shortfall(settings: Settings, engine: Engine | None, memory_bytes: int) -> Shortfall | None:
    """Whether the configured model fits: with an engine into its memory beside the services, else into the host's.

    A model that is not in the table, and one behind KB_EMBED_URL, is taken to fit.
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
    """Put another model into `.env`."""
    envfile.update(folder / ".env", {"KB_MODEL": card.name}, comment="the model that fits the memory")


def _group(name: str, default: int) -> str:
    """The number of a group of this host: images do not know its name."""
    try:
        return str(grp.getgrnam(name).gr_gid)
    except KeyError:
        return str(default)
