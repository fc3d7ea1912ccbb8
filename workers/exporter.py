"""Serves the metrics of the whole deployment to Prometheus: one process, which looks when it is asked."""

from __future__ import annotations

import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Metric, generate_latest, make_wsgi_app
from prometheus_client.registry import Collector

from pipeline.errors import BrokerUnavailable, ConfigError, KbError
from pipeline.ledger import Ledger
from pipeline.ledger.flow import Stage
from pipeline.measure import BOUNDS
from pipeline.settings import Settings
from workers import metrics
from workers.app import make_app
from workers.broker import Broker
from workers.metrics import Counts, Figures
from workers.versions import versions

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

#: Seconds that a scrape waits for each of its three sources; Prometheus itself gives up after 10.
WAIT_S = 3.0

#: What was read is good for so long, and for so many times what it took to read: metrics never take more than 5 % of a process.
FRESH_S, FRESH_TIMES = 1.0, 20

T = TypeVar("T")


class Reading(Generic[T]):
    """What a source answered last; it is asked by a thread, because one that is away may take minutes to say so."""

    def __init__(self, ask: Callable[[], T], wait_s: float | None = WAIT_S) -> None:
        self._ask = ask
        self._wait_s = wait_s  #: None: as long as it takes
        self._lock = threading.Lock()
        self._done: threading.Event | None = None  #: of the thread that asks now
        self._answer: T | None = None
        self._read_at = float("-inf")  #: monotonic
        self._good_s = 0.0

    def get(self, *, late: bool = False) -> T | None:
        """The answer; None where the source failed, or takes too long, unless with `late` an older answer will do."""
        with self._lock:
            if self._answer is not None and time.monotonic() - self._read_at < self._good_s:
                return self._answer
            if self._done is None:
                self._done = threading.Event()
                threading.Thread(target=self._read, args=(self._done,), daemon=True).start()
            done = self._done
        in_time = done.wait(self._wait_s)
        with self._lock:
            return self._answer if in_time or late else None

    def _read(self, done: threading.Event) -> None:
        began, answer = time.monotonic(), None
        try:
            answer = self._ask()
        except KbError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("metrics could not be read")
        finally:
            with self._lock:
                now = time.monotonic()
                self._answer, self._read_at, self._done = answer, now, None
                self._good_s = max(FRESH_S, FRESH_TIMES * (now - began))
            done.set()


class DeploymentCollector(Collector):
    """All metrics of a deployment.

    With `wait_s` None it waits for every source; else one that takes longer is left out of the answer.
    """

    def __init__(self, settings: Settings, wait_s: float | None = WAIT_S) -> None:
        self._settings = settings
        self._ledger: Ledger | None = None
        self._opening = threading.Lock()
        self._broker = Broker(make_app(settings))
        self._figures = Reading(self._read_figures, wait_s)
        self._counts = Reading(self._read_counts, wait_s)
        self._depths = Reading(self._read_depths, wait_s)

    def close(self) -> None:
        """Close the ledger; one that is being opened right now is not waited for."""
        if self._ledger is not None:
            self._ledger.close()

    def ledger_answers(self) -> bool:
        """Whether the ledger has answered just now."""
        return self._figures.get() is not None

    def collect(self) -> Iterator[Metric]:
        """Metrics by and by; those of a source that is away are left out, and `..._up` says so."""
        yield metrics.about(versions()["kb-ingest"])
        figures = self._figures.get()
        yield metrics.up("ledger", figures is not None)
        if figures is not None:
            yield from metrics.measured(figures.measures)
            yield from metrics.work(figures)
            # An older count is better than none where counting takes longer than a scrape may.
            counts = self._counts.get(late=True)
            if counts is not None:
                yield from metrics.documents(counts)
        depths = self._depths.get()
        yield metrics.up("broker", depths is not None)
        if depths is not None:
            yield metrics.queued(depths)
        try:
            usage = shutil.disk_usage(self._settings.data_dir)
        except OSError as error:
            log.warning("the disk of the data folder: %s", error)
        else:
            yield from metrics.disk(usage.free, usage.total)

    def _open(self) -> Ledger:
        """The ledger, opened once it answers."""
        with self._opening:
            if self._ledger is None:
                self._ledger = Ledger.open(self._settings.ledger_url)
            return self._ledger

    def _read_figures(self) -> Figures:
        ledger = self._open()
        # By name: other measures have a run as their label, and there are ever more of those.
        measures = ledger.measures.all(*BOUNDS, "indexed", "lease_expiries")
        outcomes = {tuple(key): number for key, number in ledger.report.outcomes().items()}
        return Figures(measures, ledger.report.workers(), ledger.life.pulse(), ledger.report.open(), outcomes)

    def _read_counts(self) -> Counts:
        ledger = self._open()
        return Counts(time.time(), ledger.report.held(), ledger.report.quarantined(), ledger.collections.all())

    def _read_depths(self) -> dict[str, int]:
        try:
            return {stage.value: self._broker.depth(stage) for stage in Stage}
        except OSError as error:  # the folder's, as somebody takes it away
            raise BrokerUnavailable(f"the broker does not answer: {error}") from error


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The parent's asks the resolver for the name of this host, which may take long and is used for nothing here.
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Request(WSGIRequestHandler):
    #: Whoever connects and says nothing keeps a thread for no longer.
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


def registry_of(collector: DeploymentCollector) -> CollectorRegistry:
    """A registry of nothing else."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry


def once(settings: Settings) -> str:
    """The metrics now, as text; however long that takes."""
    with closing(DeploymentCollector(settings, None)) as collector:
        return generate_latest(registry_of(collector)).decode()


def serve(settings: Settings, address: str, port: int) -> None:
    """Answer `/metrics`, and `/healthz` (200 while the ledger answers), until interrupted.

    Raises ConfigError for an address that cannot be listened on.
    """
    collector = DeploymentCollector(settings)
    scraped = make_wsgi_app(registry_of(collector))

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return scraped(environ, start)  # type: ignore[no-any-return]
        healthy = path == "/healthz" and collector.ledger_answers()
        status, text = ("200 OK", b"ok\n") if healthy else ("404 Not Found", b"see /metrics\n")
        if path == "/healthz" and not healthy:
            status, text = "503 Service Unavailable", b"the ledger does not answer\n"
        start(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))])
        return [text]

    try:
        server = make_server(address, port, answer, _ServerV6 if ":" in address else _Server, _Request)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {address}:{port}: {error}") from error
    log.info("metrics on http://%s:%d/metrics", address, server.server_port)
    with server, closing(collector):
        server.serve_forever()
