"""`kb-ingest serve`: listens, tells this host's commands where, and stops gracefully."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import APIRouter

from pipeline.errors import ConfigError
from pipeline.files.errors import translating
from pipeline.files.replace import replace_file
from pipeline.settings import Settings
from pipeline.urls import is_loopback, mask_url
from workers.api import ANNOUNCEMENT
from workers.api.app import make_app
from workers.api.engine import Engine
from workers.jobs.webhooks import Sending
from workers.process.forking import Companion

log = logging.getLogger(__name__)

#: Seconds that running requests get when the service is stopped.
STOP_S = 20


def serve(settings: Settings, more: Sequence[APIRouter] = (), model: Companion | None = None) -> None:
    """Serve until interrupted, with `more` endpoints than those of this package; questions are embedded in the process `model`.

    Raises ConfigError if it cannot listen, or if others could reach it without a token.
    """
    with Sending(settings), closing(Engine(settings, model)) as engine:
        if not (is_loopback(settings.host) or settings.api_key.get_secret_value() or engine.ledger.tokens.any()):
            raise ConfigError(
                f"KB_HOST {settings.host} is not loopback, and there is no token: everybody who reaches it could read and load. "
                "Make one with `kb-ingest token add NAME`, or leave KB_HOST out"
            )
        local_key = secrets.token_urlsafe(32)
        with closing(_listen(settings.host, settings.port)) as listener, _announced(settings, listener, local_key):
            engine.keeper.start()
            threading.Thread(target=engine.warm, name="warm-up", daemon=True).start()
            stopping = asyncio.Event()
            config = uvicorn.Config(
                make_app(engine, local_key, stopping, more),
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=STOP_S,
                lifespan="off",
                ws="none",
                proxy_headers=False,
            )
            log.info("serving on %s", url_of(settings.host, listener.getsockname()[1]))
            _Server(config, stopping).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Tells waiting requests when it is stopped."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal stops gracefully, the second at once."""
        self._stopping.set()
        super().handle_exit(sig, frame)


def url_of(host: str, port: int) -> str:
    """The address for people and commands; an address that means all of this host's is named by loopback."""
    named = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"http://[{named}]:{port}" if ":" in named else f"http://{named}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(512)
        except BaseException:
            listener.close()
            raise
        return listener
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}; set KB_HOST and KB_PORT") from error


@contextmanager
def _announced(settings: Settings, listener: socket.socket, local_key: str) -> Iterator[None]:
    """Say in the data folder where the service is; only this user can read it."""
    path = settings.data_dir / ANNOUNCEMENT
    said = {
        "url": url_of(settings.host, listener.getsockname()[1]),
        "pid": os.getpid(),
        "key": local_key,
        "store": mask_url(settings.qdrant_url),
    }
    with translating(path):
        replace_file(path, json.dumps(said).encode(), mode=0o600)
    try:
        yield
    finally:
        with suppress(OSError):
            if _said(path) == said:  # and not another service's
                path.unlink()


def _said(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None
