"""The metrics for Prometheus, made of figures from ledger, broker and disk.

Counters come from the ledger, so they continue when a worker, a host or the exporter restarts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from pipeline.ledger.generations import Collection
from pipeline.ledger.life import Pulse
from pipeline.ledger.measures import QUARANTINES
from pipeline.ledger.registry import WorkerRow
from pipeline.ledger.report import Grouped, Held
from pipeline.ledger.schema import LIVE, SUPERSEDED
from pipeline.telemetry.counters import BOUNDS, COUNT, SUM, UNBOUNDED, Key
from pipeline.types import RUN, SCHEDULE, DocumentState, Reason, Stage

#: Actions and outcomes of runs. All series exist from the start: one that appeared with its first run would show no increase.
ACTIONS, OUTCOMES = ("load", "sync", "delete", "verify", "reindex"), ("done", "partly", "refused", "failed", "interrupted")

#: A metric's values by label values.
Samples = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Readings:
    """Figures that the ledger gives at little cost, however many documents it holds."""

    measures: Mapping[Key, float]
    workers: list[WorkerRow]
    pulse: Pulse
    open: Mapping[str, int]  #: documents by state
    outcomes: Samples  #: runs by action and outcome


@dataclass(frozen=True, slots=True)
class Counts:
    """Figures for which the ledger reads every document."""

    at: float  #: seconds since the epoch
    held: list[Held]
    quarantined: list[Grouped]
    generations: list[Collection]


def about(version: str) -> Metric:
    """The version of kb-ingest."""
    return _gauge("build_info", "Version of kb-ingest; always 1.", ["version"], {(version,): 1})


def up(part: str, answers: bool) -> Metric:
    """Whether the ledger or the broker answers."""
    return _gauge(f"{part}_up", f"Whether the {part} answers.", [], {(): float(answers)})


def queued(depths: Mapping[str, int]) -> Metric:
    """Messages by queue."""
    text = "Messages in a queue that no worker has fetched; each is for several documents."
    return _gauge("queue_messages", text, ["queue"], {(queue,): depth for queue, depth in depths.items()})


def disk(free: int, size: int) -> Iterator[Metric]:
    """The data folder's disk, in bytes."""
    yield _gauge("data_disk_free_bytes", "Free space on the disk of the data folder.", [], {(): free})
    yield _gauge("data_disk_size_bytes", "Size of the disk of the data folder.", [], {(): size})


def measured(measures: Mapping[Key, float]) -> Iterator[Metric]:
    """The counters and histograms of the workers."""
    for label, text in (
        ("documents", "Documents that became searchable, new versions included."),
        ("chunks", "Chunks of these documents."),
        ("tokens", "Tokens of these documents' chunks."),
        ("bytes", "Bytes of these documents' files."),
    ):
        yield _counter(f"indexed_{label}", text, [], {(): measures.get(("indexed", label, COUNT), 0)})
    embedded = measures.get(("indexed", "embedded", COUNT), 0)
    yield _counter("embedded_chunks", "Chunks that were embedded; the other chunks already had vectors.", [], {(): embedded})
    expiries: Samples = {(stage,): measures.get(("lease_expiries", stage, COUNT), 0) for stage in (*map(str, Stage), SCHEDULE, RUN)}
    expiries_text = "Leases taken back from workers that died, hung or stopped without returning their documents."
    yield _counter("lease_expiries", expiries_text, ["stage"], expiries)
    quarantines: Samples = {(str(reason),): measures.get((QUARANTINES, str(reason), COUNT), 0) for reason in Reason}
    yield _counter("quarantines", "Documents that were quarantined, counted each time.", ["reason"], quarantines)
    stages = tuple(map(str, Stage))
    yield _histogram(measures, "wait_seconds", "Time a document waits until a worker of the stage takes it.", stages)
    yield _histogram(measures, "stage_seconds", "A document's share of a stage's work.", stages)
    yield _histogram(measures, "upsert_seconds", "One write of points to the store.")
    yield _histogram(measures, "batch_fill", "Tokens of a model call, as a share of the token budget.", name="batch_fill_ratio")


