"""Tells other programs that runs have ended: signed HTTP requests as the Standard Webhooks specification describes them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import random
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.errors import ConfigError, KbError
from pipeline.ledger import Ledger
from pipeline.ledger.outbox import KEPT_S, Delivery
from pipeline.settings import Settings
from pipeline.text import utc
from pipeline.urls import is_loopback, mask_url

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

#: Seconds that a receiver has for its answer.
TIMEOUT_S = 10.0

#: Seconds between two looks for ended runs.
LOOK_EVERY_S = 2.0

#: Max seconds that the end of a command waits for a delivery; what is left is sent by the next command or service.
LAST_S = 5.0

#: Seconds between two looks at the end.
LAST_LOOK_S = 0.1

#: Seconds before each further try; the last one repeats until a day has passed. Each varies at random by up to a fifth.
PAUSES_S = (1.0, 5.0, 30.0, 120.0, 600.0, 3600.0)

#: Quarantined documents that are named.
NAMED = 10

#: Fields of a run that are reported as they are.
COUNTS = ("discovered", "unchanged", "added", "changed", "deleted", "indexed", "quarantined", "chunks", "embedded", "bytes")

#: Answer of a receiver that wants nothing any more.
GONE = 410


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where notifications go."""

    url: str
    key: bytes  #: of the signatures

    @property
    def name(self) -> str:
        """Names it in the ledger without its URL, whose path may be a secret."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def shown(self) -> str:
        """Its host, for people."""
        return mask_url(self.url).partition("://")[2].partition("/")[0]


def receivers(settings: Settings) -> list[Receiver]:
    """The receivers of KB_WEBHOOK_URL. Raises ConfigError for a URL that must not be used, or without KB_WEBHOOK_SECRET."""
    urls = [one for part in settings.webhook_url.get_secret_value().split(",") if (one := part.strip())]
    if not urls:
        return []
    for url in urls:
        _check(url, insecure=settings.allow_insecure)
    key = _key(settings.webhook_secret.get_secret_value())
    return [Receiver(url, key) for url in dict.fromkeys(urls)]


def _check(url: str, *, insecure: bool) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"KB_WEBHOOK_URL contains an address that cannot be read: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError("KB_WEBHOOK_URL takes addresses that begin with https://, separated by commas")
    if parts.scheme == "http" and not insecure and not is_loopback(host):
        raise ConfigError(f"KB_WEBHOOK_URL: use https for {host}, or set KB_ALLOW_INSECURE=true")


def _key(secret: str) -> bytes:
    if not secret:
        raise ConfigError("KB_WEBHOOK_URL needs KB_WEBHOOK_SECRET, with which receivers check the signature")
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ConfigError("KB_WEBHOOK_SECRET: what follows whsec_ is not base64") from error


def post(client: httpx.Client, receiver: Receiver, name: str, body: dict[str, Any], timeout_s: float = TIMEOUT_S) -> int:
    """Send one notification; return the HTTP status. Raises httpx.HTTPError, httpx.InvalidURL."""
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    at = str(int(time.time()))
    digest = hmac.new(receiver.key, b".".join((name.encode(), at.encode(), content)), hashlib.sha256).digest()
    headers = {
        "Content-Type": "application/json", "User-Agent": "kb-ingest", "webhook-id": name, "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }  # fmt: skip
    # Of the answer only the status matters; a body without an end must not be read.
    with client.stream("POST", receiver.url, content=content, headers=headers, timeout=timeout_s) as answer:
        return answer.status_code


def sample() -> dict[str, Any]:
    """What `kb-ingest webhook test` sends."""
    return {"type": "test", "timestamp": utc(time.time()), "data": {"message": "kb-ingest can reach this receiver"}}


def ended(ledger: Ledger, number: int) -> dict[str, Any] | None:
    """The notification of an ended run; None if the ledger has forgotten it. It has no text of documents."""
    run = ledger.runs.get(number)
    if run is None or run.finished_at is None:
        return None
    named = ledger.report.failures(number, limit=NAMED) if run.quarantined else []
    counts = {name: getattr(run, name) for name in COUNTS}
    data = {
        "run": run.id, "action": run.action, "outcome": run.outcome, "detail": run.detail, "collection": run.collection,
        "source": run.source, "schedule": run.schedule, "started_at": utc(run.started_at),
        "seconds": round(run.finished_at - run.started_at, 3), **counts,
        "quarantined_documents": [{"uri": one.uri, "reason": one.reason} for one in named],
    }  # fmt: skip
    return {"type": "run.ended", "timestamp": utc(run.finished_at), "data": data}


class Sending:
    """Delivers notifications in the background of a process; a context manager whose end waits LAST_S at most.

    Without receivers it does nothing. Raises ConfigError as `receivers` does.
    """

    def __init__(self, settings: Settings) -> None:
        self._receivers = {one.name: one for one in receivers(settings)}
        self._ledger_url = settings.ledger_url
        self._ending = threading.Event()
        self._deadline = float("inf")
        self._ready = threading.Event()
        self._done = False
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def __enter__(self) -> Sending:
        if self._receivers:
            self._thread.start()
            self._ready.wait(LAST_S)  # a run that ends from now on is noticed
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._thread.is_alive():
            self._deadline = time.monotonic() + LAST_S
            self._ending.set()
            self._thread.join(LAST_S)  # a daemon: a receiver that hangs does not hold up the process

    def _run(self) -> None:
        import httpx  # not for every command

        with httpx.Client(follow_redirects=False) as client:
            while not self._done:
                try:
                    with Ledger.open(self._ledger_url) as ledger:
                        while not self._done:
                            self._look(ledger, client)
                except KbError as error:
                    log.warning("notifications wait: %s", error)
                    self._done = self._ending.wait(LOOK_EVERY_S)

    def _look(self, ledger: Ledger, client: httpx.Client) -> None:
        """Deliver what is due, then wait; at the end only for tries that are due before the deadline."""
        is_last = self._ending.is_set()  # asked first: what has ended before is in the ledger
        ledger.outbox.fill(list(self._receivers))
        self._ready.set()
        self._deliver(ledger, client)
        if is_last:
            left_s = self._deadline - time.monotonic()
            self._done = left_s <= 0 or not any(one.target in self._receivers for one in ledger.outbox.due(within_s=left_s))
            time.sleep(0 if self._done else LAST_LOOK_S)
        else:
            self._ending.wait(LOOK_EVERY_S)

    def _deliver(self, ledger: Ledger, client: httpx.Client) -> None:
        for delivery in ledger.outbox.due():
            receiver = self._receivers.get(delivery.target)
            if receiver is None or time.monotonic() >= self._deadline:
                continue
            claimed = ledger.outbox.claim(delivery, 2 * TIMEOUT_S)
            if claimed is not None:
                self._try(ledger, client, receiver, claimed)

    def _try(self, ledger: Ledger, client: httpx.Client, receiver: Receiver, claimed: Delivery) -> None:
        import httpx

        body = ended(ledger, claimed.run)
        if body is None:
            ledger.outbox.settle(claimed, outcome="given up")
            return
        name = f"run-{claimed.run}-{int(claimed.ended_at * 1000):x}"
        try:
            left_s = max(0.1, min(TIMEOUT_S, self._deadline - time.monotonic()))
            status = post(client, receiver, name, body, left_s)
            why = "" if 200 <= status < 300 else f"status {status}"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            status, why = 0, type(error).__name__
        if not why:
            ledger.outbox.settle(claimed, outcome="delivered")
            return
        pause_s = PAUSES_S[min(claimed.tries, len(PAUSES_S)) - 1] * random.uniform(0.8, 1.2)
        if status == GONE or time.time() + pause_s > claimed.ended_at + KEPT_S:
            log.warning("run %d was not reported to %s (%s): given up", claimed.run, receiver.shown, why)
            ledger.outbox.settle(claimed, outcome="given up")
            return
        log.warning("run %d was not reported to %s (%s); next try in %.0f s", claimed.run, receiver.shown, why, pause_s)
        ledger.outbox.settle(claimed, again_s=pause_s)
