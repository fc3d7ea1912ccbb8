"""Serves the metrics of the whole deployment to Prometheus, and its backlog to autoscalers.

One process, which reads its sources at each scrape.
"""

from __future__ import annotations

import json
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

from pipeline.errors import BrokerUnavailable, ConfigError, KbError, StagingUnavailable
from pipeline.ledger import Ledger
from pipeline.ledger.measures import QUARANTINES
from pipeline.settings import Settings
from pipeline.telemetry.counters import BOUNDS
from pipeline.types import Stage
from workers.broker.app import make_app
from workers.broker.queues import Broker
from workers.monitoring import metrics
from workers.monitoring.metrics import Counts, Readings
from workers.versions import versions

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

#: Max seconds that a scrape waits for all its sources; Prometheus itself gives up after 10.
WAIT_S = 6.0

#: Abandon a reader thread after LET_GO_S and start another, keeping at most LET_GO_MAX abandoned ones.
LET_GO_S, LET_GO_MAX = 60.0, 3

#: The same for counting documents, which takes long for very large collections.
COUNT_LET_GO_S = 1800.0

#: An answer stays fresh for FRESH_S or FRESH_TIMES its reading time, whichever is longer: reading takes up to 5 % of a process.
FRESH_S, FRESH_TIMES = 1.0, 20

T = TypeVar("T")


class Reading(Generic[T]):
    """The latest answer of a source. A thread reads it, because an unreachable source may take minutes to fail."""

    def __init__(self, name: str, ask: Callable[[], T], let_go_s: float = LET_GO_S) -> None:
        self._name = name  #: for people
        self._ask = ask
        self._let_go_s = let_go_s  #: also the max time an answer stays fresh, as the time of a hung read says little about its cost
        self._lock = threading.Lock()
        self._done: threading.Event | None = None  #: of the current reader thread
        self._asked_at = 0.0  #: monotonic; when the current reader started
        self._let_go: list[threading.Event] = []  #: of abandoned threads
        self._answer: T | None = None
        self._read_at = float("-inf")  #: monotonic
        self._good_s = 0.0

    def begin(self) -> threading.Event:
        """Start reading the source, unless its answer is fresh or being read; the event is set once it has answered or failed."""
        with self._lock:
            now = time.monotonic()
            if self._answer is not None and now - self._read_at < self._good_s:
                answered = threading.Event()
                answered.set()
                return answered
            if self._done is not None and now - self._asked_at >= self._let_go_s:
                self._let_go = [done for done in self._let_go if not done.is_set()]
                if len(self._let_go) < LET_GO_MAX:
                    log.warning("%s has not answered for %.0f s; asking it again", self._name, now - self._asked_at)
                    self._let_go.append(self._done)
                    self._done = None
            if self._done is None:
                self._done, self._asked_at = threading.Event(), now
                threading.Thread(target=self._read, args=(self._done,), name=self._name, daemon=True).start()
            return self._done

    def get(self, done: threading.Event, until: float | None, *, late: bool = False) -> T | None:
        """The result of `begin`; None if the source failed, or has not answered at `until`.

        `until` is monotonic; None waits as long as it takes. With `late`, an older answer is accepted.
        """
        in_time = done.wait(None if until is None else max(0.0, until - time.monotonic()))
        with self._lock:
            return self._answer if in_time or late else None

    def _read(self, done: threading.Event) -> None:
        began, answer = time.monotonic(), None
        try:
            answer = self._ask()
        except KbError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("cannot read %s", self._name)
        finally:
            with self._lock:
                now = time.monotonic()
                if self._done is done:  # otherwise this thread was abandoned, and its answer is outdated
                    self._answer, self._read_at, self._done = answer, now, None
                    self._good_s = min(max(FRESH_S, FRESH_TIMES * (now - began)), self._let_go_s)
            done.set()