def work(figures: Readings) -> Iterator[Metric]:
    """Queues, workers and runs."""
    roles = [worker.role for worker in figures.workers]
    waiting: Samples = {(stage.value,): figures.open[stage.waiting] for stage in Stage}
    yield _gauge("queue_documents", "Documents that wait for a stage, including those in messages.", ["queue"], waiting)
    serving: Samples = {(stage.value,): roles.count(stage.value) for stage in Stage}
    yield _gauge("queue_workers", "Workers that serve a queue, seen in the last 30 s.", ["queue"], serving)
    yield _gauge("open_documents", "Documents left to process.", [], {(): sum(figures.open.values())})
    moved_at = max(figures.pulse.event_at or 0.0, figures.pulse.beat_at or 0.0)
    yield _gauge(
        "last_progress_timestamp_seconds", "Time of the last progress of a document or a worker; 0: never.", [], {(): moved_at}
    )
    labels = ["worker", "role", "device"]
    # The device of a worker with a model server is the server's URL, which does not belong into metrics.
    rows = {(worker.name, worker.role, "http" if "://" in worker.device else worker.device): worker for worker in figures.workers}
    busy: Samples = {label: worker.busy_s for label, worker in rows.items()}
    yield _counter("worker_busy_seconds", "Busy time of all processes of a worker.", labels, busy)
    processes: Samples = {label: worker.processes for label, worker in rows.items()}
    yield _gauge("worker_processes", "Processes of a worker that work at the same time.", labels, processes)
    # Unknown, not 0 bytes, for a worker that is starting and for one that never works on documents.
    memory: Samples = {label: worker.memory_bytes for label, worker in rows.items() if worker.memory_bytes}
    yield _gauge(
        "worker_memory_bytes", "Memory used on the device if it has its own, otherwise memory of one process.", labels, memory
    )
    trouble: Samples = {(worker.name, worker.role): bool(worker.complaint) for worker in figures.workers}
    yield _gauge("worker_trouble", "Whether something keeps a worker from working.", ["worker", "role"], trouble)
    outcomes = {(action, outcome): 0.0 for action in ACTIONS for outcome in OUTCOMES} | dict(figures.outcomes)
    yield _counter("runs", "Runs that have ended.", ["action", "outcome"], outcomes)


def documents(counts: Counts) -> Iterator[Metric]:
    """Contents by collection; a generation being built has its own name, and replaced ones are omitted."""
    left_out = {one.name for one in counts.generations if one.state == SUPERSEDED}
    names = {one.name: one.public for one in counts.generations if one.state == LIVE}
    held = [one for one in counts.held if one.generation not in left_out]
    every = {names.get(name, name) for name in ({one.generation for one in held} | set(names))}
    by_state: dict[tuple[str, ...], float] = {(name, str(state)): 0 for name in sorted(every) for state in DocumentState}
    chunks: dict[tuple[str, ...], float] = {(name,): 0 for name in sorted(every)}
    tokens, size = chunks.copy(), chunks.copy()
    for one in held:
        name = names.get(one.generation, one.generation)
        by_state[name, one.state] = one.documents
        if one.state == DocumentState.INDEXED:
            chunks[name,], tokens[name,], size[name,] = one.chunks, one.tokens, one.bytes
    yield _gauge("documents", "Documents by collection and state.", ["collection", "state"], by_state)
    yield _gauge("collection_chunks", "Chunks of a collection's indexed documents.", ["collection"], chunks)
    yield _gauge("collection_tokens", "Tokens of these chunks.", ["collection"], tokens)
    yield _gauge("collection_bytes", "Bytes of the indexed documents' files.", ["collection"], size)
    # All reasons exist from the start: one that appeared with its first document would show no increase.
    reasons: dict[tuple[str, ...], float] = {(str(reason),): 0 for reason in Reason}
    for group in counts.quarantined:
        reasons[group.reason,] = reasons.get((group.reason,), 0) + group.documents
    yield _gauge("quarantined_documents", "Quarantined documents by reason; a retry lowers it.", ["reason"], reasons)
    yield _gauge("documents_counted_timestamp_seconds", "Time of the last count of documents.", [], {(): counts.at})


def _gauge(name: str, text: str, labels: list[str], values: Samples) -> Metric:
    family = GaugeMetricFamily(f"kb_ingest_{name}", text, labels=labels)
    for label, value in values.items():
        family.add_metric(label, value)
    return family


def _counter(name: str, text: str, labels: list[str], values: Samples) -> Metric:
    family = CounterMetricFamily(f"kb_ingest_{name}", text, labels=labels)
    for label, value in values.items():
        family.add_metric(label, value)
    return family


def _histogram(measures: Mapping[Key, float], metric: str, text: str, stages: tuple[str, ...] = (), name: str = "") -> Metric:
    family = HistogramMetricFamily(f"kb_ingest_{name or metric}", text, labels=["stage"] if stages else [])
    for label in stages or ("",):
        total, buckets = 0.0, []
        # The ledger counts each bucket separately; Prometheus expects cumulative counts.
        for bound in (*BOUNDS[metric], inf):
            total += measures.get((metric, label, f"{bound:g}" if bound < inf else UNBOUNDED), 0)
            buckets.append((str(bound) if bound < inf else UNBOUNDED, total))
        family.add_metric([label] if stages else [], buckets, measures.get((metric, label, SUM), 0))
    return family