class DeploymentCollector(Collector):
    """All metrics of a deployment.

    With `wait_s` None, it waits for every source. Otherwise it omits sources that have not answered by then.
    """

    def __init__(self, settings: Settings, wait_s: float | None = WAIT_S) -> None:
        self._settings = settings
        self._wait_s = wait_s
        self._ledger: Ledger | None = None
        self._opening = threading.Lock()
        self._broker = Broker(make_app(settings))
        self._figures = Reading("the ledger", self._read_figures)
        self._counts = Reading("the count of documents", self._read_counts, COUNT_LET_GO_S)
        self._depths = Reading("the broker", self._read_depths)
        self._disk = Reading("the disk of the data folder", self._read_disk)

    def close(self) -> None:
        """Close the ledger, without waiting for one that is being opened."""
        if self._ledger is not None:
            self._ledger.close()

    def backlog(self) -> dict[str, int] | None:
        """Documents that each stage has left to process, those in its workers included; None if the ledger does not answer.

        A count without those in work would stop the workers that hold the last ones.
        """
        figures = self._figures.get(self._figures.begin(), self._until())
        return None if figures is None else {str(one): figures.open[one.waiting] + figures.open[one.running] for one in Stage}

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; those of an unreachable source are omitted, and its `..._up` is 0."""
        until = self._until()
        asked, depths_asked, disk_asked = self._figures.begin(), self._depths.begin(), self._disk.begin()
        yield metrics.about(versions()["kb-ingest"])
        figures = self._figures.get(asked, until)
        yield metrics.up("ledger", figures is not None)
        if figures is not None:
            yield from metrics.measured(figures.measures)
            yield from metrics.work(figures)
            # Only now, so that an unreachable ledger is asked once. If counting takes longer, an older count is better than none.
            counts = self._counts.get(self._counts.begin(), until, late=True)
            if counts is not None:
                yield from metrics.documents(counts)
        depths = self._depths.get(depths_asked, until)
        yield metrics.up("broker", depths is not None)
        if depths is not None:
            yield metrics.queued(depths)
        disk = self._disk.get(disk_asked, until)
        if disk is not None:
            yield from metrics.disk(*disk)

    def _until(self) -> float | None:
        """The deadline of a scrape that begins now."""
        return None if self._wait_s is None else time.monotonic() + self._wait_s

    def _open(self) -> Ledger:
        """The ledger, opened once it answers."""
        if self._ledger is not None:
            return self._ledger
        # Not under the lock: a hung attempt to open must not block the next one.
        opened = Ledger.open(self._settings.ledger_url)
        with self._opening:
            if self._ledger is None:
                self._ledger = opened
        if self._ledger is not opened:
            opened.close()
        return self._ledger

    def _read_figures(self) -> Readings:
        ledger = self._open()
        # By name: other measures have a run as their label, and there are ever more of those.
        measures = ledger.measures.all(*BOUNDS, "indexed", "lease_expiries", QUARANTINES)
        outcomes = {tuple(key): number for key, number in ledger.runs.outcomes().items()}
        return Readings(
            measures=measures,
            workers=ledger.registry.workers(),
            pulse=ledger.life.pulse(),
            open=ledger.report.open(),
            outcomes=outcomes,
        )

    def _read_counts(self) -> Counts:
        ledger = self._open()
        return Counts(time.time(), ledger.report.held(), ledger.report.quarantined(), ledger.collections.all())

    def _read_depths(self) -> dict[str, int]:
        try:
            return {stage.value: self._broker.depth(stage) for stage in Stage}
        except OSError as error:  # the broker folder was removed
            raise BrokerUnavailable(f"the broker does not answer: {error}") from error

    def _read_disk(self) -> tuple[int, int]:
        """Free and total bytes."""
        try:
            usage = shutil.disk_usage(self._settings.data_dir)
        except OSError as error:
            raise StagingUnavailable(f"the disk of the data folder: {error}") from error
        return usage.free, usage.total


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The parent's method resolves this host's name, which may take long and is not used here.
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Request(WSGIRequestHandler):
    #: Seconds after which an idle connection is closed, so that it does not keep its thread.
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


def registry_of(collector: DeploymentCollector) -> CollectorRegistry:
    """A registry with only this collector."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry


def once(settings: Settings) -> str:
    """The current metrics as text, however long reading them takes."""
    with closing(DeploymentCollector(settings, None)) as collector:
        return generate_latest(registry_of(collector)).decode()


def serve(settings: Settings, address: str, port: int) -> None:
    """Answer `/metrics`, `/backlog` (JSON: documents left, by stage) and `/healthz` (200 while the ledger answers).

    Runs until interrupted. Raises ConfigError if the server cannot listen on the address.
    """
    collector = DeploymentCollector(settings)
    scraped = make_wsgi_app(registry_of(collector))

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return scraped(environ, start)  # type: ignore[no-any-return]
        kind = "text/plain; charset=utf-8"
        status, text = "404 Not Found", "see /metrics\n"
        if path in ("/backlog", "/healthz"):
            status, text = "503 Service Unavailable", "the ledger does not answer\n"
            if (backlog := collector.backlog()) is not None:
                status, text = "200 OK", "ok\n"
                if path == "/backlog":
                    kind, text = "application/json", json.dumps(backlog)
        start(status, [("Content-Type", kind), ("Content-Length", str(len(text)))])
        return [text.encode()]

    try:
        server = make_server(address, port, answer, _ServerV6 if ":" in address else _Server, _Request)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {address}:{port}: {error}") from error
    log.info("metrics on http://%s:%d/metrics", f"[{address}]" if ":" in address else address, server.server_port)
    with server, closing(collector):
        server.serve_forever()
